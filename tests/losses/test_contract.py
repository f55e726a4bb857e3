"""What every loss owes, whatever it computes: shapes, gradients, transformations, finite numbers.

A family lists its losses in `cases_<family>.py`; a new loss joins by adding its row there. One
compiled step per loss serves most of these tests.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from loss_cases import draw, every_case, first_of_each_family

from rlhf_jax.ops.masking import weighted_mean

LEAD = (8, 3)

CASES, SWEPT = every_case()


def those(test):
    """Parametrises a test over the names of the cases for which `test(case)` holds."""
    return pytest.mark.parametrize("name", [name for name, case in CASES.items() if test(case)])


def keywords(case):
    return getattr(case.loss, "keywords", {})


every_loss = those(lambda case: True)
# The first case of each family always runs, the others at night: within a family they prove the
# same, and each costs a compilation of every primitive, or of a partitioned program.
FIRST = first_of_each_family()
each_family = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in FIRST else pytest.mark.slow) for n in CASES]
)
plain_loss = those(lambda case: not case.surrogate)
extreme_loss = those(lambda case: case.extremes)
extreme_beta = those(lambda case: "beta" in keywords(case))
joint_loss = those(lambda case: len(case.inputs) > 1)
boolean_loss = those(lambda case: any(x.dtype == bool for x in draw(case.inputs, (1,))))
masked_loss = those(lambda case: bool(case.masked))


def arrays_of(case, lead=LEAD, dtype=np.float32):
    return tuple(jnp.asarray(x) for x in draw(case.inputs, lead, dtype))


def floats(arrays):
    """Positions of the real inputs: the only ones that can have a gradient."""
    return tuple(i for i, x in enumerate(arrays) if jnp.issubdtype(x.dtype, jnp.floating))


def step(case, arrays, weights, beta=None):
    """Losses, and the gradient of their weighted mean to every real input."""
    loss = case.loss if beta is None else partial(case.loss, beta=beta)

    def mean(*arrays):
        losses = loss(*arrays)
        wide = jnp.broadcast_to(jnp.expand_dims(weights, range(2, losses.ndim)), losses.shape)
        return weighted_mean(losses, wide).value(), losses

    grads, losses = jax.grad(mean, argnums=floats(arrays), has_aux=True)(*arrays)
    return losses, grads


@cache
def compiled(name):
    return jax.jit(partial(step, CASES[name]))


def run(name, arrays, weights=None, beta=None):
    """`step`, compiled once for [8, 3] examples; beta is traced where the loss has one."""
    if beta is None:
        beta = keywords(CASES[name]).get("beta")
    weights = jnp.ones(LEAD) if weights is None else weights
    return compiled(name)(arrays, weights, None if beta is None else jnp.float32(beta))


def scale_of(x):
    return float(np.max(np.abs(np.asarray(x, np.float64)), initial=1e-6))


def assert_close(actual, expected, rtol=1e-5):
    """Equal up to rounding on the scale of the largest entry."""
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=0.1 * rtol * scale_of(expected))


def assert_close_grads(actual, expected, rtol=1e-4):
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other, rtol)


@every_loss
def test_one_loss_per_example(name):
    losses, _ = run(name, arrays_of(CASES[name]))
    assert losses.shape == (*LEAD, *CASES[name].out)
    assert losses.dtype == jnp.float32
    assert len(np.unique(losses)) > LEAD[0]


@each_family
def test_jit_equals_eager(name):
    arrays = arrays_of(CASES[name])
    losses, grads = run(name, arrays)
    eager_losses, eager_grads = step(CASES[name], arrays, jnp.ones(LEAD))
    assert_close(losses, eager_losses)
    assert_close_grads(grads, eager_grads)


@every_loss
def test_leading_axes_are_free(name):
    """vmap = batched = one example alone = another shape of the same examples."""
    loss, arrays = CASES[name].loss, arrays_of(CASES[name])

    @jax.jit
    def forms(*arrays):
        alone = loss(*(x[3, 2] for x in arrays))
        flat = loss(*(x.reshape(-1, *x.shape[2:]) for x in arrays))
        return jax.vmap(jax.vmap(loss))(*arrays), alone, flat

    batched, _ = run(name, arrays)
    mapped, alone, flat = forms(*arrays)
    assert_close(mapped, batched)
    assert_close(alone, batched[3, 2])
    assert_close(flat.reshape(batched.shape), batched)


@every_loss
def test_examples_do_not_see_each_other(name):
    arrays = arrays_of(CASES[name])
    order = np.random.default_rng(1).permutation(LEAD[0])
    losses, grads = run(name, arrays)
    shuffled, shuffled_grads = run(name, tuple(x[order] for x in arrays))
    assert_close(shuffled, losses[order], rtol=1e-6)
    assert_close_grads(shuffled_grads, [grad[order] for grad in grads], rtol=1e-6)


@plain_loss
def test_gradient_equals_finite_differences(name):
    """Along random directions, in float64, forwards and backwards."""
    case = CASES[name]
    with jax.enable_x64(True):
        arrays = arrays_of(case, lead=(6,), dtype=np.float64)
        rng = np.random.default_rng(2)
        directions = [jnp.asarray(rng.standard_normal(arrays[i].shape)) for i in case.trained]

        @jax.jit
        def slopes(arrays, directions):
            def loss(*trained):
                data = list(arrays)
                for i, x in zip(case.trained, trained, strict=True):
                    data[i] = x
                return case.loss(*data)

            trained = [arrays[i] for i in case.trained]
            moved = [
                loss(*(x + eps * v for x, v in zip(trained, directions, strict=True)))
                for eps in (1e-5, -1e-5)
            ]
            _, forwards = jax.jvp(loss, trained, directions)
            grads = jax.grad(lambda *x: jnp.sum(loss(*x)), argnums=range(len(trained)))(*trained)
            backwards = sum(jnp.sum(grad * v) for grad, v in zip(grads, directions, strict=True))
            return (moved[0] - moved[1]) / 2e-5, forwards, backwards

        measured, forwards, backwards = jax.device_get(slopes(arrays, directions))
    np.testing.assert_allclose(forwards, measured, rtol=1e-5, atol=1e-6 * scale_of(measured))
    np.testing.assert_allclose(backwards, np.sum(forwards), rtol=1e-9, atol=1e-12)


@every_loss
def test_only_what_is_trained_gets_a_gradient(name):
    arrays = arrays_of(CASES[name])
    _, grads = run(name, arrays)
    for i, grad in zip(floats(arrays), grads, strict=True):
        assert bool(jnp.any(grad != 0)) == (i in CASES[name].trained)


@every_loss
def test_examples_of_weight_zero_never_matter(name):
    arrays = arrays_of(CASES[name])
    weights = jnp.ones(LEAD).at[6:].set(0.0)
    losses, grads = run(name, arrays, weights)
    others = tuple(x.at[6:].set(x[:2]) for x in arrays)
    other_losses, other_grads = run(name, others, weights)
    np.testing.assert_array_equal(other_losses[:6], losses[:6])
    for other_grad, grad in zip(other_grads, grads, strict=True):
        np.testing.assert_array_equal(other_grad, grad)
        np.testing.assert_array_equal(grad[6:], 0.0)


def corners(case):
    """Real inputs at -1e4, 0 or 1e4, all steps of a row alike, in every combination, by 24."""
    template = draw(case.inputs, LEAD)
    places = floats(template)
    table = np.array(np.meshgrid(*[[-1e4, 0.0, 1e4]] * len(places))).reshape(len(places), -1)
    size = LEAD[0] * LEAD[1]
    for start in range(0, table.shape[1], size):
        rows = np.arange(start, start + size) % table.shape[1]
        arrays = list(template)
        for i, values in zip(places, table, strict=True):
            column = values[rows].reshape(*LEAD, *[1] * (template[i].ndim - 2))
            arrays[i] = np.broadcast_to(column, template[i].shape).astype(np.float32)
        yield tuple(jnp.asarray(x) for x in arrays)


def assert_finite(name, arrays, beta=None):
    losses, grads = run(name, arrays, beta=beta)
    assert bool(jnp.all(jnp.isfinite(losses)))
    assert all(bool(jnp.all(jnp.isfinite(grad))) for grad in grads)


@extreme_loss
def test_extreme_inputs_give_finite_losses_and_gradients(name):
    for arrays in corners(CASES[name]):
        assert_finite(name, arrays)


@extreme_beta
def test_extreme_betas_give_finite_losses_and_gradients(name):
    case = CASES[name]
    for beta in (1e-6, 1e3):
        for arrays in corners(case) if case.extremes else [arrays_of(case)]:
            assert_finite(name, arrays, beta)


@boolean_loss
def test_masks_and_labels_may_be_all_alike(name):
    """An empty completion, a row without padding, a batch of one class."""
    for value in (False, True):
        arrays = arrays_of(CASES[name])
        arrays = (jnp.full_like(x, value) if x.dtype == bool else x for x in arrays)
        assert_finite(name, tuple(arrays))


@masked_loss
def test_what_lies_under_the_mask_never_matters(name):
    """Not even NaN, in the loss or in a gradient; an all-masked row has loss 0 and gradient 0."""
    case, arrays = CASES[name], list(arrays_of(CASES[name]))
    arrays[case.mask] = mask = arrays[case.mask].at[0].set(False)
    spoiled = list(arrays)
    for i in case.masked:
        spoiled[i] = jnp.where(mask, arrays[i], jnp.nan)
    losses, grads = run(name, tuple(arrays))
    spoiled_losses, spoiled_grads = run(name, tuple(spoiled))
    np.testing.assert_array_equal(spoiled_losses, losses)
    np.testing.assert_array_equal(losses[0], 0.0)
    for place, grad, spoiled_grad in zip(floats(arrays), grads, spoiled_grads, strict=True):
        np.testing.assert_array_equal(spoiled_grad, grad)
        if place in case.masked:
            np.testing.assert_array_equal(grad[~mask], 0.0)


@masked_loss
def test_a_hole_in_the_mask_is_as_if_cut_out(name):
    """Only the order of what counts matters: the rest may lie before it and in its middle."""
    case, arrays = CASES[name], list(arrays_of(CASES[name]))
    mask = np.asarray(arrays[case.mask])
    holed = np.random.default_rng(3).permuted(mask, axis=-1)
    steps = [i for i, x in enumerate(arrays) if x.shape == mask.shape]
    moved = list(arrays)
    for i in steps:
        spread = np.full_like(arrays[i], np.nan if i in case.masked else 0)
        spread[holed] = np.asarray(arrays[i])[mask]  # both walk the rows in order
        moved[i] = jnp.asarray(spread)
    losses, grads = run(name, tuple(arrays))
    holed_losses, holed_grads = run(name, tuple(moved))
    tail = tuple(range(len(LEAD), losses.ndim))  # losses of steps move with them
    assert_close(jnp.sum(holed_losses, tail), jnp.sum(losses, tail))
    for i, holed_grad, grad in zip(floats(arrays), holed_grads, grads, strict=True):
        pair = (holed_grad[holed], grad[mask]) if i in steps else (holed_grad, grad)
        assert_close(*pair, rtol=1e-4)


@each_family
def test_eight_devices_equal_one(name):
    arrays = arrays_of(CASES[name])
    assert jax.device_count() >= 8
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("batch"))
    losses, grads = run(name, arrays)
    sharded_losses, sharded_grads = run(
        name, jax.device_put(arrays, sharding), jax.device_put(jnp.ones(LEAD), sharding)
    )
    assert_close(sharded_losses, losses)
    assert_close_grads(sharded_grads, grads, rtol=1e-5)
    for grad in (*sharded_grads, sharded_losses):
        assert len(grad.sharding.device_set) == 8


@joint_loss
def test_losses_never_broadcast(name):
    *arrays, last = arrays_of(CASES[name])
    # The type checker of the test run may speak first; outside it, chex does.
    with pytest.raises((AssertionError, jaxtyping.TypeCheckError)):
        CASES[name].loss(*arrays, last[:1])


@pytest.mark.parametrize("sweep", SWEPT.values(), ids=SWEPT.keys())
def test_hyper_parameters_can_be_swept_by_vmap(sweep):
    arrays = tuple(jnp.asarray(x) for x in draw(sweep.inputs, LEAD))

    def one(value):
        return sweep.loss(*arrays, **{sweep.name: value})

    mapped = jax.jit(jax.vmap(one))(jnp.array(sweep.values))
    for place, value in enumerate(sweep.values):
        assert_close(mapped[place], one(value))
    assert not np.allclose(mapped[0], mapped[2])
