"""Linear systems and Cholesky factors that are safe to batch on CPUs; sums at full precision.

XLA on CPU runs a batched LAPACK call as tasks on the thread pool that runs the program, and waits
for them. Two independent calls at once can wait for each other without end (seen with jaxlib 0.10.2
on two cores: `jnp.linalg.solve` under vmap hung). So a batch is a loop over its matrices on CPU,
and one call elsewhere.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float

# By default a GPU may round float32 factors to 10 bits, too coarse for exact solutions.
einsum = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def _safe(function: Callable[..., Array]) -> Callable[..., Array]:
    """`function` of single matrices, which a vmap turns into a loop on CPU."""
    by_one = sequential_vmap(function)
    return lambda *args: jax.lax.platform_dependent(*args, cpu=by_one, default=function)


_solve_one = _safe(jnp.linalg.solve)
_factor_one = _safe(jnp.linalg.cholesky)


def _differentiable_solve(matrix: Float[Array, "n n"], right: Float[Array, "n d"]) -> Array:
    """The derivative is another solve, with the transposed matrix in reverse mode."""
    return jax.lax.custom_linear_solve(
        lambda x: einsum("ij,jk->ik", matrix, x),
        right,
        solve=lambda _, b: _solve_one(matrix, b),
        transpose_solve=lambda _, b: _solve_one(matrix.T, b),
    )


def solve(
    matrix: Float[Array, "*#B n n"], right: Float[Array, "*#B n d"]
) -> Float[Array, "*B n d"]:
    """x with matrix x = right, for every matrix of a batch; differentiable in both.

    Args:
      matrix: [*B, n, n], not singular: otherwise inf or NaN.
      right: [*B, n, d]; leading axes broadcast.
    """
    return jnp.vectorize(_differentiable_solve, signature="(n,n),(n,d)->(n,d)")(matrix, right)


def invert(matrix: Float[Array, "*B n n"]) -> Float[Array, "*B n n"]:
    """The inverse of every matrix of a batch."""
    return solve(matrix, jnp.eye(matrix.shape[-1], dtype=matrix.dtype))


def cholesky(matrix: Float[Array, "*B n n"]) -> Float[Array, "*B n n"]:
    """Lower L with L L^T = matrix, for every symmetric positive definite matrix of a batch.

    NaN where a matrix is not positive definite. No derivative: it is for drawing noise.
    """
    return jnp.vectorize(_factor_one, signature="(n,n)->(n,n)")(jax.lax.stop_gradient(matrix))
