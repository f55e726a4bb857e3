"""What every loss owes, whatever it computes: shapes, gradients, transformations, finite numbers.

A family lists its losses in `cases_<family>.py`; a new loss joins by adding its row there.
"""

from functools import partial
from importlib import import_module
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.test_util import check_grads
from loss_cases import Case, Sweep, draw

from rlhf_jax.ops.masking import weighted_mean

LEAD = (8, 3)

FAMILIES = sorted(path.stem for path in Path(__file__).parent.glob("cases_*.py"))
CASES: dict[str, Case] = {}
SWEPT: dict[str, Sweep] = {}
for family in FAMILIES:
    rows = import_module(family)
    for table, more in ((CASES, rows.CASES), (SWEPT, rows.SWEPT)):
        assert not table.keys() & more.keys(), f"{family}: a name is taken"
        table.update(more)


def those(test):
    """Parametrises a test over the cases for which `test(case)` holds."""
    names = [name for name, case in CASES.items() if test(case)]
    return pytest.mark.parametrize("case", [CASES[name] for name in names], ids=names)


every_loss = those(lambda case: True)
extreme_loss = those(lambda case: case.extremes)
extreme_beta = those(lambda case: "beta" in getattr(case.loss, "keywords", {}))
joint_loss = those(lambda case: len(case.inputs) > 1)
boolean_loss = those(lambda case: any(x.dtype == bool for x in draw(case.inputs, (1,))))
masked_loss = those(lambda case: bool(case.masked))
plain_loss = those(lambda case: not case.surrogate)


def arrays_of(case, lead=LEAD, dtype=np.float32):
    return tuple(jnp.asarray(x) for x in draw(case.inputs, lead, dtype))


def floats(case, arrays):
    """Positions of the real inputs: the only ones that have a gradient."""
    return tuple(i for i, x in enumerate(arrays) if jnp.issubdtype(x.dtype, jnp.floating))


def mean_and_grad(case, arrays, weights=None):
    """Mean loss over the examples, and its gradient to what the loss trains."""

    def mean(*arrays):
        losses = case.loss(*arrays)
        return weighted_mean(losses, weights).value()

    return jax.value_and_grad(mean, argnums=case.trained)(*arrays)


def scale_of(x):
    return float(np.max(np.abs(np.asarray(x, np.float64)), initial=1e-6))


@every_loss
def test_one_loss_per_example(case):
    losses = case.loss(*arrays_of(case))
    assert losses.shape == (*LEAD, *case.out)
    assert losses.dtype == jnp.float32
    assert len(np.unique(losses)) > LEAD[0]


@every_loss
def test_vmap_equals_batched_equals_loop(case):
    arrays = arrays_of(case)
    batched = case.loss(*arrays)
    tolerance = {"rtol": 1e-5, "atol": 1e-6 * scale_of(batched)}
    mapped = jax.vmap(jax.vmap(case.loss))(*arrays)
    np.testing.assert_allclose(mapped, batched, **tolerance)
    for i, j in ((0, 0), (3, 2), (7, 1)):
        one = case.loss(*(x[i, j] for x in arrays))
        np.testing.assert_allclose(one, batched[i, j], **tolerance)
    flat = case.loss(*(x.reshape(-1, *x.shape[2:]) for x in arrays))
    np.testing.assert_allclose(flat.reshape(batched.shape), batched, **tolerance)


@every_loss
def test_examples_do_not_see_each_other(case):
    arrays = arrays_of(case)
    order = np.random.default_rng(1).permutation(LEAD[0])
    shuffled = case.loss(*(x[order] for x in arrays))
    np.testing.assert_array_equal(shuffled, case.loss(*arrays)[order])


@every_loss
def test_jit_equals_eager(case):
    arrays = arrays_of(case)
    loss, grads = mean_and_grad(case, arrays)
    jit_loss, jit_grads = jax.jit(partial(mean_and_grad, case))(arrays)
    np.testing.assert_allclose(jit_loss, loss, rtol=1e-5, atol=1e-6)
    for jit_grad, grad in zip(jit_grads, grads, strict=True):
        np.testing.assert_allclose(jit_grad, grad, rtol=1e-4, atol=1e-6 * scale_of(grad))


@plain_loss
def test_gradient_equals_finite_differences(case):
    with jax.enable_x64(True):
        arrays = arrays_of(case, lead=(6,), dtype=np.float64)
        data = list(arrays)

        def loss(*trained):
            for i, x in zip(case.trained, trained, strict=True):
                data[i] = jnp.asarray(x)  # finite differences come in as NumPy
            return case.loss(*data)

        trained = tuple(arrays[i] for i in case.trained)
        check_grads(loss, trained, order=1, modes=["fwd", "rev"], eps=1e-5)


@every_loss
def test_only_what_is_trained_gets_a_gradient(case):
    arrays = arrays_of(case)
    places = floats(case, arrays)
    total = jax.grad(lambda *x: jnp.sum(case.loss(*x)), argnums=places)
    for i, grad in zip(places, total(*arrays), strict=True):
        assert bool(jnp.any(grad != 0)) == (i in case.trained)


@every_loss
def test_examples_of_weight_zero_never_matter(case):
    arrays = arrays_of(case)
    loss, grads = mean_and_grad(case, arrays)
    padded = tuple(jnp.concatenate([x, x[:2]]) for x in arrays)
    weights = jnp.broadcast_to(
        (jnp.arange(LEAD[0] + 2) < LEAD[0])[:, None, *[None] * len(case.out)],
        (LEAD[0] + 2, LEAD[1], *case.out),
    ).astype(jnp.float32)
    padded_loss, padded_grads = mean_and_grad(case, padded, weights)
    np.testing.assert_allclose(padded_loss, loss, rtol=1e-5, atol=1e-6)
    for padded_grad, grad in zip(padded_grads, grads, strict=True):
        np.testing.assert_allclose(padded_grad[:-2], grad, rtol=1e-4, atol=1e-6 * scale_of(grad))
        np.testing.assert_array_equal(padded_grad[-2:], 0.0)


def corners_of(case):
    """Every real input at -1e4, 0 or 1e4, all steps of a row alike, in every combination."""
    arrays = list(draw(case.inputs, (1,)))
    places = [i for i, x in enumerate(arrays) if x.dtype == np.float32]
    corners = np.array(np.meshgrid(*[[-1e4, 0.0, 1e4]] * len(places))).reshape(len(places), -1)
    count = corners.shape[1]
    arrays = [np.broadcast_to(x, (count, *x.shape[1:])).copy() for x in arrays]
    for i, corner in zip(places, corners, strict=True):
        arrays[i][...] = corner.reshape(-1, *[1] * (arrays[i].ndim - 1))
    return tuple(jnp.asarray(x) for x in arrays)


def assert_finite(case, arrays):
    losses = case.loss(*arrays)
    _, grads = mean_and_grad(case, arrays)
    assert bool(jnp.all(jnp.isfinite(losses)))
    assert all(bool(jnp.all(jnp.isfinite(grad))) for grad in grads)


@extreme_loss
def test_extreme_inputs_give_finite_losses_and_gradients(case):
    assert_finite(case, corners_of(case))


@pytest.mark.parametrize("beta", [1e-6, 1e3])
@extreme_beta
def test_extreme_betas_give_finite_losses_and_gradients(case, beta):
    arrays = corners_of(case) if case.extremes else arrays_of(case)
    assert_finite(case._replace(loss=partial(case.loss, beta=beta)), arrays)


@pytest.mark.parametrize("value", [False, True])
@boolean_loss
def test_masks_and_labels_may_be_all_alike(case, value):
    """An empty completion, a row without padding, a batch of one class."""
    arrays = (jnp.full_like(x, value) if x.dtype == bool else x for x in arrays_of(case))
    assert_finite(case, tuple(arrays))


@masked_loss
def test_what_lies_under_the_mask_never_matters(case):
    """Not even NaN, in the loss or in a gradient; an all-masked row has loss 0 and gradient 0."""
    arrays = list(arrays_of(case))
    mask = arrays[case.mask].at[0].set(False)
    arrays[case.mask] = mask
    spoiled = list(arrays)
    for i in case.masked:
        spoiled[i] = jnp.where(mask, arrays[i], jnp.nan)
    assert bool(jnp.any(jnp.isnan(spoiled[case.masked[0]])))
    np.testing.assert_array_equal(case.loss(*spoiled), case.loss(*arrays))
    np.testing.assert_array_equal(case.loss(*arrays)[0], 0.0)
    _, grads = mean_and_grad(case, arrays)
    _, spoiled_grads = mean_and_grad(case, spoiled)
    for place, grad, spoiled_grad in zip(case.trained, grads, spoiled_grads, strict=True):
        np.testing.assert_array_equal(spoiled_grad, grad)
        if place in case.masked:
            np.testing.assert_array_equal(grad[~mask], 0.0)


@every_loss
def test_eight_devices_equal_one(case):
    arrays = arrays_of(case)
    assert jax.device_count() >= 8
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(arrays, NamedSharding(mesh, PartitionSpec("batch")))
    step = jax.jit(partial(mean_and_grad, case))
    loss, grads = step(arrays)
    sharded_loss, sharded_grads = step(sharded)
    np.testing.assert_allclose(sharded_loss, loss, rtol=1e-5, atol=1e-6)
    for sharded_grad, grad in zip(sharded_grads, grads, strict=True):
        assert len(sharded_grad.sharding.device_set) == 8
        np.testing.assert_allclose(sharded_grad, grad, rtol=1e-5, atol=1e-7)


@joint_loss
def test_losses_never_broadcast(case):
    *arrays, last = arrays_of(case)
    # The type checker of the test run may speak first; outside it, chex does.
    with pytest.raises((AssertionError, jaxtyping.TypeCheckError)):
        case.loss(*arrays, last[:1])


@pytest.mark.parametrize("sweep", SWEPT.values(), ids=SWEPT.keys())
def test_hyper_parameters_can_be_swept_by_vmap(sweep):
    arrays = tuple(jnp.asarray(x) for x in draw(sweep.inputs, LEAD))
    mapped = jax.vmap(lambda value: sweep.loss(*arrays, **{sweep.name: value}))(
        jnp.array(sweep.values)
    )
    looped = jnp.stack([sweep.loss(*arrays, **{sweep.name: value}) for value in sweep.values])
    np.testing.assert_allclose(mapped, looped, rtol=1e-5, atol=1e-6)
    assert not np.allclose(looped[0], looped[2])
