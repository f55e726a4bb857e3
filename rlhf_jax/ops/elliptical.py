"""Elliptical norms ||x||_{A^-1} of a ridge design matrix A, updated one vector at a time.

A = ridge I + sum_i w_i x_i x_i^T is never stored. Its inverse is, and every vector adds a known
amount to its log-determinant. The norm is the uncertainty of a linear regression along x.

Shared arguments, unless a function says otherwise:
  vectors: [*B, d] x.
  inverse: [d, d] A^-1, symmetric positive definite.
  weight: w >= 0; 0 leaves A unchanged, which masks a vector out. May be traced.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_entries, check_range
from rlhf_jax.types import Scalar


def initial_inverse(num_features: int, *, ridge: Scalar) -> Float[Array, "d d"]:
    """A^-1 = I / ridge, before any vector; ridge > 0."""
    check_range("(0, inf)", ridge=ridge)
    check_range("[1, inf)", num_features=num_features)
    return jnp.eye(num_features) / ridge


def elliptical_norms(
    vectors: Float[Array, "*B d"], inverse: Float[Array, "d d"]
) -> Float[Array, "*B"]:
    """||x||_{A^-1} = sqrt(x^T A^-1 x): [*B], in [0, ||x||_2 / sqrt(ridge)]."""
    squares = jnp.einsum("...i,ij,...j->...", vectors, inverse, vectors)
    return jnp.sqrt(jnp.maximum(squares, 0.0))  # rounding may make a square negative


def rank_one_inverse(
    inverse: Float[Array, "*B d d"],
    vectors: Float[Array, "*B d"],
    *,
    weight: Scalar | Float[Array, "*B"] = 1.0,
) -> Float[Array, "*B d d"]:
    """(A + w x x^T)^-1 = A^-1 - w (A^-1 x)(A^-1 x)^T / (1 + w x^T A^-1 x), Sherman and Morrison.

    Args:
      inverse: [*B, d, d] A^-1 of each vector.
    Returns:
      [*B, d, d], exactly symmetric. O(d^2).
    Reference: Sherman and Morrison 1950.
    """
    check_entries("[0, inf)", weight=weight)
    weight = jnp.asarray(weight, inverse.dtype)
    solved = jnp.einsum("...ij,...j->...i", inverse, vectors)
    growth = 1.0 + weight * jnp.sum(vectors * solved, axis=-1)
    share = (weight / growth)[..., None, None]
    # A vector times itself is symmetric to the last digit, so the inverse stays symmetric.
    return inverse - share * (solved[..., :, None] * solved[..., None, :])


def log_det_increase(
    inverse: Float[Array, "d d"],
    vectors: Float[Array, "*B d"],
    *,
    weight: Scalar | Float[Array, "*B"] = 1.0,
) -> Float[Array, "*B"]:
    """log det(A + w x x^T) - log det A = log(1 + w ||x||^2_{A^-1}), for each x separately.

    In nats: the D-optimal score, twice the information about a Gaussian linear model.
    """
    check_entries("[0, inf)", weight=weight)
    return jnp.log1p(weight * elliptical_norms(vectors, inverse) ** 2)


def log_det_bound(
    count: Scalar | Float[Array, "*B"], *, num_features: int, length: Scalar, ridge: Scalar
) -> Float[Array, "*B"]:
    """Elliptical potential: log det A - log det(ridge I) <= d log(1 + n L^2 / (d ridge)), in nats.

    By Jensen: det A <= (tr A / d)^d.

    Args:
      count: n >= 0 vectors, of weight at most 1.
      num_features: d.
      length: L, the largest length of a vector.
      ridge: > 0.
    Reference: Abbasi-Yadkori et al. 2011, Lemma 10.
    """
    check_entries("[0, inf)", count=count)
    check_range("[1, inf)", num_features=num_features)
    check_range("[0, inf)", length=length)
    check_range("(0, inf)", ridge=ridge)
    return num_features * jnp.log1p(jnp.asarray(count) * length**2 / (num_features * ridge))
