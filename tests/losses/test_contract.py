"""What every loss owes, whatever it computes: shapes, gradients, transformations, finite numbers.

One row of `CASES` per loss; a new loss joins by adding its row.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.test_util import check_grads

from rlhf_jax.losses.policy_gradient import clipped_value_loss, ppo_clip_loss, reinforce_loss
from rlhf_jax.losses.preference import dpo_loss, ipo_loss
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.masking import keep_weighted, weighted_mean


class Case(NamedTuple):
    """loss: arrays in, one value per entry out; inputs: how many; trained: which are not data."""

    loss: Callable
    inputs: int
    trained: tuple[int, ...]


CASES = {
    "bradley_terry": Case(bradley_terry_loss, 2, (0, 1)),
    "dpo": Case(partial(dpo_loss, beta=0.3), 4, (0, 1)),
    "ipo": Case(partial(ipo_loss, beta=0.3), 4, (0, 1)),
    "reinforce": Case(reinforce_loss, 2, (0,)),
    "ppo_clip": Case(partial(ppo_clip_loss, clip_eps=0.2), 3, (0,)),
    "clipped_value": Case(partial(clipped_value_loss, clip_eps=0.2), 3, (0,)),
}
SWEPT = {
    "dpo": (dpo_loss, "beta", 4),
    "ipo": (ipo_loss, "beta", 4),
    "ppo_clip": (ppo_clip_loss, "clip_eps", 3),
    "clipped_value": (clipped_value_loss, "clip_eps", 3),
}
SHAPE = (8, 3)

every_loss = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def draw(count, shape=SHAPE, dtype=np.float32, seed=0):
    """`count` arrays from a normal of scale 1/2, so that clips are met on both sides."""
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(0.5 * rng.standard_normal(shape), dtype) for _ in range(count))


def mean_and_grad(case, arrays, mask=None):
    """Mean loss over the counted entries, and its gradient to what the loss trains."""

    def mean(*arrays):
        weights = None if mask is None else mask.astype(jnp.float32)
        arrays = [keep_weighted(x, weights) for x in arrays]
        return weighted_mean(case.loss(*arrays), weights).value()

    return jax.value_and_grad(mean, argnums=case.trained)(*arrays)


@every_loss
def test_one_loss_per_entry(case):
    losses = case.loss(*draw(case.inputs))
    assert losses.shape == SHAPE
    assert losses.dtype == jnp.float32
    assert len(np.unique(losses)) > SHAPE[0]


@every_loss
def test_vmap_equals_batched_equals_loop(case):
    arrays = draw(case.inputs)
    batched = case.loss(*arrays)
    mapped = jax.vmap(jax.vmap(case.loss))(*arrays)
    looped = [
        [case.loss(*(x[i, j] for x in arrays)) for j in range(SHAPE[1])] for i in range(SHAPE[0])
    ]
    np.testing.assert_allclose(mapped, batched, rtol=1e-6)
    np.testing.assert_allclose(np.array(looped), batched, rtol=1e-6)
    flat = case.loss(*(x.reshape(-1) for x in arrays))
    np.testing.assert_allclose(flat.reshape(SHAPE), batched, rtol=1e-6)


@every_loss
def test_entries_do_not_see_each_other(case):
    arrays = draw(case.inputs)
    order = np.random.default_rng(1).permutation(SHAPE[0])
    shuffled = case.loss(*(x[order] for x in arrays))
    np.testing.assert_array_equal(shuffled, case.loss(*arrays)[order])


@every_loss
def test_jit_equals_eager(case):
    arrays = draw(case.inputs)
    loss, grads = mean_and_grad(case, arrays)
    jit_loss, jit_grads = jax.jit(partial(mean_and_grad, case))(arrays)
    np.testing.assert_allclose(jit_loss, loss, rtol=1e-6)
    for jit_grad, grad in zip(jit_grads, grads, strict=True):
        np.testing.assert_allclose(jit_grad, grad, rtol=1e-5, atol=1e-7)


@every_loss
def test_gradient_equals_finite_differences(case):
    with jax.enable_x64(True):
        arrays = draw(case.inputs, dtype=np.float64)
        data = list(arrays)

        def loss(*trained):
            for i, x in zip(case.trained, trained, strict=True):
                data[i] = jnp.asarray(x)  # finite differences come in as NumPy
            return case.loss(*data)

        trained = tuple(arrays[i] for i in case.trained)
        check_grads(loss, trained, order=1, modes=["fwd", "rev"], eps=1e-5)


@every_loss
def test_data_gets_no_gradient(case):
    arrays = draw(case.inputs)
    total = jax.grad(lambda *x: jnp.sum(case.loss(*x)), argnums=tuple(range(case.inputs)))
    for i, grad in enumerate(total(*arrays)):
        assert bool(jnp.any(grad != 0)) == (i in case.trained)


@every_loss
def test_padding_never_matters(case):
    arrays = draw(case.inputs)
    loss, grads = mean_and_grad(case, arrays)
    padded = tuple(jnp.pad(x, ((0, 2), (0, 3)), constant_values=jnp.nan) for x in arrays)
    mask = jnp.pad(jnp.ones(SHAPE, bool), ((0, 2), (0, 3)))
    padded_loss, padded_grads = mean_and_grad(case, padded, mask)
    np.testing.assert_allclose(padded_loss, loss, rtol=1e-6)
    for padded_grad, grad in zip(padded_grads, grads, strict=True):
        np.testing.assert_allclose(padded_grad[:-2, :-3], grad, rtol=1e-6)
        np.testing.assert_array_equal(padded_grad[~mask], 0.0)


@every_loss
def test_extreme_log_probs_give_finite_losses_and_gradients(case):
    corners = np.array(np.meshgrid(*[[-1e4, 0.0, 1e4]] * case.inputs)).reshape(case.inputs, -1)
    arrays = tuple(jnp.asarray(x, jnp.float32) for x in corners)
    losses = case.loss(*arrays)
    _, grads = mean_and_grad(case, arrays)
    assert bool(jnp.all(jnp.isfinite(losses)))
    assert all(bool(jnp.all(jnp.isfinite(grad))) for grad in grads)


@every_loss
def test_eight_devices_equal_one(case):
    arrays = draw(case.inputs)
    assert jax.device_count() >= 8
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(arrays, NamedSharding(mesh, PartitionSpec("batch")))
    step = jax.jit(partial(mean_and_grad, case))
    loss, grads = step(arrays)
    sharded_loss, sharded_grads = step(sharded)
    np.testing.assert_allclose(sharded_loss, loss, rtol=1e-6)
    for sharded_grad, grad in zip(sharded_grads, grads, strict=True):
        assert len(sharded_grad.sharding.device_set) == 8
        np.testing.assert_allclose(sharded_grad, grad, rtol=1e-6, atol=1e-8)


@every_loss
def test_losses_never_broadcast(case):
    *arrays, last = draw(case.inputs)
    # The type checker of the test run may speak first; outside it, chex does.
    with pytest.raises((AssertionError, jaxtyping.TypeCheckError)):
        case.loss(*arrays, last[:1])


@pytest.mark.parametrize(("loss", "name", "inputs"), SWEPT.values(), ids=SWEPT.keys())
def test_hyper_parameters_can_be_swept_by_vmap(loss, name, inputs):
    arrays = draw(inputs)
    swept = jnp.array([0.05, 0.3, 2.0])
    mapped = jax.vmap(lambda value: loss(*arrays, **{name: value}))(swept)
    looped = jnp.stack([loss(*arrays, **{name: float(value)}) for value in swept])
    np.testing.assert_allclose(mapped, looped, rtol=1e-5)
    assert not np.allclose(looped[0], looped[2])
