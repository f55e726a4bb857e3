"""Statistics for tables of results: intervals, win rates, calibration, best-of-n curves."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.checks import check_entries, check_ids, check_mask, check_range

Z95 = 1.959963984540054


def wins(scores: Float[Array, "*B"], other_scores: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """1 where `scores` is higher, 0 where it is lower, 1/2 at a tie; NaN where a score is NaN."""
    chex.assert_equal_shape([scores, other_scores])
    # Infinities of one sign are a tie, and their difference NaN.
    return jnp.where(scores == other_scores, 0.5, 0.5 + 0.5 * jnp.sign(scores - other_scores))


def mean_with_interval(x: Float[Array, "N"]) -> Float[Array, "3"]:
    """Mean of N independent numbers with its 95% normal interval: [mean, low, high].

    mean +- 1.96 s / sqrt(N), s with Bessel's correction. For win rates, N is the number of prompts
    and ties count one half, so the variance is the sample's, not p (1 - p).

    Args:
      x: [N], N >= 2; fewer numbers raise ValueError.
    """
    if x.shape[0] < 2:
        raise ValueError(f"an interval needs at least two numbers, got {x.shape[0]}")
    half = Z95 * jnp.std(x, ddof=1) / jnp.sqrt(x.shape[0])
    return jnp.stack([jnp.mean(x), jnp.mean(x) - half, jnp.mean(x) + half])


def area_under_curve(
    scores: Float[Array, "N"],
    positive: Bool[Array, "N"],
    mask: Bool[Array, "N"] | None = None,
) -> Float[Array, ""]:
    """P(a positive scores above a negative), the area under the ROC curve; 1/2 by chance.

    mean over positive i and negative j of 1(s_i > s_j) + (1/2) 1(s_i = s_j).

    Args:
      mask: [N] True where an entry counts; None for all. Values under False never matter.
    Returns:
      NaN without a positive or without a negative, and where a score is NaN.
    Reference: Hanley and McNeil 1982, "The meaning and use of the area under a receiver operating
      characteristic (ROC) curve".
    """
    mask = jnp.ones_like(positive) if mask is None else mask
    check_mask(positive=positive, mask=mask)
    chex.assert_equal_shape([scores, positive, mask])
    first, second = mask & positive, mask & ~positive
    # What does not count lies above every score, where it is not found.
    others = jnp.sort(jnp.where(second, scores, jnp.inf))
    below = sum(jnp.searchsorted(others, scores, side=side) for side in ("left", "right")) / 2
    counts = jnp.sum(first, dtype=scores.dtype) * jnp.sum(second, dtype=scores.dtype)
    found = jnp.sum(jnp.where(first, below, 0.0)) / counts
    return jnp.where((jnp.isnan(scores) & mask).any(), jnp.nan, found)


def best_of_n_curve(
    proxy_scores: Float[Array, "*B N"], gold_scores: Float[Array, "*B N"], ns: Int[Array, "M"]
) -> Float[Array, "*B M"]:
    """Unbiased mean gold score of the best of n by proxy, for each n, from N samples.

    E_n = sum_{i=n}^N C(i-1, n-1) / C(N, n) g_(i),   g sorted by ascending proxy.

    Args:
      proxy_scores, gold_scores: [*B, N] of the same N answers.
      ns: [M] each in [1, N].
    Returns:
      [*B, M]. Tied proxies keep the order of the input. A prompt with a proxy that is not finite
      gets NaN; otherwise that answer would be the best or the worst of all.
    Reference: the estimator of Nakano et al. 2021, arXiv:2112.09332, Appendix I.
    """
    check_ids(ns=ns)
    chex.assert_equal_shape([proxy_scores, gold_scores])
    size = proxy_scores.shape[-1]
    check_entries(f"[1, {size}]", ns=ns)
    rank = jnp.arange(1, size + 1)
    n = ns[:, None]
    # C(i-1, n-1) / C(i, n-1) = (i-n+1) / i, from the top weight n / N downwards: log-factorials
    # in float32 would lose four digits at N = 1000.
    steps = jnp.where(rank < size, jnp.maximum(rank - n + 1, 0) / rank, n / size)
    weights = jnp.cumprod(steps[:, ::-1], axis=-1)[:, ::-1]
    order = jnp.argsort(proxy_scores, axis=-1)
    means = jnp.take_along_axis(gold_scores, order, axis=-1) @ weights.T
    return jnp.where(jnp.isfinite(proxy_scores).all(axis=-1, keepdims=True), means, jnp.nan)


def best_of_n_kl(n: Int[Array, "*B"]) -> Float[Array, "*B"]:
    """KL(best-of-n || base) = log n - (n - 1) / n in nats; an upper bound where scores tie."""
    check_ids(n=n)
    check_entries("[1, inf)", n=n)
    n = n.astype(jnp.float32)
    return jnp.log(n) - (n - 1.0) / n


def calibration_error(
    probs: Float[Array, "N"], outcomes: Float[Array, "N"], *, num_bins: int = 10
) -> tuple[Float[Array, ""], Float[Array, "K 3"]]:
    """Expected calibration error over equal-width bins of confidence, and the bins themselves.

    ECE = sum_b (n_b / N) |mean outcome - mean c|, c = max(p, 1 - p) in [1/2, 1].

    p is the predicted probability that the first answer wins, and the outcome of a pair is whether
    the favourite won. So the error does not depend on which answer comes first, also where that is
    always the chosen one.

    Args:
      probs: [N] p in [0, 1].
      outcomes: [N] in [0, 1], 1 if the first answer won.
      num_bins: K, number of bins over [1/2, 1].
    Returns:
      The error, and [K, 3]: mean confidence, mean outcome, share of pairs (0 in an empty bin).
    """
    check_range("[1, inf)", num_bins=num_bins)
    chex.assert_equal_shape([probs, outcomes])
    confidence = jnp.maximum(probs, 1.0 - probs)
    correct = jnp.where(probs >= 0.5, outcomes, 1.0 - outcomes)
    correct = jnp.where(probs == 0.5, 0.5, correct)
    return _binned_error(confidence, correct, 2.0 * confidence - 1.0, num_bins)


def choice_calibration_error(
    probs: Float[Array, "N A"], outcomes: Float[Array, "N A"], *, num_bins: int = 10
) -> tuple[Float[Array, ""], Float[Array, "K 3"]]:
    """Expected calibration error of a choice among A answers, over equal-width bins of confidence.

    ECE = sum_b (n_b / N) |mean y - mean c|,   c = max_a p_a in [0, 1], y = the outcome of argmax_a.

    For next tokens the outcomes are one-hot; for a table they may be the law that draws the tokens,
    and the error is that of infinitely many of them. The policy is its own calibrated forecast.

    Args:
      probs: [N, A] p, each row sums to 1.
      outcomes: [N, A] in [0, 1], 1 for the right answer.
      num_bins: K, number of bins over [0, 1].
    Returns:
      The error, and [K, 3]: mean confidence, mean outcome, share of rows (0 in an empty bin).
    Reference: Guo et al. 2017, arXiv:1706.04599, Eq. 3; SuperHF (arXiv:2310.16763) compares it
      before and after fine-tuning.
    """
    check_range("[1, inf)", num_bins=num_bins)
    chex.assert_equal_shape([probs, outcomes])
    first = jnp.argmax(probs, axis=-1)[:, None]
    confidence, correct = (jnp.take_along_axis(x, first, axis=-1)[:, 0] for x in (probs, outcomes))
    return confidence_error(confidence, correct, num_bins=num_bins)


def confidence_error(
    confidence: Float[Array, "N"], outcomes: Float[Array, "N"], *, num_bins: int = 10
) -> tuple[Float[Array, ""], Float[Array, "K 3"]]:
    """`choice_calibration_error` from the confidence c and the outcome y of each choice."""
    check_range("[1, inf)", num_bins=num_bins)
    chex.assert_equal_shape([confidence, outcomes])
    return _binned_error(confidence, outcomes, confidence, num_bins)


def _binned_error(
    confidence: Float[Array, "N"], correct: Float[Array, "N"], place: Float[Array, "N"], bins: int
) -> tuple[Float[Array, ""], Float[Array, "K 3"]]:
    """The error and its bins, of equal width in `place`, which is in [0, 1]."""
    found = jnp.clip(jnp.floor(place * bins), 0, bins - 1).astype(int)
    member = jax.nn.one_hot(found, bins)
    count = jnp.sum(member, axis=0)
    safe = jnp.maximum(count, 1.0)
    mean_confidence = confidence @ member / safe
    mean_correct = correct @ member / safe
    share = count / confidence.shape[0]
    error = jnp.sum(share * jnp.abs(mean_correct - mean_confidence))
    return error, jnp.stack([mean_confidence, mean_correct, share], axis=-1)


def cross_prompt_collision(probs: Float[Array, "*B S A"]) -> Float[Array, "*B"]:
    """How alike the answers to different prompts are: the chance that two of them are the same.

    sum_a (mean_x pi(a | x))^2,   in [1 / A, 1]: 1 where every prompt gets the same answer.

    On a table it is what the similarity of texts to different prompts is for language
    (`data.meteor.prompt_similarity`): it rises where a policy collapses to one mode.

    Args:
      probs: [*B, S, A] of A answers that are the same for all S prompts.
    Reference: Mukobi et al. 2023, arXiv:2310.16763 (METEOR similarity across prompts).
    """
    return jnp.sum(jnp.mean(probs, axis=-2) ** 2, axis=-1)
