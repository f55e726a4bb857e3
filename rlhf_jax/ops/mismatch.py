"""Does a better reward model, or a higher reward, mean a better policy? Statistics of the links.

RLHF has three objectives in a row: a reward model fits comparisons, a policy maximises its score
under a KL penalty, an evaluation measures something else. Lambert and Calandra 2023,
arXiv:2311.00168, name the links and give no statistic; these are the project's.

- reward model -> policy: `rank_correlation` over reward models of their held-out accuracy and the
  gold score reached at one KL (`exact.bandit.budget_optimum`). Never over checkpoints of one run.
- score -> gold: `correlations_around_peak` over the checkpoints of a run. One number for a whole
  run would be that of its trend.
- gold or score -> downstream metric: the same with the metric in place of gold.
- `order_accuracy` under the reference minus that under the policy is the mismatch index.

Leading axes are free. No function stops gradients; those of ranks and orders are 0.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.checks import check_entries, check_mask, check_range
from rlhf_jax.ops.masking import masked_sum
from rlhf_jax.ops.statistics import wins
from rlhf_jax.types import Scalar


def average_ranks(
    x: Float[Array, "*B N"], mask: Bool[Array, "*B N"] | None = None
) -> Float[Array, "*B N"]:
    """Ranks from 0 among the entries that count; equal entries share the mean of their ranks.

    rank_i = sum_{j != i} [1(x_j < x_i) + (1/2) 1(x_j = x_i)].

    Args:
      mask: [*B, N] True where an entry counts; None for all. Values under False never matter.
    Returns:
      [*B, N], 0 under the mask; NaN in a row that has a NaN. N^2 comparisons.
    """
    mask = _all_of(x) if mask is None else mask
    check_mask(mask=mask)
    chex.assert_equal_shape([x, mask])
    x = jnp.where(mask, x, 0.0)
    above = _pairs(wins, x)
    # Every entry ties with itself.
    ranks = masked_sum(above, jnp.broadcast_to(mask[..., None, :], above.shape), axis=-1) - 0.5
    return jnp.where(mask, ranks, 0.0)


def rank_correlation(
    x: Float[Array, "*B N"], y: Float[Array, "*B N"], mask: Bool[Array, "*B N"] | None = None
) -> Float[Array, "*B"]:
    """Spearman's rank correlation: the correlation of `average_ranks`, in [-1, 1].

    Args:
      mask: [*B, N] True where a pair of entries counts; None for all.
    Returns:
      [*B]; NaN where fewer than two entries count, where all x or all y are equal, and where one
      that counts is NaN.
    Reference: Spearman 1904, "The proof and measurement of association between two things".
    """
    mask = _all_of(x) if mask is None else mask
    chex.assert_equal_shape([x, y, mask])
    middle = 0.5 * (jnp.sum(mask, axis=-1, keepdims=True) - 1.0)  # the mean of any ranks
    first, second = (jnp.where(mask, average_ranks(each, mask) - middle, 0.0) for each in (x, y))
    power = jnp.sum(first**2, axis=-1) * jnp.sum(second**2, axis=-1)
    found = jnp.sum(first * second, axis=-1) / jnp.sqrt(jnp.where(power == 0, 1.0, power))
    return jnp.where(power == 0, jnp.nan, found)


def correlations_around_peak(
    scores: Float[Array, "*B N"], gold: Float[Array, "*B N"]
) -> tuple[Float[Array, "*B"], Float[Array, "*B"]]:
    """`rank_correlation` of score and gold up to the peak of gold, and from the peak on.

    Args:
      scores, gold: [*B, N] means of the N checkpoints of a run, in the order of training.
    Returns:
      Before and after, [*B] each; the (first) peak belongs to both. NaN for a part of one
      checkpoint: gold that never falls has no part after its peak.
    """
    chex.assert_equal_shape([scores, gold])
    number = jnp.arange(gold.shape[-1])
    peak = jnp.argmax(gold, axis=-1, keepdims=True)
    before, after = (rank_correlation(scores, gold, m) for m in (number <= peak, number >= peak))
    return before, after


def order_accuracy(
    scores: Float[Array, "*B N"],
    gold: Float[Array, "*B N"],
    weights: Float[Array, "*B N"] | None = None,
) -> Float[Array, "*B"]:
    """How often two answers with different gold scores are in the right order.

    P( s(y) > s(y') | u(y) > u(y') ),   y, y' ~ w independent; equal scores count one half.

    With answers drawn from a policy, or with its probabilities as weights, it is the accuracy on
    that policy's own answers.

    Args:
      scores, gold: [*B, N] s and u of the same answers.
      weights: [*B, N] w >= 0, not all 0; None for equal weights. An answer of weight 0 never
        matters.
    Returns:
      [*B]; NaN where all gold scores are equal, or where a score that counts is NaN. N^2
      comparisons.
    """
    weights = jnp.ones_like(scores) if weights is None else weights
    check_entries("[0, inf)", weights=weights)
    chex.assert_equal_shape([scores, gold, weights])
    scores, gold = (jnp.where(weights > 0, each, 0.0) for each in (scores, gold))
    # A sum of 1: products of two weights then cannot overflow.
    weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
    better = _pairs(jnp.greater, gold).astype(weights.dtype)
    right = _pairs(wins, scores)
    counted, correct = (
        jnp.einsum("...i,...ij,...j->...", weights, each, weights)
        for each in (better, better * right)
    )
    found = correct / jnp.where(counted == 0, 1.0, counted)
    there = ~jnp.any(jnp.isnan(scores) | jnp.isnan(gold), axis=-1)
    return jnp.where((counted > 0) & there, found, jnp.nan)


def label_ceiling(gaps: Float[Array, "*B"], *, temperature: Scalar) -> Float[Array, "*B"]:
    """The best accuracy on Bradley-Terry labels: how likely each label is the likelier one.

    max(P, 1 - P) = sigmoid(k |u(y) - u(y')|),   P = sigmoid(k (u(y) - u(y'))).

    The mean over pairs bounds the accuracy on labels of any reward model, the gold score itself
    included; it reaches 1 only where labels have no noise.

    Args:
      gaps: [*B] differences of the gold scores of two answers.
      temperature: k > 0, the sharpness of the labels, in 1 / gold. May be traced.
    """
    check_range("(0, inf)", temperature=temperature)
    return jax.nn.sigmoid(temperature * jnp.abs(gaps))


def policy_covariance(
    logits: Float[Array, "*B A"], x: Float[Array, "*B A"], y: Float[Array, "*B A"]
) -> Float[Array, "*B"]:
    """Cov_pi(x, y) over the actions of a policy, the slope of one mean when the other is optimised.

    d E_{pi_b}[u] / d(1/b) = Cov_{pi_b}(u, r)   for pi_b(a) = pi_ref(a) exp(r(a) / b) / Z.

    So gold rises as long as gold and score covary on the policy's own answers, and peaks where they
    stop to; with x = y = r it is a variance, and the score never falls.

    Args:
      logits: [*B, A] of pi, unnormalised.
      x, y: [*B, A], finite.
    """
    chex.assert_equal_shape([logits, x, y])
    probs = jax.nn.softmax(logits, axis=-1)
    first = x - jnp.sum(probs * x, axis=-1, keepdims=True)
    return jnp.sum(probs * first * y, axis=-1)


def _all_of(x: Float[Array, "*B N"]) -> Bool[Array, "*B N"]:
    return jnp.ones(x.shape, bool)


def _pairs(compare: Callable[[Array, Array], Array], x: Float[Array, "*B N"]) -> Array:
    """compare(x_i, x_j), [*B, N, N]."""
    return compare(*jnp.broadcast_arrays(x[..., :, None], x[..., None, :]))
