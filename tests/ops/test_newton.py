"""Newton's method to the last digit: hard starts, both precisions, batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.ops.newton import newton_minimum


@pytest.fixture(params=[False, True], ids=["float32", "float64"])
def eps(request):
    with jax.enable_x64(request.param):
        yield float(jnp.finfo(jnp.zeros(()).dtype).eps)


def separable(ridge):
    """One comparison and a weak ridge: Newton's steps are about 1 long, and about 50 are needed."""
    return lambda x: jnp.sum(jax.nn.softplus(-x)) + ridge * jnp.sum(x**2) / 2


def test_a_far_minimum_is_reached(eps):
    """sigmoid(-x) = 1e-20 x at x = 42.3, where sigmoid is e^-x."""
    found = jax.jit(lambda x: newton_minimum(separable(1e-20), x))(jnp.zeros(1))
    x = float(found.params[0])
    assert np.exp(-x) == pytest.approx(1e-20 * x, rel=1e3 * eps)
    assert float(found.residual) < 1e3 * eps * 1e-20 * x


def test_a_step_that_would_overshoot_is_halved(eps):
    """sqrt(1 + x^2) is 0 by Newton's own steps only within 1: x <- -x^3."""
    found = newton_minimum(lambda x: jnp.sqrt(1 + x @ x), jnp.array([5.0]))
    assert abs(float(found.params[0])) < eps
    assert float(found.residual) < eps


@pytest.mark.long
def test_every_element_of_a_batch_is_solved(eps):
    starts, ridges = jnp.array([[0.0], [3.0], [-20.0]]), jnp.array([1.0, 1e-3, 1e-9])
    found = jax.vmap(lambda x, ridge: newton_minimum(separable(ridge), x))(starts, ridges)
    x = np.asarray(found.params[:, 0], np.float64)
    np.testing.assert_allclose(1 / (1 + np.exp(x)), ridges * x, rtol=1e3 * eps)


@pytest.mark.long
def test_a_hessian_of_zero_is_no_silent_answer():
    found = newton_minimum(jnp.sum, jnp.zeros(1))
    assert not float(found.residual) < 1.0
