"""log(1 - e^x): digits near 0 and far below, and what happens where there is no value."""

from math import expm1, log, log1p

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rlhf_jax.ops.logprobs import log1mexp

NEAR = [-1e-30, -1e-10, -1e-6, -1e-3, -0.3, -0.69]
FAR = [-0.7, -1.0, -3.0, -20.0, -80.0]


def test_golden_numbers():
    # log(1 - 1/2), log(1 - 1/4), log(1 - 3/4)
    x = jnp.log(jnp.array([0.5, 0.25, 0.75]))
    np.testing.assert_allclose(log1mexp(x), [-0.6931472, -0.2876821, -1.3862944], rtol=1e-6)


def test_keeps_its_digits_on_both_sides():
    """Against Python's float64, from the number that float32 holds."""
    exact = [log(-expm1(float(np.float32(x)))) for x in NEAR]
    np.testing.assert_allclose(log1mexp(jnp.array(NEAR)), exact, rtol=1e-6)
    exact = [log1p(-np.exp(float(np.float32(x)))) for x in FAR]
    np.testing.assert_allclose(log1mexp(jnp.array(FAR)), exact, rtol=1e-6)


def test_is_its_own_inverse():
    """p -> 1 - p twice."""
    x = jnp.array([-4.0, -1.0, -0.6931472, -0.5, -0.02])
    np.testing.assert_allclose(log1mexp(log1mexp(x)), x, rtol=1e-5)


@pytest.mark.long
def test_gradient():
    """d/dx log(1 - e^x) = -1 / (e^-x - 1), on both branches and at their seam."""
    x = jnp.array([-1e-30, -1e-3, -0.5, -0.6931472, -1.0, -30.0, -80.0])
    grad = jax.grad(lambda x: jnp.sum(log1mexp(x)))(x)
    exact = [-1.0 / expm1(-float(value)) for value in np.asarray(x)]
    np.testing.assert_allclose(grad, exact, rtol=1e-5)
    with jax.enable_x64(True):
        x = jnp.array([-0.01, -0.5, -0.7, -3.0])
        check_grads(lambda x: log1mexp(jnp.asarray(x)), (x,), order=2, eps=1e-6, rtol=1e-3)


@pytest.mark.long
@pytest.mark.parametrize(("dtype", "floor"), [("float32", -87.33655), ("bfloat16", -87.5)])
def test_at_and_above_zero_it_stops_at_the_smallest_normal_number(dtype, floor):
    x = jnp.array([0.0, 1.0, 1e4], dtype)
    value, grad = jax.value_and_grad(lambda x: jnp.sum(log1mexp(x)))(x)
    np.testing.assert_allclose(log1mexp(x).astype(jnp.float32), floor, rtol=1e-6)
    assert bool(jnp.isfinite(value))
    np.testing.assert_array_equal(grad.astype(jnp.float32), 0.0)
    assert log1mexp(x).dtype == dtype


def test_far_below_zero_it_is_zero():
    x = jnp.array([-1e4, -jnp.inf])
    grad = jax.grad(lambda x: jnp.sum(log1mexp(x)))(x)
    np.testing.assert_array_equal(log1mexp(x), 0.0)
    np.testing.assert_array_equal(grad, 0.0)
