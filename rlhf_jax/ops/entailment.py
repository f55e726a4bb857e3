"""Yes or no from the logits of a language model: log-odds, also for each of several principles.

r(x, y, c) = log P(yes | x, y, c) - log P(no | x, y, c): does the answer y to x follow principle c?

Unlike a Bradley-Terry score, r has an absolute zero: 0 is undecided, and scores of different
prompts can be compared. It is unbounded: one near-certain verdict can dominate the mean and the
deviation of a group, so clip r before a policy is trained on it. Of several principles, r is
[C, *B] as the members of an ensemble are: `mean_scores` and `worst_case_scores` of `ops.ensembles`
are their mean and "all must hold".
"""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.checks import check_ids, check_mask, check_range, entries
from rlhf_jax.types import Scalar


def entailment_log_odds(
    logits: Float[Array, "*B V"], *, yes: Sequence[int], no: Sequence[int]
) -> Float[Array, "*B"]:
    """Log-odds of yes against no at one place of the vocabulary.

    r = log sum_{v in yes} P(v) - log sum_{v in no} P(v); the other tokens cancel.

    Args:
      logits: [*B, V] where the verdict is to be written.
      yes, no: ids of the tokens that say so, all spellings of each: "Yes", " yes".
    Raises:
      ValueError: no ids, one that is on both sides, or one outside [0, V).
    Reduces to: z_yes - z_no with one spelling of each.
    Reference: Wang et al. 2025, arXiv:2509.21319.
    """
    said = check_verdict_ids(logits.shape[-1], yes=yes, no=no)
    return jax.nn.logsumexp(logits[..., said[0]], -1) - jax.nn.logsumexp(logits[..., said[1]], -1)


def check_verdict_ids(
    size: int, *, yes: Sequence[int], no: Sequence[int]
) -> tuple[Int[Array, " Y"], Int[Array, " N"]]:
    """Both sides as arrays.

    Raises:
      ValueError: as of `entailment_log_odds`.
    """
    for name, ids in (("yes", yes), ("no", no)):
        if not len(ids) or not all(0 <= each < size for each in ids):
            raise ValueError(f"{name} must have ids of tokens in [0, {size}), got {tuple(ids)}")
    if both := set(yes) & set(no):
        raise ValueError(f"the tokens {sorted(both)} say both yes and no")
    return jnp.asarray(yes), jnp.asarray(no)


def signed_log_odds(
    log_odds: Float[Array, "*B"], labels: Bool[Array, "*B"], *, clip: Scalar = 10.0
) -> Float[Array, "*B"]:
    """Reward of a judge's verdict when the right one is known.

    R = s clip(r, -c, c),   s = 1 where the answer follows the principle and -1 where it does not.

    Args:
      log_odds: r, after the judge's own reasoning. labels: True where the answer follows it.
      clip: c > 0.
    Reference: Wang et al. 2025, arXiv:2509.21319, training of the generative reward model.
    Departs: the clip; the paper's own form was not available to us.
    """
    check_range("(0, inf]", clip=clip)
    check_mask(labels=labels)
    chex.assert_equal_shape([log_odds, labels])
    bounded = jnp.clip(log_odds, -clip, clip)
    return jnp.where(labels, bounded, -bounded)


def scores_under(scores: Float[Array, "C *B"], principles: Int[Array, "*B"]) -> Float[Array, "*B"]:
    """The score of each answer under its own principle, NaN for a number outside [0, C).

    Args:
      scores: [C, *B] under every principle. principles: [*B] number of the principle.
    """
    check_ids(principles=principles)
    chex.assert_equal_shape([scores[0], principles])
    return entries(jnp.moveaxis(scores, 0, -1), principles=principles)
