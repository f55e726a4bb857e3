"""Advantages from the scores of K answers to one prompt. Nothing whitens; see `ops.masking.whiten`.

Shared arguments and results, unless a function says otherwise:
  scores: [*B, K] R, one number per answer; the last axis is the group. An answer without a finite
    score counts as missing: `scored_answers` marks the others.
  mask: [*B, K] True where the answer exists, G of them; None for all. Values under False never
    matter, NaN included.
  eps: added to the standard deviation, >= 0. May be traced.
Advantages are [*B, K], 0 for missing answers, and sum to 0 over a group. A group with fewer than
two answers, or with equal scores, has nothing to compare and gets exactly 0: no rounding error is
divided by a tiny number. Shapes are checked at trace time.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.checks import check_mask, check_range
from rlhf_jax.ops.logprobs import ratios
from rlhf_jax.ops.masking import centred, masked_mean
from rlhf_jax.types import Scalar


def scored_answers(
    scores: Float[Array, "*B K"], mask: Bool[Array, "*B K"] | None = None
) -> Bool[Array, "*B K"]:
    """True where an answer exists and its score is finite: the answers that count in this module.

    The mean over the mask is the share of answers that were scored.
    """
    finite = jnp.isfinite(scores)
    if mask is None:
        return finite
    chex.assert_equal_shape([scores, mask])
    check_mask(mask=mask)
    return mask & finite


def group_centred_advantages(
    scores: Float[Array, "*B K"], mask: Bool[Array, "*B K"] | None = None
) -> Float[Array, "*B K"]:
    """Group-centred advantages (Dr. GRPO): no division by a deviation.

    A_i = R_i - mean_j R_j, over the answers of one prompt.

    The mean contains R_i itself, so the gradient it gives is (G - 1) / G of the exact one.

    Needs: groups of scores.
    Reduces to: (G - 1) / G times `leave_one_out_advantages`.
    Reference: Liu et al. 2025, arXiv:2503.20783, Section 3.2.
    """
    return _centred(scores, mask)[0]


def group_normalised_advantages(
    scores: Float[Array, "*B K"],
    mask: Bool[Array, "*B K"] | None = None,
    *,
    eps: Scalar = 1e-4,
) -> Float[Array, "*B K"]:
    """Group-normalised advantages (GRPO).

    A_i = (R_i - mean_j R_j) / (std_j R_j + eps), with Bessel's correction in std.

    They do not depend on the scale of the scores, so every prompt weighs the same: a prompt with
    similar scores weighs more than in the gradient of the expected score, which this does not
    estimate.

    Needs: groups of scores.
    Reduces to: `group_centred_advantages` divided by std + eps.
    Reference: Shao et al. 2024, arXiv:2402.03300, Section 4.1.2.
    Departs: the paper writes no eps and does not say which std; both are those of the TRL trainer.
    """
    check_range("[0, inf)", eps=eps)
    centred, count = _centred(scores, mask)
    variance = jnp.sum(centred**2, axis=-1, keepdims=True) / jnp.maximum(count - 1.0, 1.0)
    # The slope of sqrt is infinite at 0; two `where`s keep NaN out of the gradient.
    spread = variance != 0
    std = jnp.sqrt(jnp.where(spread, variance, 1.0))
    return jnp.where(spread, centred / (std + eps), 0.0)


def leave_one_out_advantages(
    scores: Float[Array, "*B K"], mask: Bool[Array, "*B K"] | None = None
) -> Float[Array, "*B K"]:
    """Leave-one-out advantages (RLOO): the baseline is the mean of the others.

    A_i = R_i - mean_{j != i} R_j = G / (G - 1) (R_i - mean_j R_j).

    The baseline does not depend on answer i, so the policy gradient stays unbiased.

    Needs: groups of scores.
    Reduces to: G / (G - 1) times `group_centred_advantages`; +-(R_1 - R_2) at G = 2.
    Reference: Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free!"; Ahmadian et
      al. 2024, arXiv:2402.14740.
    """
    centred, count = _centred(scores, mask)
    return centred * count / jnp.maximum(count - 1.0, 1.0)


def remax_advantages(
    scores: Float[Array, "*B K"],
    greedy_scores: Float[Array, "*B"],
    mask: Bool[Array, "*B K"] | None = None,
) -> Float[Array, "*B K"]:
    """ReMax advantages: the baseline is the score of the greedy answer.

    A_i = R_i - R(greedy answer of the same policy to the same prompt).

    The baseline does not depend on the sampled answers, so the policy gradient stays unbiased at
    any K, including 1. Advantages need not sum to 0, nor be 0 for equal scores.

    Args:
      greedy_scores: [*B] of the answer decoded greedily; if not finite, the group gets 0.
    Needs: scores, greedy scores.
    Reference: Li et al. 2023, arXiv:2310.10505, Algorithm 1.
    """
    chex.assert_equal_shape([scores[..., 0], greedy_scores])
    compared = scored_answers(scores, mask) & jnp.isfinite(greedy_scores)[..., None]
    return jnp.where(compared, scores - greedy_scores[..., None], 0.0)


def pairwise_advantages(
    gaps: Float[Array, "*B K K"],
    mask: Bool[Array, "*B K"] | None = None,
    *,
    eps: Scalar = 1e-4,
    root_eps: Scalar = 0.0,
) -> Float[Array, "*B K"]:
    """GRPO's advantages from comparisons instead of scores (pairwise RLHF of Think-RM).

    A_i = (1/G) sum_j D_ij / (sqrt( sum_ij D_ij^2 / (2 G (G - 1)) + eps' ) + eps).

    They are also 0 where all comparisons are even, and where each answer wins as much as it loses
    (a cycle).

    Args:
      gaps: [*B, K, K] D_ij, by how much answer i beats answer j: antisymmetric, such as a
        difference of scores or P(i beats j) - 1/2. The diagonal and comparisons that are not finite
        count as 0; an answer without any finite comparison is missing.
      eps: added to the deviation, >= 0; it keeps rounding errors of even comparisons small.
      root_eps: eps' >= 0, added to the variance; the paper's code has 1e-6 here, and eps = 0. It
        shrinks advantages where |D| is near 1e-3, as that code's verdicts of long judgements are.
    Needs: groups of pairwise comparisons.
    Reduces to: `group_normalised_advantages` with the same eps at D_ij = R_i - R_j and eps' = 0.
    Reference: Hong et al. 2025, arXiv:2505.16265 (Think-RM), read in its code.
    Departs: eps stands outside the root, so that it is GRPO's; comparisons that are missing.
    """
    check_range("[0, inf)", eps=eps, root_eps=root_eps)
    counted = jnp.isfinite(gaps) & ~jnp.eye(gaps.shape[-1], dtype=bool)
    chex.assert_equal_shape([gaps, counted])
    if mask is not None:
        chex.assert_equal_shape([gaps[..., 0], mask])
        check_mask(mask=mask)
        counted &= mask[..., :, None] & mask[..., None, :]
    gaps = jnp.where(counted, gaps, 0.0)
    count = jnp.sum(jnp.any(counted, axis=-1), axis=-1, keepdims=True, dtype=gaps.dtype)
    pairs = jnp.maximum(2.0 * count * (count - 1.0), 1.0)
    variance = jnp.sum(gaps**2, axis=(-2, -1))[..., None] / pairs
    spread = variance != 0
    std = jnp.sqrt(jnp.where(spread, variance + root_eps, 1.0))
    row_means = jnp.sum(gaps, axis=-1) / jnp.maximum(count, 1.0)
    return jnp.where(spread, row_means / (std + eps), 0.0)


def informative_groups(
    scores: Float[Array, "*B K"], mask: Bool[Array, "*B K"] | None = None
) -> Bool[Array, "*B"]:
    """[*B] True for groups to learn from: two answers at least, not all scores equal.

    Dynamic sampling drops the others and draws again.

    Needs: groups of scores.
    Reference: Yu et al. 2025, arXiv:2503.14476, Section 3.2 (dynamic sampling of DAPO).
    """
    mask = scored_answers(scores, mask)
    highest = jnp.max(jnp.where(mask, scores, -jnp.inf), axis=-1)
    lowest = jnp.min(jnp.where(mask, scores, jnp.inf), axis=-1)
    return (jnp.sum(mask, axis=-1) > 1) & (highest != lowest)


def signal_probability(success: Float[Array, "*B"], samples: int | Scalar) -> Float[Array, "*B"]:
    """Probability that K answers, each right with probability p, are not all alike.

    S = 1 - p^K - (1 - p)^K,   the expected share of `informative_groups` under a reward of 0 and 1.

    It is largest at p = 1/2; a chain of L steps, each right with a, has p = a^L. Which groups carry
    a signal is all it says: normalised advantages are as large for 1 right answer of 8 as for 4.

    Args:
      success: [*B] p in [0, 1].
      samples: K >= 1; may be traced.
    Needs: success rates.
    """
    check_range("[1, inf)", samples=samples)
    # 1 - (1 - p)^K for small p without cancellation.
    any_right = -jnp.expm1(samples * jnp.log1p(-jnp.minimum(success, 1.0 - 1e-7)))
    return jnp.where(success < 1.0, any_right - success**samples, 0.0)


def score_spread(
    scores: Float[Array, "*B K"], mask: Bool[Array, "*B K"] | None = None
) -> Float[Array, "*B"]:
    """Difference score of MetaRM: how well a reward model tells the answers to a prompt apart.

    J = 2 / G^2 sum_{i < j} sigmoid(|R_i - R_j|),   in [ (G - 1) / (2 G), (G - 1) / G ].

    It is least where all scores are equal, and has no slope there; 0 with fewer than two answers.

    Needs: groups of scores.
    Reference: Wang et al. 2024, arXiv:2401.06080, Eq. 11.
    """
    counted = scored_answers(scores, mask)
    scores = jnp.where(counted, scores, 0.0)
    pairs = counted[..., :, None] & counted[..., None, :] & ~jnp.eye(scores.shape[-1], dtype=bool)
    gaps = jnp.abs(scores[..., :, None] - scores[..., None, :])
    total = jnp.sum(jnp.where(pairs, jax.nn.sigmoid(gaps), 0.0), axis=(-2, -1))
    return total / jnp.maximum(jnp.sum(counted, axis=-1, dtype=scores.dtype), 1.0) ** 2


def pair_measures(
    logps: Float[Array, "*B K"],
    old_logps: Float[Array, "*B K"],
    scores: Float[Array, "*B K"],
    *,
    clip_eps: Scalar,
) -> dict[str, Float[Array, "*B"]]:
    """What the value of P3O does not say: means over the pairs of a prompt's scored answers.

    rho = pi / pi_old of an answer, g = rho_i / rho_j of a pair i < j. "ratios/mean" is that of
    rho; "ratios/separate_clip" the share of rho outside 1 - eps, 1 + eps, "ratios/joint_clip" that
    of g; "pairs/agreement" that of (R_i - R_j) log g, which rises as better answers become likelier
    than worse ones. All are 0 in a group without a pair.

    Args:
      logps, old_logps: [*B, K] of whole answers, in nats.
      clip_eps: eps > 0 of the loss; inf allowed.
    Needs: groups of scored answers, old policy.
    Reference: Wu et al. 2023, arXiv:2310.00212.
    """
    check_range("(0, inf]", clip_eps=clip_eps)
    chex.assert_equal_shape([logps, old_logps, scores])
    scored = scored_answers(scores)
    gaps = jnp.where(scored, logps - old_logps, 0.0)
    scores = jnp.where(scored, scores, 0.0)
    pairs = jnp.triu(scored[..., :, None] & scored[..., None, :], 1)
    log_g = gaps[..., :, None] - gaps[..., None, :]
    outside = jnp.abs(ratios(gaps, jnp.zeros_like(gaps)) - 1.0) > clip_eps
    joint = (log_g < jnp.log(jnp.maximum(1.0 - clip_eps, 0.0))) | (log_g > jnp.log1p(clip_eps))

    def over_pairs(x: Array) -> Array:
        return masked_mean(x.astype(gaps.dtype), pairs, axis=(-2, -1))

    def of_answers(x: Array) -> Array:
        """Every scored answer is in as many pairs."""
        known = scored & (jnp.sum(scored, axis=-1, keepdims=True) > 1)
        return masked_mean(x.astype(gaps.dtype), known, axis=-1)

    return {
        "ratios/mean": of_answers(ratios(gaps, jnp.zeros_like(gaps))),
        "ratios/separate_clip": of_answers(outside),
        "ratios/joint_clip": over_pairs(joint),
        "pairs/agreement": over_pairs((scores[..., :, None] - scores[..., None, :]) * log_g),
    }


def overlong_penalty(
    lengths: Int[Array, "*B"] | Float[Array, "*B"],
    *,
    max_length: int | Scalar,
    cache: int | Scalar,
) -> Float[Array, "*B"]:
    """Soft over-length penalty (DAPO), in [-1, 0], to be added to the scores.

    0 while |y| <= L - c,   (L - c - |y|) / c up to |y| = L,   -1 beyond.

    Args:
      lengths: [*B] |y| >= 0, counted tokens of each answer.
      max_length: L > 0, the length from which the penalty is full. May be traced.
      cache: c in (0, L], the number of tokens over which the penalty grows. May be traced.
    Needs: lengths.
    Reference: Yu et al. 2025, arXiv:2503.14476, Section 3.4.
    """
    check_range("(0, inf)", max_length=max_length, cache=cache)
    check_range("(0, 1]", **{"cache / max_length": cache / max_length})
    return jnp.clip((max_length - cache - lengths) / cache, -1.0, 0.0)


def _centred(
    scores: Float[Array, "*B K"], mask: Bool[Array, "*B K"] | None
) -> tuple[Float[Array, "*B K"], Float[Array, "*B 1"]]:
    """Scores minus their group's mean, exactly 0 where all are equal, and the group sizes."""
    counted = scored_answers(scores, mask).astype(scores.dtype)
    return centred(scores, counted, axis=-1), jnp.sum(counted, axis=-1, keepdims=True)
