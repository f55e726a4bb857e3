"""Solves and factors of batches: against LAPACK in NumPy, their derivative, two at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rlhf_jax.ops.linear_systems import cholesky, invert, solve

RNG = np.random.default_rng(0)
MATRICES = jnp.asarray(RNG.normal(size=(2, 3, 4, 4)) + 3 * np.eye(4), jnp.float32)
RIGHTS = jnp.asarray(RNG.normal(size=(2, 3, 4, 2)), jnp.float32)


@pytest.mark.long
def test_batches_are_solved_as_by_lapack():
    want = np.linalg.solve(np.asarray(MATRICES, float), np.asarray(RIGHTS, float))
    np.testing.assert_allclose(jax.jit(solve)(MATRICES, RIGHTS), want, rtol=1e-4, atol=1e-5)
    mapped = jax.jit(jax.vmap(solve, in_axes=(0, None)))(MATRICES, RIGHTS[0])
    want = np.linalg.solve(np.asarray(MATRICES, float), np.asarray(RIGHTS[0], float))
    np.testing.assert_allclose(mapped, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        invert(MATRICES) @ MATRICES, np.broadcast_to(np.eye(4), (2, 3, 4, 4)), atol=1e-5
    )


def test_the_derivative_is_that_of_the_solution():
    check_grads(jax.jit(solve), (MATRICES[0], RIGHTS[0]), order=1, modes=["fwd", "rev"], rtol=0.02)


def test_factors():
    square = MATRICES @ MATRICES.mT
    lower = jax.jit(cholesky)(square)
    np.testing.assert_allclose(lower @ lower.mT, square, rtol=1e-4, atol=1e-4)
    assert not jnp.triu(lower, 1).any()
    assert bool(jnp.isnan(cholesky(-square)[..., 0, 0]).all())


def test_no_batched_call_is_left_on_cpu():
    """Two independent batched LAPACK calls in one program may wait for each other for ever."""

    @jax.jit
    def two(matrices, rights):
        return jax.vmap(solve)(matrices, rights), solve(matrices.mT, rights), cholesky(matrices)

    text = two.lower(MATRICES, RIGHTS).as_text()
    calls = [line for line in text.splitlines() if "lapack" in line and "custom_call" in line]
    assert calls
    assert [line for line in calls if "tensor<2x3x4x4" in line or "tensor<3x4x4" in line] == []
    jax.block_until_ready(two(MATRICES, RIGHTS))
