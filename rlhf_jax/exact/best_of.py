"""The law of the best of n answers, and what fine-tuning on it converges to, in closed form.

Shared arguments:
  probs: [*B, A] of the policy that draws, each row sums to 1.
  scores: [*B, A] by which the best is chosen; equal scores share in proportion to their
    probability, as the earliest of n independent draws does.
  n: answers drawn, an integer >= 1; an array may be traced.
Precision is that of the arguments.
"""

import chex
import jax
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


def prior_mixture(
    law: Float[Array, "*B A"], ref_probs: Float[Array, "*B A"], *, beta: Scalar
) -> Float[Array, "*B A"]:
    """What `superhf_loss` with the forward KL converges to on answers from a fixed law.

    argmin_p  -E_q log p + beta KL(pi_0 || p) = (q + beta pi_0) / (1 + beta).

    Args:
      law: q, e.g. `best_of_law` of the reference.
      beta: weight of the prior, >= 0.
    Reference: Mukobi et al. 2023, arXiv:2310.16763; the form is elementary.
    """
    check_range("[0, inf)", beta=beta)
    chex.assert_equal_shape([law, ref_probs])
    return (law + beta * ref_probs) / (1.0 + beta)


def prior_fixed_point(
    ref_probs: Float[Array, "*B A"],
    scores: Float[Array, "*B A"],
    *,
    n: Scalar,
    beta: Scalar,
    steps: int = 400,
) -> Float[Array, "*B A"]:
    """Where rounds of SuperHF end on a table: p = (BoN(p) + beta pi_0) / (1 + beta).

    Found by `steps` iterations from the reference, each half of the way; the last one moves less
    than 2^-steps where the best answer has mass, slowly near beta = n - 1, its critical value.

    Returns:
      [*B, A] p, each row sums to 1.
    """
    check_range("[1, inf)", steps=steps)

    def half(probs: Array, _: None) -> tuple[Array, None]:
        law = best_of_law(probs, scores, n=n)
        return 0.5 * (probs + prior_mixture(law, ref_probs, beta=beta)), None

    return jax.lax.scan(half, ref_probs, length=steps)[0]


def top_mass(
    ref_mass: Float[Array, "*B"], *, n: Scalar, beta: Scalar, halvings: int = 60
) -> Float[Array, "*B"]:
    """Mass h of the answer with the highest score at `prior_fixed_point`, from its reference's h_0.

    (1 + beta) h = 1 - (1 - h)^n + beta h_0.

    For h_0 -> 0 it is beta h_0 / (1 + beta - n) where beta > n - 1, and else a positive constant:
    the best answer is amplified to order 1 however rare it was, unless beta > n - 1.

    Args:
      ref_mass: h_0 in (0, 1].
      beta: > 0; at 0 the mass is 1.
      halvings: steps of the bisection.
    """
    check_range("[1, inf)", n=n)
    check_range("[0, inf)", beta=beta)

    def halve(_, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        above = 1.0 - (1.0 - middle) ** n + beta * ref_mass > (1.0 + beta) * middle
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    ends = jnp.zeros_like(ref_mass), jnp.ones_like(ref_mass)
    return jax.lax.fori_loop(0, halvings, halve, ends)[1]


def _best_of_row(
    probs: Float[Array, " A"], scores: Float[Array, " A"], n: Float[Array, ""]
) -> Float[Array, " A"]:
    """One row, by sorting."""
    # Ties are found among the outputs of the sort: a compiler may compute the scores again for each
    # use of them, and round differently.
    ordered, order = jax.lax.sort_key_val(scores, jnp.arange(scores.size))
    sorted_probs = probs[order]
    sums = jnp.concatenate([jnp.zeros(1, probs.dtype), jnp.cumsum(sorted_probs)])
    # Rounding of the sum would grow n-fold in each round of an iteration.
    sums = sums / sums[-1]
    below, upto = (jnp.searchsorted(ordered, ordered, side=side) for side in ("left", "right"))
    level, total = sums[upto] - sums[below], sums[upto]
    share = jnp.where(total > 0, level / jnp.where(total > 0, total, 1.0), 0.0)
    # F^n (1 - (1 - m / F)^n), not a difference of two numbers that are nearly equal.
    chosen = -(total**n) * jnp.expm1(n * jnp.log1p(-jnp.minimum(share, 1.0)))
    law = jnp.where(level > 0, sorted_probs / jnp.where(level > 0, level, 1.0) * chosen, 0.0)
    return jnp.zeros_like(law).at[order].set(law)
