"""Acquisition scores of candidate queries; the query with the largest score is asked next.

A rule sees the posterior of the learner (ensemble members or particles, an information matrix),
never the true reward. `probs` [M, *B, K] are the members' probabilities of each answer (K = 2 for a
comparison), `weights` [M] their posterior weights, which sum to 1. Scores do not depend on the
order of a query's options.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from rlhf_jax.checks import check_range
from rlhf_jax.feedback.choices import choice_logps
from rlhf_jax.types import Scalar

Probs = Float[Array, "M *B K"]
Weights = Float[Array, " M"]


def member_probs(
    options: Float[Array, "*B K d"], thetas: Float[Array, "M d"], *, beta: Scalar
) -> Float[Array, "M *B K"]:
    """P(answer) of each member for linear rewards: softmax(beta options @ theta_i).

    Args:
      options: [*B, K, d] features of the options of each query.
      thetas: [M, d] reward weights of the members.
      beta: rationality >= 0 of the teacher. May be traced.
    """
    values = jnp.einsum("...kd,md->m...k", options, thetas)
    return jnp.exp(choice_logps(values, beta=beta))


def choice_entropy(probs: Float[Array, "*B K"]) -> Float[Array, "*B"]:
    """H = -sum_c p_c log p_c in nats, 0 log 0 = 0."""
    return -jnp.sum(jax.scipy.special.xlogy(probs, probs), axis=-1)


def mean_probs(probs: Float[Array, "M *B K"], weights: Weights) -> Float[Array, "*B K"]:
    """The mean prediction of the members: sum_i w_i P_i."""
    return jnp.tensordot(weights, probs, axes=1)


def random_scores(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "*B"]:
    """Uniform in [0, 1): the baseline, and the rule for a first batch."""
    return jax.random.uniform(key, shape)


def entropy_of_mean(probs: Probs, weights: Weights) -> Float[Array, "*B"]:
    """H(sum_i w_i P_i) in nats: total uncertainty of the answer, from noise and from ignorance."""
    return choice_entropy(mean_probs(probs, weights))


def mean_entropy(probs: Probs, weights: Weights) -> Float[Array, "*B"]:
    """sum_i w_i H(P_i) in nats: expected noise of the teacher, not a disagreement of members."""
    return jnp.tensordot(weights, choice_entropy(probs), axes=1)


def disagreement(probs: Probs, weights: Weights) -> Float[Array, "*B"]:
    """sqrt(mean_c Var_i P_i(c)); for a comparison, the standard deviation of P_i(1 > 0)."""
    away = probs - mean_probs(probs, weights)
    return jnp.sqrt(jnp.mean(jnp.tensordot(weights, away**2, axes=1), axis=-1))


def mutual_information(probs: Probs, weights: Weights) -> Float[Array, "*B"]:
    """I(answer; member) in nats: sum_{i,c} w_i P_i(c) log(P_i(c) / P_bar(c)).

    Equals H(P_bar) - sum_i w_i H(P_i), without its cancellation; 0 for a query of identical items.

    Reference: Houlsby et al. 2011, arXiv:1112.5745; for comparisons Biyik et al. 2019,
      arXiv:1910.04365, Eq. 4.
    """
    mean = mean_probs(probs, weights)
    safe = jnp.where(mean > 0, mean, 1.0)
    gain = jnp.sum(jax.scipy.special.xlogy(probs, probs / safe), axis=-1)
    return jnp.tensordot(weights, gain, axes=1)


def mixture_information(
    means: Float[Array, "M *B k"], log_variances: Float[Array, "M *B k"], weights: Weights
) -> Float[Array, "*B"]:
    """Information about a user's latent in the answers to queries, if the encoder's posterior after
    each possible set of answers is a diagonal Gaussian.

    1/2 sum_j [ log Var_j - sum_i w_i lv_ij ],   Var_j = sum_i w_i (exp(lv_ij) + (m_ij - m_j)^2).

    The entropy of the mixture as if it were a Gaussian with the same variances, minus the expected
    entropy after the answers; >= 0, and 0 if all answers lead to the same posterior.

    Args:
      means, log_variances: [M, *B, k] posterior after each of M answers to each set of queries.
      weights: [M] probability of each answer, or a guess of it.
    Reference: Poddar et al. 2024, arXiv:2408.10075, for information gain as the rule.
    Departs: their code is `variance_information`.
    """
    centre = jnp.tensordot(weights, means, axes=1)
    spread = jnp.tensordot(weights, jnp.exp(log_variances) + (means - centre) ** 2, axes=1)
    within = jnp.tensordot(weights, log_variances, axes=1)
    return 0.5 * jnp.sum(jnp.log(spread) - within, axis=-1)


def variance_information(log_variances: Float[Array, "M *B k"]) -> Float[Array, "*B"]:
    """The rule in the code of VPL: all answers alike, and the means of the posteriors left out.

    log(2 pi mean_i sum_j v_ij) - mean_i sum_j log(2 pi v_ij),   v = exp(lv).

    It prefers queries after which the encoder is certain, whatever it is certain of.

    Args:
      log_variances: [M, *B, k] lv of the posterior after each of M answers to each set of queries.
    Reference: Poddar et al. 2024, arXiv:2408.10075, their code for control.
    """
    total = jnp.mean(jnp.sum(jnp.exp(log_variances), axis=-1), axis=0)
    logs = jnp.sum(jnp.log(2 * jnp.pi) + log_variances, axis=-1)
    return jnp.log(2 * jnp.pi * total) - jnp.mean(logs, axis=0)


def volume_removal(probs: Probs, weights: Weights) -> Float[Array, "*B"]:
    """Expected share of the posterior removed by the answer: 1 - sum_c P_bar(c)^2.

    A query of identical items reaches the maximum 1 - 1 / K, although nothing can be learned from
    it.

    Reference: Sadigh et al. 2017, "Active preference-based learning of reward functions".
    """
    return 1.0 - jnp.sum(mean_probs(probs, weights) ** 2, axis=-1)


def least_volume_removal(probs: Probs, weights: Weights) -> Float[Array, "*B"]:
    """Share removed by the least informative answer: min_c sum_i w_i (1 - P_i(c)).

    For comparisons it ranks queries like `volume_removal`.
    """
    return 1.0 - jnp.max(mean_probs(probs, weights), axis=-1)


def max_regret(
    options: Float[Array, "*B 2 d"], thetas: Float[Array, "*B 2 d"], weights: Float[Array, "*B 2"]
) -> Float[Array, "*B"]:
    """Regret of two candidate rewards under each other's best behaviour, in units of reward.

    w_a w_b [theta_a . (phi_a - phi_b) + theta_b . (phi_b - phi_a)].

    Args:
      options: [*B, 2, d] features of the best trajectory under each of the two rewards.
      thetas: [*B, 2, d] the rewards.
      weights: [*B, 2] their posterior weights, or ones.
    Reference: Wilde et al. 2020, arXiv:2005.04067.
    Departs: the difference of values instead of their ratio, which fails for negative rewards.
    """
    chex.assert_equal_shape([options, thetas])
    apart = options[..., 0, :] - options[..., 1, :]
    lost = jnp.sum(apart * (thetas[..., 0, :] - thetas[..., 1, :]), axis=-1)
    return weights[..., 0] * weights[..., 1] * lost


def pair_information(prefs: Float[Array, "*B"], *, beta: Scalar) -> Float[Array, "*B"]:
    """Fisher information of a comparison along x = phi_1 - phi_0: v = beta^2 p (1 - p)."""
    check_range("[0, inf)", beta=beta)
    return beta**2 * prefs * (1.0 - prefs)


def widths(x: Float[Array, "*B d"], covariance: Float[Array, "d d"]) -> Float[Array, "*B"]:
    """x^T A^{-1} x, the squared uncertainty of the value of x."""
    return jnp.einsum("...i,ij,...j->...", x, covariance, x)


def d_optimal(
    x: Float[Array, "*B d"], information: Float[Array, "*B"], covariance: Float[Array, "d d"]
) -> Float[Array, "*B"]:
    """Growth of the log-determinant: log det(A + v x x^T) - log det A = log(1 + v x^T A^{-1} x).

    Args:
      x: [*B, d] phi_1 - phi_0 of each comparison.
      information: [*B] v of `pair_information`.
      covariance: [d, d] A^{-1}, where A is the information of the prior and the answers so far.
    """
    return jnp.log1p(information * widths(x, covariance))


def add_information(
    covariance: Float[Array, "d d"], x: Float[Array, " d"], information: Scalar
) -> Float[Array, "d d"]:
    """(A + v x x^T)^{-1} from A^{-1}, by the Sherman-Morrison formula."""
    step = covariance @ x
    return covariance - information * jnp.outer(step, step) / (1.0 + information * (x @ step))


def g_optimal(
    x: Float[Array, "*B d"],
    information: Float[Array, "*B"],
    covariance: Float[Array, "d d"],
    targets: Float[Array, "N d"],
) -> Float[Array, "*B"]:
    """-max_z z^T (A + v x x^T)^{-1} z: minus the largest remaining uncertainty of a target z."""
    cross = jnp.einsum("...i,ij,nj->...n", x, covariance, targets)
    shrink = information / (1.0 + information * widths(x, covariance))
    return -jnp.max(widths(targets, covariance) - shrink[..., None] * cross**2, axis=-1)


def v_optimal(
    x: Float[Array, "*B d"],
    information: Float[Array, "*B"],
    covariance: Float[Array, "d d"],
    target_covariance: Float[Array, "d d"],
) -> Float[Array, "*B"]:
    """-tr((A + v x x^T)^{-1} Sigma): minus the mean remaining uncertainty of on-policy differences.

    target_covariance is Sigma, the covariance of those differences.
    """
    step = x @ covariance
    gain = information * widths(step, target_covariance)
    total = jnp.sum(covariance * target_covariance.T)
    return gain / (1.0 + information * widths(x, covariance)) - total


def policy_gain(
    probs: Probs,
    weights: Weights,
    thetas: Float[Array, "M d"],
    policy_features: Float[Array, "N d"],
) -> Float[Array, "*B"]:
    """Value of policy improvement: E_y max_pi J(pi | D + y) - max_pi J(pi | D), in reward.

    sum_y max_pi sum_i w_i P_i(y) theta_i . mu_pi - max_pi sum_i w_i theta_i . mu_pi.

    Args:
      thetas: [M, d] linear rewards of the members.
      policy_features: [N, d] mu, expected features of each candidate policy.
    Returns:
      [*B] >= 0; 0 if no answer would change the policy.
    """
    values = weights[:, None] * (thetas @ policy_features.T)
    after = jnp.max(jnp.einsum("m...k,mn->...kn", probs, values), axis=-1)
    return jnp.sum(after, axis=-1) - jnp.max(jnp.sum(values, axis=0))


def closest_margin(margins: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """-|h_1 - h_0|, largest for pairs of which a DPO policy is least certain.

    Args:
      margins: [*B] h_1 - h_0, gaps of implicit rewards.
    Reference: Muldrew et al. 2024, arXiv:2402.08114 (the opposite order of preference certainty).
    """
    return -jnp.abs(margins)


def on_policy(
    scores: Float[Array, "*B"], ages: Float[Array, "*B"], *, decay: Scalar
) -> Float[Array, "*B"]:
    """score * exp(-age / decay): old rollouts count less. Scores must be >= 0."""
    return scores * jnp.exp(-ages / decay)


def per_group(
    scores: Float[Array, "*B"], groups: Int[Array, "*B"], counts: Int[Array, " G"]
) -> Float[Array, "*B"]:
    """score / max(n_g, 1), where n_g counts the labels of the query's group: small groups gain.

    Args:
      scores: [*B] >= 0.
      groups: [*B] the group that would be asked.
      counts: [G] number of labels of each group so far.
    """
    return scores / jnp.maximum(counts, 1)[groups]


def worst_group(scores: Float[Array, "G *B"]) -> Float[Array, "*B"]:
    """Lowest score over groups: the information gained about the worst-served group."""
    return jnp.min(scores, axis=0)


def optimistic_pair(
    features: Float[Array, "N d"],
    theta: Float[Array, " d"],
    covariance: Float[Array, "d d"],
    reference: Float[Array, " d"],
    *,
    bonus: Scalar,
) -> Int[Array, "2"]:
    """A pair: the response with the highest upper confidence bound, and the best by the estimate.

    (argmax_y theta . phi + c |phi - phi_ref|_{A^{-1}}, argmax_y theta . phi).

    Args:
      features: [N, d] of the responses to one prompt.
      theta, covariance: the estimate and A^{-1}.
      reference: [d] phi_ref, the features at which the reward is defined as 0.
      bonus: c >= 0. May be traced.
    Returns:
      [2] indices; they are equal if no comparison is worth asking.
    """
    check_range("[0, inf)", bonus=bonus)
    means = features @ theta
    wide = jnp.sqrt(jnp.maximum(widths(features - reference, covariance), 0.0))
    return jnp.stack([jnp.argmax(means + bonus * wide), jnp.argmax(means)])


def thompson_pair(features: Float[Array, "N d"], draws: Float[Array, "2 d"]) -> Int[Array, "2"]:
    """The best response under each of two posterior draws, [2] indices; they may be equal.

    Reference: dueling posterior sampling, Novoseltsev et al. 2019, arXiv:1908.01289.
    """
    return jnp.argmax(features @ draws.T, axis=0)
