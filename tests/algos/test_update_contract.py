"""What every update owes: weights, padding, order, micro-batches, devices, purity.

One row of `CASES` per algorithm, all on the same table of 3 states and 4 actions, with plain
gradient descent at rate 1, so that the change of the params is minus the gradient.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rlhf_jax.algos import (
    entailment,
    online,
    ppo,
    preference,
    reward_ensemble,
    reward_model,
    sft,
    unpaired,
    verdict_model,
)
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.losses.games import inpo_loss, nash_md_pg_loss
from rlhf_jax.losses.group_policy_gradient import dapo_loss
from rlhf_jax.losses.pairwise_gradient import p3o_v1_loss
from rlhf_jax.losses.preference import dpo_loss, ipo_loss
from rlhf_jax.losses.reward import soft_margin_bradley_terry_loss
from rlhf_jax.ops.groups import pair_measures
from rlhf_jax.ops.masking import token_mean
from rlhf_jax.policies.tabular import tabular_policy, tabular_reward, tabular_value
from rlhf_jax.types import PreferenceBatch, RewardFn, Trajectory, VerdictFn

STATES, ACTIONS, ROWS, STEPS = 3, 4, 8, 3
POLICY = tabular_policy(STATES, ACTIONS)
VALUE = tabular_value(STATES)
REWARD = tabular_reward(STATES, ACTIONS)
SGD = optax.sgd(1.0)
# What stands where nothing counts: ids of the table, whose gradients would show, and others.
JUNK_IDS = pytest.mark.parametrize("junk_id", [0, 10**6])


class Case(NamedTuple):
    update: Callable
    params: Any
    batch: Any


def normal(rng, *shape):
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def random_trajectory(rng):
    states = jnp.asarray(rng.integers(0, STATES, (ROWS, STEPS)))
    actions = jnp.asarray(rng.integers(0, ACTIONS, (ROWS, STEPS)))
    lengths = rng.integers(1, STEPS + 1, (ROWS, 1))
    return Trajectory(states, actions, jnp.asarray(np.arange(STEPS) < lengths))


def pairwise_case(loss):
    rng = np.random.default_rng(0)
    pair = random_trajectory(rng), random_trajectory(rng)
    batch = PreferenceBatch(*pair, normal(rng, ROWS), normal(rng, ROWS), jnp.ones(ROWS))
    return Case(preference.make_update(POLICY, SGD, loss), normal(rng, STATES, ACTIONS), batch)


def reward_case():
    rng = np.random.default_rng(1)
    pair = random_trajectory(rng), random_trajectory(rng)
    batch = PreferenceBatch(*pair, weights=jnp.ones(ROWS))
    return Case(reward_model.make_update(REWARD, SGD), normal(rng, STATES, ACTIONS), batch)


def repaired_reward_case():
    rng = np.random.default_rng(8)
    pair = random_trajectory(rng), random_trajectory(rng)
    prefs = jnp.asarray(rng.uniform(size=ROWS), jnp.float32)
    columns = {"prefs": prefs, "gaps": normal(rng, ROWS)}
    batch = PreferenceBatch(*pair, weights=jnp.ones(ROWS), columns=columns)
    update = reward_model.make_update(REWARD, SGD, loss=soft_margin_bradley_terry_loss)
    return Case(update, normal(rng, STATES, ACTIONS), batch)


def shared_ensemble_case():
    """Three members: a table that they share, and one of their own that is added."""
    rng = np.random.default_rng(11)
    pair = random_trajectory(rng), random_trajectory(rng)
    reward = RewardFn(lambda key: {}, lambda p, x: REWARD.scores(p["trunk"] + p["head"], x))
    ensemble = reward_ensemble.shared_trunk(reward, members=3)
    params = {"trunk": normal(rng, STATES, ACTIONS), "head": normal(rng, 3, STATES, ACTIONS)}
    batch = PreferenceBatch(*pair, weights=jnp.ones(ROWS))
    return Case(reward_ensemble.make_shared_update(ensemble, SGD), params, batch)


def verdict_case():
    """A judge by a table for each of the two places, so that the order matters to it."""
    rng = np.random.default_rng(12)
    pair = random_trajectory(rng), random_trajectory(rng)

    def logps(params, first, second):
        orders = ((first, second), (second, first))
        margins = [REWARD.scores(params[0], a) - REWARD.scores(params[1], b) for a, b in orders]
        sides = [jnp.stack([x, jnp.zeros_like(x)], axis=-1) for x in margins]
        return jax.nn.log_softmax(jnp.stack(sides, axis=-2), axis=-1)

    judge = VerdictFn(lambda key: None, logps)
    params = normal(rng, STATES, ACTIONS), normal(rng, STATES, ACTIONS)
    batch = PreferenceBatch(*pair, weights=jnp.ones(ROWS))
    return Case(verdict_model.make_update(judge, SGD, consistency=0.3), params, batch)


def entailment_case():
    rng = np.random.default_rng(9)
    labels, answers = jnp.asarray(rng.random(ROWS) < 0.5), random_trajectory(rng)
    batch = entailment.EntailmentBatch(answers, labels, weights=jnp.ones(ROWS))
    return Case(entailment.make_update(REWARD, SGD), normal(rng, STATES, ACTIONS), batch)


def ppo_case(whiten):
    rng = np.random.default_rng(2)
    numbers = (normal(rng, ROWS, STEPS) for _ in range(4))
    batch = ppo.PPOBatch(random_trajectory(rng), *numbers, weights=jnp.ones(ROWS))
    config = ppo.PPOConfig(whiten_advantages=whiten, value_coef=0.5)
    params = ppo.ActorCritic(normal(rng, STATES, ACTIONS), normal(rng, STATES))
    return Case(ppo.make_update(POLICY, VALUE, SGD, config), params, batch)


def game_pairs_case():
    rng = np.random.default_rng(4)
    pair = random_trajectory(rng), random_trajectory(rng)
    names = ("ref_chosen_logps", "ref_rejected_logps", "old_gaps")
    columns = {name: normal(rng, ROWS) for name in names}
    batch = online.PairBatch(*pair, columns, jnp.ones(ROWS))
    update = online.make_pair_update(POLICY, SGD, partial(inpo_loss, beta=0.3, eta=2.0))
    return Case(update, normal(rng, STATES, ACTIONS), batch)


def game_answers_case():
    rng = np.random.default_rng(5)
    prefs = jnp.asarray(rng.uniform(size=ROWS), jnp.float32)
    columns = {"ref_token_logps": normal(rng, ROWS, STEPS), "prefs": prefs}
    batch = online.AnswerBatch(random_trajectory(rng), columns, jnp.ones(ROWS))
    update = online.make_answer_update(POLICY, SGD, partial(nash_md_pg_loss, beta=0.3))
    return Case(update, normal(rng, STATES, ACTIONS), batch)


def game_tokens_case():
    rng = np.random.default_rng(6)
    columns = {"old_token_logps": normal(rng, ROWS, STEPS) - 1.4, "advantages": normal(rng, ROWS)}
    batch = online.AnswerBatch(random_trajectory(rng), columns, jnp.ones(ROWS))
    loss = partial(dapo_loss, clip_eps_low=0.9, clip_eps_high=10.0)
    update = online.make_answer_update(POLICY, SGD, loss, reduction=token_mean)
    return Case(update, normal(rng, STATES, ACTIONS), batch)


def group_case():
    """Four answers to each prompt."""
    rng = np.random.default_rng(10)
    size, params = 4, normal(rng, STATES, ACTIONS)
    answers = jax.tree.map(
        lambda *x: jnp.stack(x, axis=1), *(random_trajectory(rng) for _ in range(size))
    )
    columns = {"old_logps": normal(rng, ROWS, size) - 4.0, "scores": normal(rng, ROWS, size)}
    batch = online.GroupBatch(answers, columns, jnp.ones(ROWS))
    loss, measures = (partial(x, clip_eps=0.9) for x in (p3o_v1_loss, pair_measures))
    return Case(online.make_group_update(POLICY, SGD, loss, measures=measures), params, batch)


def dro_case():
    rng = np.random.default_rng(7)
    numbers = normal(rng, ROWS), normal(rng, ROWS)
    batch = unpaired.UnpairedBatch(random_trajectory(rng), *numbers, weights=jnp.ones(ROWS))
    params = ppo.ActorCritic(normal(rng, STATES, ACTIONS), normal(rng, STATES))
    return Case(unpaired.make_dro_update(POLICY, VALUE, SGD, beta=0.3), params, batch)


def sft_case():
    rng = np.random.default_rng(3)
    params = normal(rng, STATES, ACTIONS)
    return Case(sft.make_update(POLICY, SGD), params, random_trajectory(rng))


CASES = {
    "dpo": pairwise_case(partial(dpo_loss, beta=0.3)),
    "ipo": pairwise_case(partial(ipo_loss, beta=0.3)),
    "reward_model": reward_case(),
    "repaired_reward_model": repaired_reward_case(),
    "shared_ensemble": shared_ensemble_case(),
    "verdicts": verdict_case(),
    "entailment": entailment_case(),
    "ppo": ppo_case(whiten=False),
    "ppo_whitened": ppo_case(whiten=True),
    "sft": sft_case(),
    "dro": dro_case(),
    "game_pairs": game_pairs_case(),
    "game_answers": game_answers_case(),
    "game_tokens": game_tokens_case(),
    "groups": group_case(),
}
CASES = {name: case._replace(update=jax.jit(case.update)) for name, case in CASES.items()}
WEIGHTED = {name: case for name, case in CASES.items() if name != "sft"}
ADDITIVE = {name: case for name, case in CASES.items() if name != "ppo_whitened"}

every_update = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
weighted_update = pytest.mark.parametrize("case", WEIGHTED.values(), ids=WEIGHTED.keys())
additive_update = pytest.mark.parametrize("case", ADDITIVE.values(), ids=ADDITIVE.keys())


def take(batch, rows):
    return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[rows]), batch)


def run(case, batch):
    return case.update(init_state(case.params, SGD), batch)


def gradient(case, state):
    """What plain descent at rate 1 has subtracted."""
    return jax.tree.map(
        lambda before, after: np.asarray(before) - np.asarray(after), case.params, state.params
    )


def spoil(x, place, junk_id):
    """x with NaN, or the junk id, where `place` is True; masks stay."""
    if x.dtype == bool:
        return x
    spoiled = np.array(x)
    spoiled[place] = np.nan if x.dtype.kind == "f" else junk_id
    return jnp.asarray(spoiled)


def assert_same(case, batch, other, **tolerance):
    """Same loss, metrics and new params from both batches."""
    (state, metrics), (other_state, other_metrics) = run(case, batch), run(case, other)
    values, other_values = (
        {name: mean.total / mean.weight for name, mean in jax.device_get(each).items()}
        for each in (metrics, other_metrics)
    )
    same = partial(np.testing.assert_allclose, **({"rtol": 1e-5, "atol": 1e-6} | tolerance))
    jax.tree.map(same, other_values, values)
    jax.tree.map(same, other_state.params, state.params)


@pytest.mark.long
@every_update
def test_one_step_moves_every_trained_parameter(case):
    state, metrics = run(case, case.batch)
    assert state.step == 1
    assert metrics["loss"].weight > 0
    moved = jax.tree.leaves(gradient(case, state))
    assert all(np.mean(slope != 0) > 0.5 for slope in moved)
    norm = np.sqrt(sum(np.sum(slope**2) for slope in moved))
    np.testing.assert_allclose(metrics["grad_norm"].total, norm, rtol=1e-4)


@weighted_update
def test_weights_are_repeated_rows(case):
    counts = np.array([2, 1, 0, 3, 1, 0, 0, 1])
    weighted = replace(case.batch, weights=jnp.asarray(counts, jnp.float32))
    repeated = take(case.batch, np.repeat(np.arange(ROWS), counts))
    assert_same(case, weighted, repeated)


@pytest.mark.long
@weighted_update
def test_no_weights_means_equal_weights(case):
    assert_same(case, replace(case.batch, weights=None), case.batch)


@pytest.mark.long
@JUNK_IDS
@weighted_update
def test_rows_of_weight_zero_never_matter(case, junk_id):
    """Not even where their numbers are NaN, or their ids lie outside the table."""
    empty = np.arange(ROWS) >= 5
    weights = jnp.asarray(~empty, jnp.float32)
    batch = replace(case.batch, weights=weights)
    spoiled = replace(
        jax.tree.map(partial(spoil, place=empty, junk_id=junk_id), batch), weights=weights
    )
    assert_same(case, batch, spoiled)
    assert_same(case, batch, take(batch, np.arange(5)))


@pytest.mark.long
@JUNK_IDS
@every_update
def test_padding_never_matters(case, junk_id):
    def pad(x):
        if x.ndim < 2:
            return x
        junk = {"b": False, "f": jnp.nan, "i": junk_id}[x.dtype.kind]
        widths = [(0, 2 * (axis == 1)) for axis in range(x.ndim)]  # of groups: answers
        return jnp.asarray(np.pad(x, widths, constant_values=junk))

    assert_same(case, case.batch, jax.tree.map(pad, case.batch))


@every_update
def test_batch_order_never_matters(case):
    order = np.random.default_rng(0).permutation(ROWS)
    assert_same(case, case.batch, take(case.batch, order))


@pytest.mark.long
@every_update
def test_leading_axes_are_free(case):
    assert_same(case, case.batch, jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), case.batch))


@pytest.mark.long
@additive_update
def test_micro_batches_add_up(case):
    """Metrics add as (total, weight); gradients average with the weight of the loss."""
    whole, whole_metrics = run(case, case.batch)
    parts = (run(case, take(case.batch, rows)) for rows in (np.arange(4), np.arange(4, ROWS)))
    states, metrics = zip(*jax.device_get(list(parts)), strict=True)
    summed = jax.tree.map(lambda a, b: a + b, *metrics)
    for name in whole_metrics.keys() - {"grad_norm"}:
        np.testing.assert_allclose(summed[name], whole_metrics[name], rtol=1e-5, atol=1e-6)
    weights = [each["loss"].weight for each in metrics]
    first, second = (gradient(case, state) for state in states)
    mean = jax.tree.map(
        lambda a, b: (weights[0] * a + weights[1] * b) / sum(weights), first, second
    )
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, mean, gradient(case, whole))


@pytest.mark.long
@every_update
def test_eight_devices_equal_one(case):
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(case.batch, NamedSharding(mesh, PartitionSpec("batch")))
    assert len(jax.tree.leaves(sharded)[0].sharding.device_set) == 8
    everywhere = NamedSharding(mesh, PartitionSpec())
    spread = case._replace(params=jax.device_put(case.params, everywhere))
    state, metrics = run(case, case.batch)
    sharded_state, sharded_metrics = run(spread, sharded)
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, sharded_state.params, state.params)
    jax.tree.map(close, sharded_metrics, metrics)


@pytest.mark.long
@pytest.mark.parametrize("name", ["dpo", "ppo"])
def test_jit_equals_eager(name):
    case = CASES[name]
    state, metrics = run(case, case.batch)
    with jax.disable_jit():
        eager_state, eager_metrics = run(case, case.batch)
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, eager_state.params, state.params)
    jax.tree.map(close, eager_metrics, metrics)


def test_a_sweep_is_one_vmap():
    batch, params = CASES["dpo"].batch, CASES["dpo"].params

    def step(beta):
        update = preference.make_update(POLICY, SGD, partial(dpo_loss, beta=beta))
        return update(init_state(params, SGD), batch)[0].params

    swept = jax.jit(jax.vmap(step))(jnp.array([0.1, 0.3]))
    np.testing.assert_allclose(swept[1], run(CASES["dpo"], batch)[0].params, rtol=1e-5, atol=1e-6)
    assert not np.allclose(swept[0], swept[1])
