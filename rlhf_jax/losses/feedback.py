"""Losses of reward models for feedback other than comparisons.

Ratings, accepted or refused answers, marked steps, and the verdicts of a generative judge. Here a
score has an absolute zero: unlike a comparison, these likelihoods change when a constant is added
to every score.

Shared arguments and results, unless a function says otherwise:
  scores: [*B] s, any real.
  labels: True where the answer was accepted or the step is right; data.
  step_scores: [*B, T] s_t, read where a step ends.
  mask: [*B, T] True where a step ends; values under False never matter, NaN included.
  verdict_logits: [*B, 2, 2] logits z at the place of the verdict. First axis: the order, (y, y')
    then (y', y). Second: the token, A ("the first is better") then B.
Losses are unreduced, >= 0, and 0 under the mask; all but those of ratings are in nats. Gradient
flows to scores and logits only. Shapes are checked at trace time.
"""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.checks import check_ids, check_mask
from rlhf_jax.losses.links import logistic, soft_logistic, squared
from rlhf_jax.ops.entailment import check_verdict_ids
from rlhf_jax.ops.logprobs import log1mexp


def binary_loss(scores: Float[Array, "*B"], labels: Bool[Array, "*B"]) -> Float[Array, "*B"]:
    """Binary feedback (accept or refuse), one value per answer.

    L = -log sigmoid(s) if the answer was accepted, -log sigmoid(-s) if not.

    The minimum is at s = logit P(accepted): if accepted answers are a share p of the data, every
    score is shifted by logit p against a balanced set.

    Needs: scored answers, binary labels.
    Reduces to: `bradley_terry_loss` against a score of 0.
    Reference: logistic regression; as an outcome reward model, Cobbe et al. 2021, arXiv:2110.14168.
    """
    check_mask(labels=labels)
    chex.assert_equal_shape([scores, labels])
    return logistic(jnp.where(labels, scores, -scores))


def entailment_loss(
    logits: Float[Array, "*B V"],
    labels: Bool[Array, "*B"],
    *,
    yes: Sequence[int],
    no: Sequence[int],
) -> Float[Array, "*B"]:
    """Entailment of a principle, generative form, one value per answer.

    L = -log sum_{v in yes} P(v) if the answer follows the principle, else the same of no.

    The softmax is over the whole vocabulary: L = `binary_loss` of `entailment_log_odds`
    - log P(yes or no), and the last term vanishes once the mass is on the verdicts.

    Args:
      logits: [*B, V] where the verdict is to be written.
      labels: [*B] True where the answer follows the principle; data.
      yes, no: ids of the tokens that say so, all spellings of each.
    Needs: logits of a verdict, binary labels.
    Reduces to: `binary_loss` where V has no other tokens.
    Reference: Wang et al. 2025, arXiv:2509.21319.
    Departs: several spellings of a verdict count as one.
    """
    check_mask(labels=labels)
    chex.assert_equal_shape([logits[..., 0], labels])
    said = check_verdict_ids(logits.shape[-1], yes=yes, no=no)
    total = jax.nn.logsumexp(logits, axis=-1)
    follows, breaks = (total - jax.nn.logsumexp(logits[..., ids], axis=-1) for ids in said)
    return jnp.where(labels, follows, breaks)


def rating_loss(scores: Float[Array, "*B"], ratings: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Rating regression, one value per answer.

    L = (s - y)^2; minimum at the mean rating.

    Args:
      ratings: [*B] y, in the unit of the scores; data.
    Needs: scored answers, ratings.
    Reduces to: the link `squared`.
    Reference: least squares.
    """
    return squared(scores, ratings)


def multi_rating_loss(
    scores: Float[Array, "*B K"], ratings: Float[Array, "*B K"], mask: Bool[Array, "*B K"]
) -> Float[Array, "*B"]:
    """Regression on several ratings of an answer, one value per answer.

    L = sum_k m_k (s_k - y_k)^2; minimum at the mean of each rating.

    Args:
      scores: [*B, K] s, one for each objective.
      ratings: [*B, K] y, in the units of the scores; data.
      mask: [*B, K] m, True where the answer has this rating; values under False never matter.
    Needs: scored answers, ratings of several objectives.
    Reduces to: `rating_loss` at K = 1.
    Reference: Wang et al. 2024, arXiv:2402.18571 (DPA).
    Departs: a rating that is missing is left out of the sum, so that data sets can be merged.
    """
    check_mask(mask=mask)
    chex.assert_equal_shape([scores, ratings, mask])
    known = [jnp.where(mask, x, 0.0) for x in (scores, ratings)]
    return jnp.sum(squared(*known), axis=-1)


def ordinal_loss(
    scores: Float[Array, "*B"], ratings: Int[Array, "*B"], thresholds: Float[Array, " M"]
) -> Float[Array, "*B"]:
    """Ordinal ratings, the cumulative logit (proportional odds) model, one value per answer.

    L = -log P(y),   P(y <= m) = sigmoid(c_m - s),   y in 0..M, c_0 < ... < c_{M-1}.

    Args:
      ratings: [*B] y, from 0 (worst) to M; any other gives NaN, without gradient.
      thresholds: [M] c, in the unit of the scores, shared by the batch; gets a gradient. The caller
        keeps them strictly increasing, e.g. as a cumulative sum of softplus. A rating between two
        that are not costs about 87 nats more than its neighbours, without gradient in them.
    Needs: scored answers, ordered ratings.
    Reduces to: `binary_loss` of s - c_0 at M = 1.
    Reference: McCullagh 1980, "Regression models for ordinal data".
    """
    check_ids(ratings=ratings)
    chex.assert_equal_shape([scores, ratings])
    rated = (ratings >= 0) & (ratings <= thresholds.shape[0])
    above_bottom, below_top = ratings > 0, ratings < thresholds.shape[0]
    lower = thresholds[jnp.maximum(ratings - 1, 0)]
    upper = thresholds[jnp.minimum(ratings, thresholds.shape[0] - 1)]
    # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)) keeps its digits in a tail.
    at_least = jnp.where(above_bottom, logistic(scores - lower), 0.0)
    at_most = jnp.where(below_top, logistic(upper - scores), 0.0)
    widths = jnp.where(above_bottom & below_top, upper - lower, jnp.inf)
    return jnp.where(rated, at_least + at_most - log1mexp(-widths), jnp.nan)


def cost_model_loss(
    worse_costs: Float[Array, "*B"],
    better_costs: Float[Array, "*B"],
    worse_unsafe: Bool[Array, "*B"],
    better_unsafe: Bool[Array, "*B"],
) -> Float[Array, "*B"]:
    """Cost model of Safe RLHF, one value per pair: a comparison and two signs.

    L = -log sigmoid(c_h - c_s) - log sigmoid(u_h c_h) - log sigmoid(u_s c_s),   u = 1 if unsafe,
    -1 if safe.

    A higher cost is worse, and a cost above 0 means unsafe. The comparison orders the costs; the
    signs give them a zero that a constraint can use.

    Args:
      worse_costs, better_costs: [*B] c_h and c_s of the more and of the less harmful answer.
      worse_unsafe, better_unsafe: [*B] True where that answer is unsafe; data.
    Needs: scored pairs, safety labels of both answers.
    Reduces to: `bradley_terry_loss` + two `binary_loss`.
    Reference: Dai et al. 2023, arXiv:2310.12773.
    """
    check_mask(worse_unsafe=worse_unsafe, better_unsafe=better_unsafe)
    chex.assert_equal_shape([worse_costs, better_costs, worse_unsafe, better_unsafe])
    signs = binary_loss(worse_costs, worse_unsafe) + binary_loss(better_costs, better_unsafe)
    return logistic(worse_costs - better_costs) + signs


def process_loss(
    step_scores: Float[Array, "*B T"], labels: Bool[Array, "*B T"], mask: Bool[Array, "*B T"]
) -> Float[Array, "*B T"]:
    """Process reward model, one value per marked step.

    L_t = -log sigmoid(s_t) if step t is right, -log sigmoid(-s_t) if not.

    Needs: scored steps, binary labels of steps.
    Reduces to: `binary_loss` of each step.
    Reference: Lightman et al. 2023, arXiv:2305.20050.
    """
    check_mask(labels=labels, mask=mask)
    chex.assert_equal_shape([step_scores, labels, mask])
    # Masked before the loss, so that NaN under the mask reaches no gradient.
    return jnp.where(mask, binary_loss(jnp.where(mask, step_scores, 0.0), labels), 0.0)


def soft_process_loss(
    step_scores: Float[Array, "*B T"], successes: Float[Array, "*B T"], mask: Bool[Array, "*B T"]
) -> Float[Array, "*B T"]:
    """Process reward model with soft labels, one value per marked step.

    L_t = -p_t log sigmoid(s_t) - (1 - p_t) log sigmoid(-s_t); minimum at s_t = logit p_t.

    Args:
      successes: [*B, T] p_t in [0, 1], the share of completions from step t on that end well; data.
    Needs: scored steps, success rates of steps.
    Reduces to: `process_loss` at p in {0, 1}.
    Reference: Wang et al. 2023, arXiv:2312.08935 (Math-Shepherd, soft estimation).
    """
    check_mask(mask=mask)
    chex.assert_equal_shape([step_scores, successes, mask])
    step_scores, successes = (jnp.where(mask, x, 0.0) for x in (step_scores, successes))
    return jnp.where(mask, soft_logistic(step_scores, successes), 0.0)


def _order_margins(
    verdict_logits: Float[Array, "*B 2 2"],
) -> tuple[Float[Array, "*B"], Float[Array, "*B"]]:
    """g = z_A - z_B in the order (y, y') and in the order (y', y)."""
    chex.assert_axis_dimension(verdict_logits, -1, 2)
    chex.assert_axis_dimension(verdict_logits, -2, 2)
    margins = verdict_logits[..., 0] - verdict_logits[..., 1]
    return margins[..., 0], margins[..., 1]


def verdict_margins(verdict_logits: Float[Array, "*B 2 2"]) -> Float[Array, "*B"]:
    """Two-order margin of a generative pairwise judge, one value per pair.

    s(y, y') = [g(y, y') - g(y', y)] / 2,   g = z_A - z_B.

    Exactly antisymmetric: exchanging the answers gives -s, and a bias towards the first place that
    is added to both g's cancels. sigmoid(s) is P(y beats y'). Stop its gradient in a reward.

    Needs: a judge's verdict logits in both orders.
    Reduces to: g(y, y') where g is antisymmetric.
    Reference: Xu et al. 2025, arXiv:2504.04950.
    Departs: the paper's own form of the margin was not available; this is its natural form.
    """
    forward, backward = _order_margins(verdict_logits)
    return 0.5 * (forward - backward)


def order_bias(verdict_logits: Float[Array, "*B 2 2"]) -> Float[Array, "*B"]:
    """Bias of a generative pairwise judge towards the answer that it reads first, one value a pair.

    b(y, y') = [g(y, y') + g(y', y)] / 2,   g = z_A - z_B.

    The rest of `verdict_margins`: s + b and b - s are the margins of the two orders. 0 for a judge
    to whom the order is nothing; where |b| > |s| its two verdicts contradict each other.

    Needs: a judge's verdict logits in both orders.
    Reference: Xu et al. 2025, arXiv:2504.04950.
    Departs: as `verdict_margins`.
    """
    forward, backward = _order_margins(verdict_logits)
    return 0.5 * (forward + backward)


def verdict_prefs(verdict_logits: Float[Array, "*B 2 2"]) -> Float[Array, "*B"]:
    """Two-order probability that the first answer is better, one value a pair; no gradient.

    p(y, y') = [sigmoid(g(y, y')) + sigmoid(-g(y', y))] / 2,   g = z_A - z_B.

    The mean of the probabilities of both orders, where `verdict_margins` has the mean of their
    margins: p(y, y') + p(y', y) = 1 exactly, and where two orders contradict each other p is
    near 1/2.

    Needs: a judge's verdict logits in both orders.
    Reduces to: sigmoid of `verdict_margins` where g is antisymmetric.
    Reference: Zhai et al. 2024, arXiv:2405.14103 (OSP).
    Departs: the paper's formula was not available; this is the usual form.
    """
    forward, backward = _order_margins(jax.lax.stop_gradient(verdict_logits))
    return 0.5 * (jax.nn.sigmoid(forward) + jax.nn.sigmoid(-backward))


def verdict_loss(verdict_logits: Float[Array, "*B 2 2"]) -> Float[Array, "*B"]:
    """Generative pairwise reward model, both orders, one value per labelled pair.

    L = -[log q(y_w, y_l) + log(1 - q(y_l, y_w))] / 2,   q = sigmoid(g), g = z_A - z_B.

    The cross-entropy of the right verdict between the two tokens, averaged over the two orders,
    (y_w, y_l) first. The judge's other tokens do not enter; `sft_loss` on the verdict's text is the
    full-vocabulary form. `centring_penalty` of the two g's makes the orders consistent.

    Needs: a judge's verdict logits in both orders, pairs.
    Reduces to: `bradley_terry_loss` where g(y, y') = r(y) - r(y').
    Reference: Xu et al. 2025, arXiv:2504.04950.
    Departs: as `verdict_margins`.
    """
    forward, backward = _order_margins(verdict_logits)
    return 0.5 * (logistic(forward) + logistic(-backward))


def verdict_token_loss(verdict_logps: Float[Array, "*B 2 2"]) -> Float[Array, "*B"]:
    """Generative pairwise reward model over the whole vocabulary, both orders, one value per pair.

    L = -[log p(A | y_w, y_l) + log p(B | y_l, y_w)] / 2.

    `verdict_loss` plus -log p(A or B): the cross-entropy of the verdict as a next token, by which
    other tokens become improbable too.

    Args:
      verdict_logps: [*B, 2, 2] log-probs of A and B among all tokens, (y_w, y_l) first.
    Needs: a judge's verdict log-probs in both orders, pairs.
    Reduces to: `verdict_loss` where p(A) + p(B) = 1.
    Reference: Xu et al. 2025, arXiv:2504.04950.
    Departs: as `verdict_margins`.
    """
    chex.assert_axis_dimension(verdict_logps, -1, 2)
    chex.assert_axis_dimension(verdict_logps, -2, 2)
    return -0.5 * (verdict_logps[..., 0, 0] + verdict_logps[..., 1, 1])
