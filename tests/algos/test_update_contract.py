"""What every update owes: weights, padding, order, micro-batches, devices, purity.

One row of `update_cases.CASES` per algorithm.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from update_cases import CASES, POLICY, ROWS, SGD

from rlhf_jax.algos import preference
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.losses.preference import dpo_loss

# What stands where nothing counts: ids of the table, whose gradients would show, and others.
JUNK_IDS = pytest.mark.parametrize("junk_id", [0, 10**6])


def cases(*without):
    """All rows but these."""
    kept = {name: case for name, case in CASES.items() if name not in without}
    return pytest.mark.parametrize("case", kept.values(), ids=kept.keys())


every_update = cases()
# Their batches have no weights.
UNWEIGHTED = ("sft", "meta_answers", "user_reward")
weighted_update = cases(*UNWEIGHTED)
# A contrastive loss compares every answer of a batch with every other one.
separable_update = cases("contrastive_reward")
repeatable_update = cases(*UNWEIGHTED, "contrastive_reward")
# Nor do parts add up if the whole is whitened, or a step is taken on it first.
additive_update = cases("contrastive_reward", "ppo_whitened", "meta_answers")


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
    norm = case.norm(gradient(case, state))
    np.testing.assert_allclose(metrics["grad_norm"].total, norm, rtol=1e-4)


@repeatable_update
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
@separable_update
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
    # The spread of MetaRM is of answers that both parts read.
    for name in whole_metrics.keys() - {"grad_norm", "spread"}:
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
