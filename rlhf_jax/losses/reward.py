"""Losses of reward models for comparisons: scores in, one loss per comparison out.

Only gaps of scores count: a constant added to every score of a prompt changes nothing, so the
scores of different prompts cannot be compared until they are centred.

Shared arguments and results, unless a function says otherwise:
  chosen_scores, rejected_scores: [*B] s_w and s_l, any real.
  first_scores, second_scores: [*B] s_1 and s_2, any real, where a label says which one won.
  outcomes: [*B] 1 if the first answer won, 0 at a tie, -1 if the second won; NaN for any other.
  mask: True where a step or candidate is real; values under False never matter, NaN included.
  gamma: discount, in [0, 1]; its exponent skips uncounted steps, so padding may be anywhere.
Losses are [*B], unreduced, in nats, >= 0. Gradient flows to scores, rewards and values only. Shapes
are checked at trace time. Keyword numbers may be traced.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.checks import check_ids, check_mask, check_range
from rlhf_jax.losses.links import logistic, smoothed_logistic, soft_logistic
from rlhf_jax.ops.returns import discounted_sum
from rlhf_jax.types import Scalar


def bradley_terry_loss(
    chosen_scores: Float[Array, "*B"], rejected_scores: Float[Array, "*B"]
) -> Float[Array, "*B"]:
    """Bradley-Terry reward model.

    L = -log sigmoid(s_w - s_l).

    Needs: scored pairs.
    Reduces to: the link `logistic`.
    Reference: Bradley and Terry 1952; as a reward-model loss, Ouyang et al. 2022,
      arXiv:2203.02155, Eq. 1.
    """
    chex.assert_equal_shape([chosen_scores, rejected_scores])
    return logistic(chosen_scores - rejected_scores)


def margin_bradley_terry_loss(
    chosen_scores: Float[Array, "*B"],
    rejected_scores: Float[Array, "*B"],
    gaps: Float[Array, "*B"],
) -> Float[Array, "*B"]:
    """Bradley-Terry reward model with a margin.

    L = -log sigmoid(s_w - s_l - m).

    Args:
      gaps: [*B] m, how much better the chosen answer was judged; no gradient. If a pair's label is
        reversed, negate its margin; below 0 it lets the rejected answer be ahead by -m.
    Needs: scored pairs, strengths of preference.
    Reduces to: `bradley_terry_loss` at gaps = 0.
    Reference: Touvron et al. 2023, arXiv:2307.09288, Eq. 2.
    """
    chex.assert_equal_shape([chosen_scores, rejected_scores, gaps])
    return logistic(chosen_scores - rejected_scores - jax.lax.stop_gradient(gaps))


def smoothed_bradley_terry_loss(
    chosen_scores: Float[Array, "*B"],
    rejected_scores: Float[Array, "*B"],
    *,
    label_smoothing: Scalar,
) -> Float[Array, "*B"]:
    """Bradley-Terry reward model with label smoothing.

    L = -(1 - h) log sigmoid(z) - h log sigmoid(-z),   z = s_w - s_l; minimum at z = logit(1 - h).

    Args:
      label_smoothing: h in [0, 1/2), the assumed probability that a label is wrong.
    Needs: scored pairs.
    Reduces to: `bradley_terry_loss` at label_smoothing = 0; `soft_bradley_terry_loss` at
      prefs = 1 - label_smoothing.
    Reference: label smoothing of Szegedy et al. 2015, arXiv:1512.00567, Section 7.
    """
    chex.assert_equal_shape([chosen_scores, rejected_scores])
    return smoothed_logistic(chosen_scores - rejected_scores, label_smoothing=label_smoothing)


def soft_bradley_terry_loss(
    first_scores: Float[Array, "*B"], second_scores: Float[Array, "*B"], prefs: Float[Array, "*B"]
) -> Float[Array, "*B"]:
    """Bradley-Terry reward model with soft labels (shares of votes).

    L = -p log sigmoid(z) - (1 - p) log sigmoid(-z),   z = s_1 - s_2; minimum at z = logit p.

    Args:
      prefs: [*B] p in [0, 1], share of votes for the first answer (1/2 for a tie); no gradient. Any
        other number gives NaN.
    Needs: scored pairs, soft labels.
    Reduces to: `bradley_terry_loss` at p in {0, 1}.
    Reference: cross-entropy of the model of Bradley and Terry 1952.
    """
    chex.assert_equal_shape([first_scores, second_scores, prefs])
    return soft_logistic(first_scores - second_scores, prefs)


def soft_margin_bradley_terry_loss(
    chosen_scores: Float[Array, "*B"],
    rejected_scores: Float[Array, "*B"],
    prefs: Float[Array, "*B"],
    gaps: Float[Array, "*B"],
) -> Float[Array, "*B"]:
    """Bradley-Terry reward model with a soft label and a margin.

    L = -q log sigmoid(z) - (1 - q) log sigmoid(-z),   z = s_w - s_l - m; slope sigmoid(z) - q.

    A pair with q = 0 is the pair with its answers swapped and its margin negated, so wrong labels
    are repaired in q alone; `feedback.strengths` makes q.

    Args:
      prefs: [*B] q in [0, 1], probability that the label is right; no gradient. Any other number
        gives NaN.
      gaps: [*B] m, strength of the preference, any sign; no gradient.
    Needs: scored pairs, soft labels, strengths of preference.
    Reduces to: `soft_bradley_terry_loss` at gaps = 0; `margin_bradley_terry_loss` at prefs = 1.
    Reference: Wang et al. 2024, arXiv:2401.06080, Eq. 5 and 6.
    Departs: Eq. 6 as printed has the margin outside the sigmoid, where its gradient is 0.
    """
    chex.assert_equal_shape([chosen_scores, rejected_scores, prefs, gaps])
    return soft_logistic(chosen_scores - rejected_scores - jax.lax.stop_gradient(gaps), prefs)


def centring_penalty(
    chosen_scores: Float[Array, "*B"], rejected_scores: Float[Array, "*B"]
) -> Float[Array, "*B"]:
    """Centring penalty of a pair of scores, to be added to a Bradley-Terry loss.

    L = (s_w + s_l)^2.

    It fixes the constant that comparisons leave free and, on one pair, does not change the gap: the
    total is smallest at s_w = -s_l with the gap of the comparison alone.

    Needs: scored pairs.
    Reference: Eisenstein et al. 2023, arXiv:2312.09244.
    """
    chex.assert_equal_shape([chosen_scores, rejected_scores])
    return (chosen_scores + rejected_scores) ** 2


def _log_or_floor(x: Scalar) -> Float[Array, ""]:
    """log x, and about -87 (float32) where x <= 0: an impossible outcome has a finite cost."""
    x = jnp.asarray(x, dtype=jnp.result_type(float))
    return jnp.log(jnp.maximum(x, jnp.finfo(jnp.float32).tiny))


def signed_bradley_terry_loss(
    first_scores: Float[Array, "*B"],
    second_scores: Float[Array, "*B"],
    outcomes: Int[Array, "*B"],
) -> Float[Array, "*B"]:
    """Bradley-Terry reward model in which a tie says nothing.

    L = -log sigmoid(l (s_1 - s_2)),   l the outcome.

    A tie costs log 2 without gradient, where `soft_bradley_terry_loss` at 1/2 pulls the scores
    together.

    Needs: scored pairs, ties.
    Reduces to: `bradley_terry_loss` without ties.
    Reference: Wu et al. 2023, arXiv:2306.01693, the authors' code (completeness and preference
      reward models).
    """
    check_ids(outcomes=outcomes)
    chex.assert_equal_shape([first_scores, second_scores, outcomes])
    margins = first_scores - second_scores
    first, second = logistic(margins), logistic(-margins)
    # The tie is a product, so that it is NaN where the scores are.
    return _of_outcome(outcomes, first, logistic(0.0 * margins), second)


def rao_kupper_loss(
    first_scores: Float[Array, "*B"],
    second_scores: Float[Array, "*B"],
    outcomes: Int[Array, "*B"],
    *,
    theta: Scalar,
) -> Float[Array, "*B"]:
    """Comparisons with ties (Rao-Kupper).

    P(1 wins) = sigmoid(z - log theta), P(2 wins) = sigmoid(-z - log theta), P(tie) = the rest
    = (theta^2 - 1) P(1 wins) P(2 wins);   L = -log P(outcome),   z = s_1 - s_2.

    Args:
      theta: how readily ties are called, >= 1; may be trained. At 1 a tie is impossible and costs
        about 87 nats.
    Needs: scored pairs, ties.
    Reduces to: `bradley_terry_loss` at theta = 1.
    Reference: Rao and Kupper 1967, "Ties in paired-comparison experiments"; with log-ratios times
      beta as scores, DPO-RK of Chen et al. 2024, arXiv:2409.17431.
    """
    check_range("[1, inf)", theta=theta)
    check_ids(outcomes=outcomes)
    chex.assert_equal_shape([first_scores, second_scores, outcomes])
    margins, log_theta = first_scores - second_scores, jnp.log(theta)
    # logistic(z) = -log sigmoid(z), so these are the losses of the two wins.
    first, second = logistic(margins - log_theta), logistic(-margins - log_theta)
    # theta^2 - 1 as a product: the factor theta - 1 alone can be 0.
    tie = first + second - _log_or_floor(theta - 1.0) - jnp.log(theta + 1.0)
    return _of_outcome(outcomes, first, tie, second)


def davidson_loss(
    first_scores: Float[Array, "*B"],
    second_scores: Float[Array, "*B"],
    outcomes: Int[Array, "*B"],
    *,
    nu: Scalar,
) -> Float[Array, "*B"]:
    """Comparisons with ties (Davidson).

    P(1 wins) : P(2 wins) : P(tie) = exp(s_1) : exp(s_2) : nu exp((s_1 + s_2) / 2);
    L = -log P(outcome).

    Args:
      nu: how readily ties are called, >= 0: P(tie) = nu / (2 + nu) between equals; may be trained.
        At 0 a tie is impossible and costs about 87 nats.
    Needs: scored pairs, ties.
    Reduces to: `bradley_terry_loss` at nu = 0.
    Reference: Davidson 1970, "On extending the Bradley-Terry model to accommodate ties in paired
      comparison experiments"; with log-ratios times beta as scores, DPO-D of Chen et al. 2024,
      arXiv:2409.17431.
    """
    check_range("[0, inf)", nu=nu)
    check_ids(outcomes=outcomes)
    chex.assert_equal_shape([first_scores, second_scores, outcomes])
    first, second = logistic(first_scores - second_scores), logistic(second_scores - first_scores)
    middle = 0.5 * (first + second)  # -log of the geometric mean of the two without ties
    shared = jnp.log1p(nu * jnp.exp(-middle))
    tie = middle - _log_or_floor(nu)
    return shared + _of_outcome(outcomes, first, tie, second)


def _of_outcome(outcomes: Array, first: Array, tie: Array, second: Array) -> Float[Array, "*B"]:
    """The loss of each outcome, 1, 0 or -1; NaN for any other."""
    return jnp.select([outcomes == 1, outcomes == 0, outcomes == -1], [first, tie, second], jnp.nan)


def plackett_luce_loss(
    scores: Float[Array, "*B K"], mask: Bool[Array, "*B K"]
) -> Float[Array, "*B"]:
    """Plackett-Luce ranking likelihood, one value per ranking of any length.

    L = -sum_k [ s_k - logsumexp_{j >= k} s_j ] over the real candidates, best first.

    Args:
      scores: [*B, K] s, of candidates sorted best first; missing ones may be anywhere in the row.
    Returns:
      [*B] losses; 0 with fewer than two candidates.
    Needs: scored rankings.
    Reduces to: `bradley_terry_loss` at K = 2.
    Reference: Plackett 1975; Luce 1959.
    """
    check_mask(mask=mask)
    chex.assert_equal_shape([scores, mask])
    scores = jnp.where(mask, scores, -1e30)  # not -inf: its gradient would be NaN
    remaining = jax.lax.cumlogsumexp(scores, axis=scores.ndim - 1, reverse=True)
    return jnp.sum(jnp.where(mask, remaining - scores, 0.0), axis=-1)


def partial_returns(
    rewards: Float[Array, "*B T"], mask: Bool[Array, "*B T"], *, gamma: Scalar = 1.0
) -> Float[Array, "*B"]:
    """Partial return of a segment.

    R = sum_t gamma^t r_t, t = 0 at the first counted step; 0 for an empty segment.

    Needs: rewards of steps.
    Reduces to: the sum of the rewards at gamma = 1.
    Reference: Knox et al. 2022, arXiv:2206.02231.
    """
    return discounted_sum(rewards, mask, gamma=gamma)


def partial_return_loss(
    chosen_rewards: Float[Array, "*B T"],
    rejected_rewards: Float[Array, "*B T"],
    chosen_mask: Bool[Array, "*B T"],
    rejected_mask: Bool[Array, "*B T"],
    *,
    gamma: Scalar = 1.0,
) -> Float[Array, "*B"]:
    """Partial-return preference model, one value per pair of segments.

    L = -log sigmoid(R_w - R_l),   R = sum_t gamma^t r_t; 0 where both segments are empty.

    Needs: pairs of segments with rewards of steps.
    Reduces to: `bradley_terry_loss` of the partial returns.
    Reference: Christiano et al. 2017, arXiv:1706.03741, Section 2.2.3, without its noise term.
    Departs: the paper has no discount and segments of equal length.
    """
    check_mask(chosen_mask=chosen_mask, rejected_mask=rejected_mask)
    chex.assert_equal_shape([chosen_rewards, rejected_rewards])
    losses = bradley_terry_loss(
        partial_returns(chosen_rewards, chosen_mask, gamma=gamma),
        partial_returns(rejected_rewards, rejected_mask, gamma=gamma),
    )
    # Two empty segments are padding, not an even comparison with loss log 2.
    return jnp.where(jnp.any(chosen_mask | rejected_mask, axis=-1), losses, 0.0)


def deterministic_regrets(
    rewards: Float[Array, "*B T"],
    start_values: Float[Array, "*B"],
    end_values: Float[Array, "*B"],
    mask: Bool[Array, "*B T"],
    *,
    gamma: Scalar = 1.0,
) -> Float[Array, "*B"]:
    """Regret of a segment where transitions are deterministic.

    regret = V*(s_0) - [ sum_t gamma^t r_t + gamma^n V*(s_n) ],   n counted steps.

    The telescoped sum of the steps' regrets. With random transitions it also counts luck and may
    be negative: use `segment_regrets` there.

    Args:
      start_values, end_values: [*B] optimal values before the first and after the last counted
        step; V* = 0 where the episode has ended.
      mask: [*B, T] True where the step counts, without a gap: values telescope over neighbours.
    Returns:
      [*B], >= 0 for optimal values; 0 for an empty segment. Gradient flows to the values too: a
      learned reward moves V* (by the envelope theorem, along its own optimal policy).
    Needs: rewards of steps, optimal values.
    Reduces to: -`partial_returns` without the two values; `segment_regrets` where transitions are
      deterministic.
    Reference: Knox et al. 2022, arXiv:2206.02231.
    Departs: the discount; the paper's segments have none.
    """
    check_range("[0, 1]", gamma=gamma)
    check_mask(mask=mask)
    chex.assert_equal_shape([start_values, end_values, rewards[..., 0]])
    # At least 1: the slope of gamma^0 in gamma would be NaN at gamma = 0.
    steps = jnp.maximum(jnp.sum(mask, axis=-1), 1).astype(end_values.dtype)
    last = gamma**steps * end_values
    regrets = start_values - partial_returns(rewards, mask, gamma=gamma) - last
    return jnp.where(jnp.any(mask, axis=-1), regrets, 0.0)


def segment_regrets(
    values: Float[Array, "*B T"],
    action_values: Float[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    *,
    gamma: Scalar = 1.0,
) -> Float[Array, "*B"]:
    """Regret of a segment, general form.

    regret = sum_t gamma^t [ V*(s_t) - Q*(s_t, a_t) ] = -sum_t gamma^t A*(s_t, a_t).

    It is >= 0, and 0 exactly where every action was optimal.

    Args:
      values, action_values: [*B, T] V* of each state and Q* of the action taken there.
    Needs: optimal values of states and of actions.
    Reduces to: `deterministic_regrets` where transitions are deterministic.
    Reference: Knox et al. 2022, arXiv:2206.02231.
    Departs: the discount; the paper's segments have none.
    """
    chex.assert_equal_shape([values, action_values, mask])
    return partial_returns(values - action_values, mask, gamma=gamma)


def regret_preference_loss(
    chosen_regrets: Float[Array, "*B"], rejected_regrets: Float[Array, "*B"]
) -> Float[Array, "*B"]:
    """Regret preference model: the segment with the lower regret is preferred.

    L = -log sigmoid(regret_l - regret_w).

    For ties and soft labels, use `soft_bradley_terry_loss` of minus the regrets.

    Needs: pairs of segments with regrets (`segment_regrets`, `deterministic_regrets`).
    Reduces to: `bradley_terry_loss` of minus the regrets; `cpl_loss` where A* = alpha log pi.
    Reference: Knox et al. 2022, arXiv:2206.02231.
    """
    return bradley_terry_loss(-chosen_regrets, -rejected_regrets)
