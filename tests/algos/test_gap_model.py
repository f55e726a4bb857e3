"""Gap reward models in three parametrisations, and what follows from an additive gap."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos import gap_model, reward_model
from rlhf_jax.algos.gap_model import gap_rows, make_objective, make_update, pair_gaps
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.exact.bandit import regularised_optimum, total_variation
from rlhf_jax.losses.gaps import GAP_TERMS, gap_loss
from rlhf_jax.models import TransformerConfig, make_reward_model
from rlhf_jax.ops.newton import newton_minimum
from rlhf_jax.policies.language import language_reward, language_trajectory
from rlhf_jax.policies.linear import linear_reward, paired_features
from rlhf_jax.policies.rewriting import language_rewriting
from rlhf_jax.policies.tabular import tabular_reward, tabular_rewriting
from rlhf_jax.types import PreferenceBatch, Trajectory

S, A, D = 2, 3, 4
SGD = optax.sgd(1.0)
TABLE = tabular_reward(S * A, A)
REWRITE = tabular_rewriting(A)


def answer(states, actions):
    actions = jnp.asarray(actions)[:, None]
    return Trajectory(jnp.asarray(states)[:, None], actions, jnp.ones(actions.shape, bool))


PAIRS = PreferenceBatch(answer([0, 1], [2, 0]), answer([0, 1], [1, 0]))


def described(rows=60, seed=0):
    """Pairs of answers described by features, some of one answer with itself."""
    rng = np.random.default_rng(seed)
    sides = rng.normal(size=(2, rows, 1, D))
    sides[1, :3] = sides[0, :3]
    mask = jnp.ones((rows, 1), bool)
    return PreferenceBatch(
        *(Trajectory(jnp.asarray(x), jnp.zeros((rows, 1), int), mask) for x in sides)
    )


def value(mean):
    return mean.total / mean.weight


def test_rows_have_the_answer_first_and_the_reference_second():
    rows = gap_rows(PAIRS, REWRITE)
    assert rows.mask.shape == (2, 2, 2, 1)
    # s A + u of the reference that was read: chosen 2 then rejected 1, whatever is written
    np.testing.assert_array_equal(rows.inputs[0, ..., 0], [[2, 1], [2, 1]])
    np.testing.assert_array_equal(rows.actions[0, ..., 0], [[2, 2], [1, 1]])


@pytest.mark.long
def test_a_table_moves_by_hand():
    params = jnp.asarray(np.random.default_rng(1).normal(size=(S * A, A)), jnp.float32)
    table = np.asarray(params)
    gaps = pair_gaps(TABLE, REWRITE, params, PAIRS)
    np.testing.assert_allclose(gaps[0], [[table[2, 2], table[1, 2]], [table[2, 1], table[1, 1]]])
    state, metrics = make_update(TABLE, REWRITE, SGD)(init_state(params, SGD), PAIRS)
    losses = gap_loss(gaps)
    assert value(metrics["loss"]) == pytest.approx(float(losses.mean()), rel=1e-5)
    # The second pair compares an answer with itself: its gradient is 0, its loss 4 log 2.
    assert float(losses[1]) == pytest.approx(4 * np.log(2), rel=1e-5)
    slopes = jax.grad(gap_loss)(gaps[0])
    moved = np.array(params)
    moved[[2, 1, 2, 1], [2, 2, 1, 1]] -= 0.5 * np.asarray(slopes).ravel()
    np.testing.assert_allclose(state.params, moved, atol=1e-6)
    better, worse = gaps[:, 0, 1], gaps[:, 1, 0]
    accuracy = np.mean([float(better[0] > worse[0]), 0.5])
    assert value(metrics["gaps/accuracy"]) == pytest.approx(accuracy)
    margin = float((better - worse).mean())
    assert value(metrics["gaps/margin"]) == pytest.approx(margin, rel=1e-5)
    shift = np.mean([table[2, 2] + table[1, 1], 2 * table[3, 0]]) / 2
    assert value(metrics["gaps/shift"]) == pytest.approx(shift, rel=1e-5)


def test_pairs_of_weight_nothing_never_matter():
    params = jnp.zeros(2 * D)
    pairs = described(rows=6)
    broken = jax.tree.map(lambda x: x, pairs.chosen)
    broken = replace(broken, inputs=broken.inputs.at[5].set(jnp.nan))
    weighted = replace(pairs, chosen=broken, weights=jnp.array([1.0] * 5 + [0.0]))
    objective = make_objective(linear_reward(2 * D), paired_features)
    found, diagnostics = objective(params + 0.1, weighted)
    five = jax.tree.map(lambda x: x[:5], pairs)
    assert value(found) == pytest.approx(float(value(objective(params + 0.1, five)[0])), rel=1e-5)
    assert all(np.isfinite(value(x)) for x in diagnostics.values())


def minimum(objective, size, ridge=1e-3):
    """The minimum of a convex mean with a ridge."""

    def total(params):
        return value(objective(params)[0]) + 0.5 * ridge * jnp.sum(params**2)

    return newton_minimum(total, jnp.zeros(size)).params


@pytest.mark.long
def test_an_additive_gap_is_a_difference_of_reward_models():
    """u = v = the Bradley-Terry estimate, up to what the ridge weighs; not with a fifth term."""
    with jax.enable_x64(True):
        pairs, gap = described(), linear_reward(2 * D)
        plain = reward_model.make_objective(linear_reward(D))
        model = minimum(lambda w: plain(w, pairs), D, 0.5e-3)
        found = minimum(lambda w: make_objective(gap, paired_features)(w, pairs), 2 * D)
        np.testing.assert_allclose(found.reshape(2, D), np.stack([model, model]), atol=1e-6)
        five = (*GAP_TERMS, ("wl", "lw"))
        other = minimum(lambda w: make_objective(gap, paired_features, terms=five)(w, pairs), 2 * D)
        assert np.abs(other[:D] - model).max() > 1e-3


def test_the_reference_of_an_additive_gap_enters_through_the_prior_alone():
    with jax.enable_x64(True):
        rng = np.random.default_rng(2)
        u, v, prior = rng.normal(size=5), rng.normal(size=5), rng.normal(size=(5, 5))
        optimum = [
            regularised_optimum(jnp.asarray(gaps), jnp.asarray(prior), beta=0.7)
            for gaps in (u - v[:, None], np.tile(u, (5, 1)), u - v[:, None] + 0.1 * np.eye(5))
        ]
        assert float(total_variation(optimum[0], optimum[1]).max()) < 1e-12
        assert float(total_variation(optimum[0], optimum[2]).max()) > 1e-3
        # With a prior that ignores the reference it is plain RLHF, the same for all references.
        same = np.tile(prior[0], (5, 1))
        plain = regularised_optimum(jnp.asarray(u - v[:, None]), jnp.asarray(same), beta=0.7)
        one = regularised_optimum(jnp.asarray(u), jnp.asarray(prior[0]), beta=0.7)
        np.testing.assert_allclose(plain, np.tile(one, (5, 1)), atol=1e-12)


@pytest.mark.long
def test_micro_batches_are_the_same_step():
    params, pairs = jnp.full(2 * D, 0.3), described(rows=8)
    whole, parts = (
        make_update(linear_reward(2 * D), paired_features, SGD, parts=n)(
            init_state(params, SGD), pairs
        )[0]
        for n in (1, 4)
    )
    np.testing.assert_allclose(whole.params, parts.params, atol=1e-6)


@pytest.mark.long
def test_a_transformer_learns_which_of_two_answers_improves_the_other():
    config = TransformerConfig(
        vocab_size=8, d_model=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, d_ff=16
    )
    model = make_reward_model(config)
    reward, rewrite = language_reward(model), language_rewriting(separator=1)
    rng = np.random.default_rng(0)
    rows, length = 32, 3
    # Token 5 is better than token 6; other tokens mean nothing.
    ids = rng.integers(2, 5, (2, rows, length))
    ids[0, :, 1], ids[1, :, 1] = 5, 6
    prompt, full = np.full((rows, 1), 7), np.ones((rows, length), bool)
    pairs = PreferenceBatch(
        *(language_trajectory(prompt, prompt > 0, x.astype(np.int32), full) for x in ids)
    )
    optimizer = optax.adam(0.02)
    update = jax.jit(gap_model.make_update(reward, rewrite, optimizer))
    state = init_state(model.init(jax.random.key(0)), optimizer)
    for _ in range(60):
        state, metrics = update(state, pairs)
    assert value(metrics["gaps/accuracy"]) == 1.0
    gaps = np.asarray(pair_gaps(reward, rewrite, state.params, pairs))
    assert gaps.shape == (rows, 2, 2)
    for same in (gaps[:, 0, 0], gaps[:, 1, 1]):
        assert (gaps[:, 0, 1] > same).mean() > 0.9
        assert (same > gaps[:, 1, 0]).mean() > 0.9
