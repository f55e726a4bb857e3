"""Preference games: objectives with a step towards the Nash policy as their population solution.

All steps are one map of logits. With reference mu, opponent q, step eta and KL weight beta,

    log pi+ = (1 - eta beta) log pi_t + eta beta log mu + eta P(. > q) + constant,

and all regressions are one function of a pair: the gap of log-probs, minus the gap under the
anchors that pi+ starts from, against a target. eta is always the step: larger moves further. The
win probability P(y > q) may be replaced by an unbiased sample of it, such as a win or a loss.

Shared arguments and results, unless a function says otherwise:
  first_logps, second_logps: [*B] summed log pi(y | x) and log pi(y' | x), in nats.
  chosen_logps, rejected_logps: [*B] the same of the winner w and the loser l.
  With ref_ or base_ in front: [*B] the same under the reference mu or the base iterate.
  prefs: win probability or label, in [0, 1]; no gradient.
  beta: KL weight, > 0.
  eta: step, > 0.
Losses are [*B], unreduced, >= 0. Gradient flows to the policy's log-probs only. Shapes are checked
at trace time. Keyword numbers may be traced.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.checks import check_entries, check_mask, check_range
from rlhf_jax.losses import links
from rlhf_jax.losses.policy_gradient import reinforce_loss
from rlhf_jax.ops.masking import masked_sum
from rlhf_jax.types import Scalar


def pairwise_regression_loss(
    first_logps: Float[Array, "*B"],
    second_logps: Float[Array, "*B"],
    anchor_gaps: Float[Array, "*B"],
    targets: Float[Array, "*B"],
) -> Float[Array, "*B"]:
    """Pairwise regression of a log-ratio, the form of all game objectives.

    L = (log pi(y) - log pi(y') - g - t)^2,   g = sum_k w_k [log pi_k(y) - log pi_k(y')].

    Over pairs that reach every answer its minimum, 0, is at log pi = sum_k w_k log pi_k + T + c if
    t = T(y) - T(y'). A target with that mean given the pair has the same minimiser.

    Args:
      anchor_gaps: [*B] g in nats, from `anchor_gaps`; data.
      targets: [*B] t in nats; data.
    Needs: pairs, anchors, targets.
    Reduces to: `ipo_loss` with the reference as the one anchor and t = 1 / (2 beta).
    """
    chex.assert_equal_shape([first_logps, second_logps, anchor_gaps, targets])
    return links.squared(first_logps - second_logps - jax.lax.stop_gradient(anchor_gaps), targets)


def anchor_gaps(
    first_anchor_logps: Float[Array, "*B K"],
    second_anchor_logps: Float[Array, "*B K"],
    weights: Float[Array, "K"],
) -> Float[Array, "*B"]:
    """Gap of a pair under a geometric mixture of anchor policies.

    g = sum_k w_k [log pi_k(y) - log pi_k(y')], in nats.

    Args:
      first_anchor_logps, second_anchor_logps: [*B, K] summed log pi_k of y and of y', in nats.
      weights: [K] w_k; an anchor with weight 0 never matters, NaN included. A policy is the
        mixture's limit only if they sum to 1.
    Needs: anchors.
    """
    chex.assert_equal_shape([first_anchor_logps, second_anchor_logps])
    chex.assert_axis_dimension(first_anchor_logps, -1, weights.shape[0])
    # Before the product: weight 0 times an infinite or NaN log-prob would be NaN.
    gaps = jnp.where(weights != 0, first_anchor_logps - second_anchor_logps, 0.0)
    return jnp.sum(weights * gaps, axis=-1)


def online_ipo_loss(
    first_logps: Float[Array, "*B"],
    second_logps: Float[Array, "*B"],
    ref_first_logps: Float[Array, "*B"],
    ref_second_logps: Float[Array, "*B"],
    win_rate_gaps: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """Online IPO, first form: OMD, Nash-MD, Nash-MP and EGPO, depending on the opponent.

    L = (D - [P(y > q) - P(y' > q)] / beta)^2,   D = log-ratio of y - log-ratio of y'.

    The solution is the best response to q, log mu + P(. > q) / beta. One gradient step on the
    logits of a table, with all ordered pairs of n answers weighted equally, is the map of this file
    with eta = 4 lr / (beta n). The opponent q decides the method. pi_t: online mirror descent. The
    mixture pi_t^(1 - eta beta) mu^(eta beta): Nash-MD. First pi_t and then, from the same pi_t
    again, the policy that results: EGPO and Nash-MP.

    Args:
      first_logps, second_logps: [*B] of a pair drawn uniformly for that step, or from any
        distribution with full support for the solution.
      win_rate_gaps: [*B] P(y > q) - P(y' > q) in [-1, 1], or P(y > y'') - P(y' > y'') for one y''
        drawn from q; no gradient.
      beta: KL weight, > 0; Nash-MD's and INPO's tau.
    Needs: pairs, reference, an opponent's answers, win probabilities.
    Reduces to: `ipo_loss` at win_rate_gaps = 1/2; `online_ipo_v2_loss` at prefs - 1/2; a
      `rebel_loss` on win rates / beta^2.
    Reference: Zhou et al. 2025, arXiv:2503.08942; Munos et al. 2023, arXiv:2312.00886, for Nash-MD;
      Tiapkin et al. 2025, arXiv:2505.19731, for Nash-MP.
    """
    check_range("(0, inf)", beta=beta)
    chex.assert_equal_shape([ref_first_logps, ref_second_logps])
    gaps = ref_first_logps - ref_second_logps
    return pairwise_regression_loss(first_logps, second_logps, gaps, win_rate_gaps / beta)


def online_ipo_v2_loss(
    first_logps: Float[Array, "*B"],
    second_logps: Float[Array, "*B"],
    ref_first_logps: Float[Array, "*B"],
    ref_second_logps: Float[Array, "*B"],
    prefs: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """Online IPO, second form: self-play on pairs of the policy.

    L = (D - [P(y > y') - 1/2] / beta)^2,   D = log-ratio of y - log-ratio of y'.

    On pairs from pi itself (fresh at every step, no gradient through the drawing) its expected
    gradient is 4 / beta times that of `nash_md_pg_loss` in self-play: a policy gradient, not the
    mirror step of `online_ipo_loss`.

    Args:
      prefs: [*B] P(y > y'), a probability or a label, in [0, 1].
    Needs: fresh pairs, reference, soft labels.
    Reduces to: `ipo_loss` at prefs = 1.
    Reference: Zhou et al. 2025, arXiv:2503.08942; Calandriello et al. 2024, arXiv:2403.08635.
    """
    return online_ipo_loss(
        first_logps, second_logps, ref_first_logps, ref_second_logps, prefs - 0.5, beta=beta
    )


def inpo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    old_gaps: Float[Array, "*B"],
    *,
    beta: Scalar,
    eta: Scalar,
) -> Float[Array, "*B"]:
    """INPO, iterative Nash policy optimisation.

    L = (log pi(w) - log pi(l) - eta beta ref_gap - (1 - eta beta) old_gap - eta / 2)^2.

    Each gap is log pi_k(w) - log pi_k(l). On pairs drawn from pi_t and labelled by P, the target
    eta [P(y > pi_t) - P(y' > pi_t)] has the same expected loss as the winner-loser target eta / 2,
    up to a constant, so the solution is a mirror step against pi_t. This fails for other pairs, and
    after a filter such as best and worst of K.

    Args:
      old_gaps: [*B] log pi_t(w) - log pi_t(l) in nats, under the policy that drew the pair; data.
      beta: KL weight to the reference, >= 0; the paper's tau.
      eta: step > 0, eta beta <= 1; ONE OVER the paper's eta (its 0.005 is 200 here).
    Needs: pairs from the last policy, reference, last policy.
    Reduces to: `ipo_loss` at eta beta = 1; `onpo_loss` with pi_t for the base at beta = 0;
      `mnpo_loss` with the two anchors.
    Reference: Zhang et al. 2024, arXiv:2407.00617, Eq. 8.
    """
    check_range("[0, inf)", beta=beta)
    check_range("(0, inf)", eta=eta)
    # Rounding of eta * beta in float32 may exceed 1.
    check_range("[0, 1.000001]", **{"eta * beta": eta * beta})
    chex.assert_equal_shape([ref_chosen_logps, ref_rejected_logps, old_gaps])
    ref_weight = eta * beta
    gaps = ref_weight * (ref_chosen_logps - ref_rejected_logps) + (1.0 - ref_weight) * old_gaps
    return _winner_loss(chosen_logps, rejected_logps, gaps, eta)


def onpo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    base_chosen_logps: Float[Array, "*B"],
    base_rejected_logps: Float[Array, "*B"],
    *,
    eta: Scalar,
) -> Float[Array, "*B"]:
    """ONPO, optimistic online mirror descent.

    L = (D - eta / 2)^2,   D = log-ratio of w - log-ratio of l, to the base iterate.

    A round solves it twice on pairs drawn from pi_t and labelled by P: from the base of the last
    round, which gives the new base, and from the new base, which gives pi_{t+1}.

    Needs: pairs from the last policy, base iterate.
    Reduces to: `ipo_loss` at beta = 1 / eta with the base as reference.
    Reference: Zhang et al. 2025, arXiv:2502.16852. No official code; which policy is the base in
      the two solves is our reading.
    """
    chex.assert_equal_shape([base_chosen_logps, base_rejected_logps])
    gaps = base_chosen_logps - base_rejected_logps
    return _winner_loss(chosen_logps, rejected_logps, gaps, eta)


def mnpo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    chosen_anchor_logps: Float[Array, "*B K"],
    rejected_anchor_logps: Float[Array, "*B K"],
    *,
    weights: Float[Array, "K"],
    eta: Scalar,
) -> Float[Array, "*B"]:
    """MNPO, multiplayer Nash preference optimisation.

    L = (log pi(w) - log pi(l) - sum_k w_k [log pi_k(w) - log pi_k(l)] - eta / 2)^2.

    TD-MNPO: the anchors are the reference, with weight rho, and the last policies, with weights
    (1 - rho) lambda_j, the lambda_j summing to 1. On pairs from pi_t the history is a KL anchor and
    the opponent is pi_t alone; the fixed point is that of the two-player game with KL weight
    beta = rho / eta. HT-MNPO: the anchors are the other players, the label this player's own.

    Args:
      chosen_anchor_logps, rejected_anchor_logps: [*B, K] the same under each anchor.
      weights: [K] >= 0, summing to 1; 0 for a part of the history that does not exist yet.
      eta: step > 0; ONE OVER the eta of the official code and of Eq. 15.
    Needs: pairs from the last policy, anchors.
    Reduces to: `inpo_loss` with the anchors reference and pi_t; `ipo_loss` with the reference only.
    Reference: Wu et al. 2025, arXiv:2509.23102, Eq. 17.
    Departs: Eq. 14 has step eta and Eq. 15 step 1 / eta; here it is the step in all. The official
      code averages log-probs over tokens against the same target; pass mean_logps for that.
    """
    check_entries("[0, inf)", weights=weights)
    gaps = anchor_gaps(chosen_anchor_logps, rejected_anchor_logps, weights)
    return _winner_loss(chosen_logps, rejected_logps, gaps, eta)


def _winner_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    gaps: Float[Array, "*B"],
    eta: Scalar,
) -> Float[Array, "*B"]:
    """Regression on the constant target of winner-loser pairs, half a step."""
    check_range("(0, inf)", eta=eta)
    targets = jnp.full_like(gaps, 0.5 * eta)
    return pairwise_regression_loss(chosen_logps, rejected_logps, gaps, targets)


def sppo_loss(
    logps: Float[Array, "*B"],
    old_logps: Float[Array, "*B"],
    prefs: Float[Array, "*B"],
    *,
    eta: Scalar,
) -> Float[Array, "*B"]:
    """SPPO, self-play preference optimisation with soft labels, one value per answer.

    L = (log pi(y) - log pi_t(y) - eta [P(y > pi_t) - 1/2])^2.

    As in the paper, the log of the normaliser is taken to be eta / 2, so this is the mirror step
    only to first order in eta.

    Args:
      logps, old_logps: [*B] summed log pi and log pi_t of an answer drawn from pi_t, in nats.
      prefs: [*B] P(y > pi_t) in [0, 1], e.g. the share of its K answers that y beats; no gradient.
    Needs: answers from the last policy, win probabilities.
    Reduces to: `sppo_hard_loss` in the mean over labels, at beta = 1 / eta, up to a constant.
    Reference: Wu et al. 2024, arXiv:2405.00675.
    """
    check_range("(0, inf)", eta=eta)
    chex.assert_equal_shape([logps, old_logps, prefs])
    return links.squared(logps - jax.lax.stop_gradient(old_logps), eta * (prefs - 0.5))


def nash_md_pg_loss(
    token_logps: Float[Array, "*B T"],
    ref_token_logps: Float[Array, "*B T"],
    prefs: Float[Array, "*B"],
    mask: Bool[Array, "*B T"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """Nash-MD-PG, policy gradient against a mixture opponent, one value per answer.

    L = -sum_t sg(P(y > y') - 1/2 - beta sum_{m >= t} log-ratio_m) log pi(y_t).

    y is drawn from pi and y' from the opponent: pi^(1 - b) mu^b in the paper (b = 0 is self-play,
    b = 1 the best response to mu), a moving average of pi in Nash-EMA-PG. Each token is charged the
    KL from itself to the end, which makes the mean gradient exactly that of
    -E[P(y > y')] + beta KL(pi || mu) with the opponent held fixed. With the log-probs of
    (beta mu + c pi_k) / (beta + c) for the reference and beta + c for beta it is the proximal
    gradient of Nash-MP. Only the gradient of the loss has a meaning.

    Args:
      token_logps, ref_token_logps: [*B, T] log pi and log mu of each token, in nats.
      prefs: [*B] P(y > y') in [0, 1], a probability or a label; no gradient.
      mask: [*B, T] True where the token counts; a row without tokens has loss 0.
      beta: KL weight, >= 0; the paper's tau.
    Needs: fresh samples, reference, an opponent's answers, soft labels.
    Reduces to: `reinforce_loss` with advantages prefs - 1/2 at beta = 0; beta / 4 times
      `online_ipo_v2_loss` in the mean gradient of self-play.
    Reference: Munos et al. 2023, arXiv:2312.00886.
    """
    check_range("[0, inf)", beta=beta)
    costs = _log_ratios(token_logps, ref_token_logps, mask)
    # Sums from each token to the end: a cumulative sum of the reversed row, reversed again.
    to_go = jnp.flip(jnp.cumsum(jnp.flip(costs, -1), axis=-1), -1)
    return _credited_loss(token_logps, prefs, mask, beta * to_go)


def nash_md_pg_token_loss(
    token_logps: Float[Array, "*B T"],
    ref_token_logps: Float[Array, "*B T"],
    prefs: Float[Array, "*B"],
    mask: Bool[Array, "*B T"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """Nash-MD-PG with each token charged its own KL only, as in TRL, one value per answer.

    L = -sum_t sg(P(y > y') - 1/2 - beta log-ratio_t) log pi(y_t).

    Its mean gradient is not that of any penalty on KL(pi || mu) over answers, because a token is
    not charged for the KL of the tokens after it: less variance, but a bias beyond one token.

    Args:
      token_logps, ref_token_logps, prefs, mask, beta: as in `nash_md_pg_loss`.
    Needs: fresh samples, reference, an opponent's answers, soft labels.
    Reduces to: `nash_md_pg_loss` on answers of one token.
    Reference: the Nash-MD trainer of TRL.
    Departs: the paper charges the KL to go, `nash_md_pg_loss`.
    """
    check_range("[0, inf)", beta=beta)
    costs = _log_ratios(token_logps, ref_token_logps, mask)
    return _credited_loss(token_logps, prefs, mask, beta * costs)


def _log_ratios(
    token_logps: Float[Array, "*B T"],
    ref_token_logps: Float[Array, "*B T"],
    mask: Bool[Array, "*B T"],
) -> Float[Array, "*B T"]:
    """log pi - log mu per token, 0 under the mask."""
    check_mask(mask=mask)
    chex.assert_equal_shape([token_logps, ref_token_logps, mask])
    # No stop-gradient here: `reinforce_loss` stops that of its advantages.
    return jnp.where(mask, token_logps - ref_token_logps, 0.0)


def _credited_loss(
    token_logps: Float[Array, "*B T"],
    prefs: Float[Array, "*B"],
    mask: Bool[Array, "*B T"],
    penalties: Float[Array, "*B T"],
) -> Float[Array, "*B"]:
    """REINFORCE on win minus a half minus the penalty of each token, summed over the answer."""
    chex.assert_shape(prefs, token_logps.shape[:-1])
    advantages = jnp.where(mask, prefs[..., None] - 0.5 - penalties, 0.0)
    return masked_sum(reinforce_loss(token_logps, advantages), mask, axis=-1)
