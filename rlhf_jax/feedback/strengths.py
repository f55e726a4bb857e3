"""Labels repaired by the strength of a preference, as columns for a loss.

    strengths = preference_strengths(chosen_scores, rejected_scores)          # by N voters, [N, B]
    columns = {"prefs": flipped_prefs(strengths.means, share=0.2), "gaps": strengths.means}
    loss = soft_margin_bradley_terry_loss              # reads both; gaps = 0 for no margin

`prefs` is the probability that the label is right. A pair with prefs = 0 is the pair with its
answers swapped and its margin negated, so the gap of a flipped pair is used as it is.

Shared arguments:
  strengths: [N] mu of all pairs, see `ops.ensembles.preference_strengths`. One that is not finite,
    of voters that diverged, is a ValueError: it would sort as the strongest.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.checks import check_entries, check_range
from rlhf_jax.types import Scalar


def weakest_pairs(strengths: Float[Array, " N"], *, share: float) -> Bool[Array, " N"]:
    """True for the pairs of lowest strength, round(share N) of them; of equal ones the first.

    Args:
      share: in [0, 1].
    """
    check_range("[0, 1]", share=share)
    check_entries("(-inf, inf)", strengths=strengths)
    ranks = jnp.argsort(jnp.argsort(strengths, stable=True), stable=True)
    return ranks < round(share * strengths.shape[0])


def flipped_prefs(strengths: Float[Array, " N"], *, share: float) -> Float[Array, " N"]:
    """q = 0 for the pairs of lowest strength, whose labels are flipped, and 1 for the others.

    Args:
      share: of all pairs, in [0, 1]; the paper flips 0.1 and 0.2.
    Reference: Wang et al. 2024, arXiv:2401.06080.
    """
    return 1.0 - weakest_pairs(strengths, share=share).astype(strengths.dtype)


def softened_prefs(strengths: Float[Array, " N"], *, label_smoothing: Scalar) -> Float[Array, " N"]:
    """q = 1 - h where the strength is below 0, and 1 elsewhere.

    Args:
      label_smoothing: h in [0, 1]: at 1/2 a doubtful pair only pulls its scores together, below
        1/2 its label still wins, at 1 it is flipped. May be traced.
    Reference: Wang et al. 2024, arXiv:2401.06080, Eq. 5; the paper does not print h.
    """
    check_range("[0, 1]", label_smoothing=label_smoothing)
    check_entries("(-inf, inf)", strengths=strengths)
    return jnp.where(strengths < 0, 1.0 - label_smoothing, jnp.ones_like(strengths))
