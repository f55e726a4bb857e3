"""The law of the best of n answers, and what fine-tuning on it converges to, in closed form.

Shared arguments:
  probs: [*B, A] of the policy that draws, each row sums to 1.
  scores: [*B, A] by which the best is chosen; equal scores share in proportion to their
    probability, as the earliest of n independent draws does.
  n: answers drawn, an integer >= 1; an array may be traced.
Precision is that of the arguments.
"""

import chex
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range
from rlhf_jax.types import Scalar


def best_of_law(
    probs: Float[Array, "*B A"], scores: Float[Array, "*B A"], *, n: Scalar
) -> Float[Array, "*B A"]:
    """Probability that an answer is the best of n draws.

    P(a) = pi(a) / m (F^n - (F - m)^n),   F = pi(r <= r_a), m = pi(r = r_a).

    It is the exact step of RAFT on a table: T steps with n draws are one step with n^T.

    Returns:
      [*B, A], each row sums to 1; `probs` at n = 1.
    Reference: Dong et al. 2023, arXiv:2304.06767, for the step; the law is elementary.
    """
    check_range("[1, inf)", n=n)
    chex.assert_equal_shape([probs, scores])
    law = jnp.vectorize(_best_of_row, signature="(a),(a),()->(a)")
    return law(probs, scores, jnp.asarray(n, probs.dtype))


def _best_of_row(
    probs: Float[Array, " A"], scores: Float[Array, " A"], n: Float[Array, ""]
) -> Float[Array, " A"]:
    """One row, by sorting."""
    order = jnp.argsort(scores)
    ordered = scores[order]
    sums = jnp.concatenate([jnp.zeros(1, probs.dtype), jnp.cumsum(probs[order])])
    below, upto = (jnp.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
    level, total = sums[upto] - sums[below], sums[upto]
    share = jnp.where(total > 0, level / jnp.where(total > 0, total, 1.0), 0.0)
    # F^n (1 - (1 - m / F)^n), not a difference of two numbers that are nearly equal.
    chosen = -(total**n) * jnp.expm1(n * jnp.log1p(-jnp.minimum(share, 1.0)))
    return jnp.where(level > 0, probs / jnp.where(level > 0, level, 1.0) * chosen, 0.0)
