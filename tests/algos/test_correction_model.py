"""The model that rewrites: its two maps, its fit by gradient and by counting, what it rewards."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from rlhf_jax.algos.correction_model import (
    correction_maps,
    fit_correction_table,
    make_objective,
    make_token_rewards,
    make_update,
    only_identity,
)
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.ops.corrections import seq2seq_token_rewards
from rlhf_jax.policies.tabular import tabular_policy, tabular_rewriting
from rlhf_jax.types import PreferenceBatch, Trajectory

S, A = 4, 3
REWRITE = tabular_rewriting(A)
POLICY = tabular_policy(S * A, A)
fit = partial(fit_correction_table, rewrite=REWRITE, num_states=S, num_actions=A)


def answers(states, actions, mask=None):
    states, actions = jnp.asarray(states), jnp.asarray(actions)
    mask = jnp.ones(actions.shape, bool) if mask is None else jnp.asarray(mask)
    return Trajectory(states, actions, mask)


def drawn(rows=400, seed=0):
    """Answers of 1 to 3 tokens with weights; every action occurs after every reading."""
    rng = np.random.default_rng(seed)
    states = rng.integers(0, S, (rows, 3))
    masks = np.arange(3) < rng.integers(1, 4, (2, rows, 1))
    chosen, rejected = (answers(states, rng.integers(0, A, (rows, 3)), mask) for mask in masks)
    return PreferenceBatch(chosen, rejected, weights=jnp.asarray(rng.uniform(0.5, 2.0, rows)))


def test_both_maps_write_the_chosen_answer():
    pairs = PreferenceBatch(answers([[0, 3]], [[1, 2]]), answers([[0, 3]], [[2, 0]]))
    maps = correction_maps(pairs, REWRITE)
    # s A + u: 0 + 2 and 9 + 0 after the rejected answer, 0 + 1 and 9 + 2 after the chosen one.
    np.testing.assert_array_equal(maps.inputs, [[[2, 9], [1, 11]]])
    np.testing.assert_array_equal(maps.actions, [[[1, 2], [1, 2]]])
    np.testing.assert_array_equal(maps.mask, True)
    outside = REWRITE(answers([[0, 3]], [[-1, A]]), pairs.chosen)
    np.testing.assert_array_equal(outside.inputs, -1)


def test_golden_table():
    """One state, two actions; pairs (chosen 1, rejected 0) and (chosen 0, rejected 1)."""
    pairs = PreferenceBatch(answers([[0], [0]], [[1], [0]]), answers([[0], [0]], [[0], [1]]))
    table = partial(fit_correction_table, pairs, tabular_rewriting(2), num_states=1, num_actions=2)
    # Read 0: identity of the second pair writes 0, correction of the first writes 1.
    np.testing.assert_allclose(jnp.exp(table(identity_weight=2.0)), [[2, 1], [1, 2]], rtol=1e-6)
    # The back-off adds 1 * (2 + 1) to each.
    backed = jnp.exp(table(identity_weight=2.0, backoff=1.0))
    np.testing.assert_allclose(backed, [[5, 4], [4, 5]], rtol=1e-6)
    unseen = fit_correction_table(
        replace(pairs, weights=jnp.zeros(2)), tabular_rewriting(2), num_states=1, num_actions=2
    )
    np.testing.assert_array_equal(unseen, 0.0)  # uniform


def test_the_loss_is_the_sum_of_both_maps_per_token():
    pairs, params = drawn(), jnp.asarray(np.random.default_rng(1).standard_normal((S * A, A)))
    plain = replace(pairs, weights=None)
    loss, parts = make_objective(POLICY, REWRITE)(params, plain)
    logps = np.log(np.asarray(jax.nn.softmax(params)))
    sums = {}
    for name, read in (("correction", pairs.rejected), ("identity", pairs.chosen)):
        rows = np.asarray(pairs.chosen.inputs * A + read.actions)
        each = logps[rows, np.asarray(pairs.chosen.actions)]
        sums[name] = -each[np.asarray(pairs.chosen.mask)].sum()
    count = int(pairs.chosen.mask.sum())
    expected = (sums["correction"] + sums["identity"]) / (2 * count)
    np.testing.assert_allclose(loss.value(), expected, rtol=1e-5)
    for name, total in sums.items():
        np.testing.assert_allclose(parts[f"loss/{name}"].value(), total / count, rtol=1e-5)
    # L_C alone.
    alone, _ = make_objective(POLICY, REWRITE, identity_weight=0.0)(params, plain)
    np.testing.assert_allclose(alone.value(), sums["correction"] / count, rtol=1e-5)


@pytest.mark.long
def test_counting_is_the_minimum_of_the_loss():
    with jax.enable_x64(True):
        pairs = drawn()
        table = jnp.asarray(fit(pairs, identity_weight=0.5), float)
        assert jnp.isfinite(table).all()
        objective = make_objective(POLICY, REWRITE, identity_weight=0.5)
        slope = jax.grad(lambda params: objective(params, pairs)[0].value())(table)
        np.testing.assert_allclose(slope, 0.0, atol=1e-6)


@pytest.mark.long
def test_gradients_are_those_of_finite_differences():
    pairs, params = drawn(rows=6), np.random.default_rng(2).standard_normal((S * A, A))
    objective = make_objective(POLICY, REWRITE, identity_weight=0.3)
    given = (jnp.asarray(params, jnp.float32),)
    # Log-probs are float32.
    check_grads(
        lambda p: objective(p, pairs)[0].value(), given, order=1, eps=1e-2, atol=2e-3, rtol=2e-2
    )


def test_padding_order_and_leading_axes_change_nothing():
    pairs, params = drawn(rows=12), jnp.asarray(np.random.default_rng(3).standard_normal((12, A)))
    objective = jax.jit(make_objective(POLICY, REWRITE))

    def padded(x):
        actions = (
            jnp.pad(each, ((0, 0), (0, 2)), constant_values=1) for each in (x.inputs, x.actions)
        )
        return Trajectory(*actions, jnp.pad(x.mask, ((0, 0), (0, 2))))

    longer = replace(pairs, chosen=padded(pairs.chosen), rejected=padded(pairs.rejected))
    turned = jax.tree.map(lambda x: x[::-1], pairs)
    folded = jax.tree.map(lambda x: x.reshape(3, 4, *x.shape[1:]), pairs)
    expected = objective(params, pairs)[0].value()
    for other in (longer, turned, folded):
        np.testing.assert_allclose(objective(params, other)[0].value(), expected, rtol=1e-5)


def test_updates_come_near_the_table_in_micro_batches_too():
    pairs = drawn()
    optimizer = optax.adam(0.1)
    update = make_update(POLICY, REWRITE, optimizer, parts=2)
    state = init_state(jnp.zeros((S * A, A)), optimizer)
    state, metrics = jax.lax.scan(lambda s, _: update(s, pairs), state, length=150)
    least = make_objective(POLICY, REWRITE)(fit(pairs), pairs)[0].value()
    assert set(metrics) == {"loss", "grad_norm", "loss/correction", "loss/identity"}
    assert metrics["loss"].value()[0] > least + 0.1
    np.testing.assert_allclose(metrics["loss"].value()[-1], least, atol=0.01)


def test_a_copy_is_paid_everywhere_and_a_model_that_ignores_its_input_imitates():
    pairs = drawn()
    sampled = answers([[0, 1, 2], [3, 2, 1]], [[0, 1, 2], [2, 0, 1]])
    copies = 20.0 * jnp.tile(jnp.eye(A), (S, 1))  # overtrained on the identity alone
    paid = make_token_rewards(POLICY, REWRITE)(copies, sampled)
    np.testing.assert_allclose(paid, 1 / 3, rtol=1e-6)
    ignores = fit(pairs, backoff=1e6)
    modes = fit(only_identity(pairs)).reshape(S, A, A)
    modes = jnp.argmax(jnp.exp(modes).sum(1), -1)  # of the chosen actions in each state
    written = jnp.argmax(ignores, -1).reshape(S, A)
    np.testing.assert_array_equal(written, jnp.broadcast_to(modes[:, None], (S, A)))
    imitation = make_token_rewards(POLICY, REWRITE)(
        ignores, answers(sampled.inputs, modes[sampled.inputs])
    )
    np.testing.assert_allclose(imitation.sum(-1), 1.0, rtol=1e-6)


def test_rewards_by_hand():
    """A table that writes action 1 in every state but corrects 2 to 0."""
    table = jnp.tile(jnp.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]), (S, 1))
    sampled = answers([[0, 1, 2, 3]], [[1, 0, 1, 2]], [[True, True, True, True]])
    rule = partial(seq2seq_token_rewards, by_length=False)
    found = make_token_rewards(POLICY, REWRITE, rule=rule)(table, sampled)
    np.testing.assert_array_equal(found, [[1.0, -1.0, 0.0, -1.0]])
    halves = make_token_rewards(POLICY, REWRITE)(
        table, replace(sampled, mask=jnp.array([[True, True, False, False]]))
    )
    np.testing.assert_array_equal(halves, [[0.5, -0.5, 0.0, 0.0]])
    slope = jax.grad(lambda t: make_token_rewards(POLICY, REWRITE)(t, sampled).sum())(table)
    np.testing.assert_array_equal(slope, 0.0)


def test_bad_weights_are_named():
    with pytest.raises(ValueError, match=r"identity_weight must be in \[0, inf\)"):
        make_objective(POLICY, REWRITE, identity_weight=-1.0)
    with pytest.raises(ValueError, match=r"backoff must be in \[0, inf\)"):
        fit(drawn(), backoff=-0.1)
