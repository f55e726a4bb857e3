"""Which question next: acquisition scores of candidate queries, the larger the better.

A rule sees what the learner believes (members of an ensemble or particles, an information matrix),
never the true reward. `probs` [M, *B, K] are the members' probabilities of each answer (for a
comparison K = 2) and `weights` [M] their posterior weights, which sum to 1. Scores do not change
when the options of a query are permuted.
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
    """P(answer) of each member, for linear rewards: softmax(beta options @ theta_i).

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
    """What the members predict together: sum_i w_i P_i."""
    return jnp.tensordot(weights, probs, axes=1)


def random_scores(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "*B"]:
    """The baseline, and the rule of a first batch: uniform in [0, 1)."""
    return jax.random.uniform(key, shape)


def entropy_of_mean(probs: Probs, weights: Weights) -> Float[Array, "*B"]:
    """H(sum_i w_i P_i) in nats: how open the answer is, be it from noise or from ignorance."""
    return choice_entropy(mean_probs(probs, weights))


def mean_entropy(probs: Probs, weights: Weights) -> Float[Array, "*B"]:
    """sum_i w_i H(P_i) in nats: how noisy the members think the teacher; not a disagreement."""
    return jnp.tensordot(weights, choice_entropy(probs), axes=1)


def disagreement(probs: Probs, weights: Weights) -> Float[Array, "*B"]:
    """sqrt(mean_c Var_i P_i(c)): for a comparison the standard deviation of P_i(1 > 0)."""
    away = probs - mean_probs(probs, weights)
    return jnp.sqrt(jnp.mean(jnp.tensordot(weights, away**2, axes=1), axis=-1))


def mutual_information(probs: Probs, weights: Weights) -> Float[Array, "*B"]:
    """I(answer; member) in nats: sum_{i,c} w_i P_i(c) log(P_i(c) / P_bar(c)).

    H(P_bar) - sum_i w_i H(P_i), written so that no digits cancel; 0 for a query of identical items.

    Reference: Houlsby et al. 2011, arXiv:1112.5745; for comparisons Biyik et al. 2019,
      arXiv:1910.04365, Eq. 4.
    """
    mean = mean_probs(probs, weights)
    safe = jnp.where(mean > 0, mean, 1.0)
    gain = jnp.sum(jax.scipy.special.xlogy(probs, probs / safe), axis=-1)
    return jnp.tensordot(weights, gain, axes=1)


def volume_removal(probs: Probs, weights: Weights) -> Float[Array, "*B"]:
    """Expected share of the posterior removed by the answer: 1 - sum_c P_bar(c)^2.

    Its maximum 1 - 1 / K is reached by identical items, from which nothing can be learnt.

    Reference: Sadigh et al. 2017, "Active preference-based learning of reward functions".
    """
    return 1.0 - jnp.sum(mean_probs(probs, weights) ** 2, axis=-1)


def least_volume_removal(probs: Probs, weights: Weights) -> Float[Array, "*B"]:
    """Share removed by the answer that removes least: min_c sum_i w_i (1 - P_i(c)).

    For comparisons it orders queries as `volume_removal` does.
    """
    return 1.0 - jnp.max(mean_probs(probs, weights), axis=-1)


def max_regret(
    options: Float[Array, "*B 2 d"], thetas: Float[Array, "*B 2 d"], weights: Float[Array, "*B 2"]
) -> Float[Array, "*B"]:
    """How much two beliefs would lose by each other's best behaviour, in reward.

    w_a w_b [theta_a . (phi_a - phi_b) + theta_b . (phi_b - phi_a)]; a difference, so that negative
    rewards do no harm.

    Args:
      options: [*B, 2, d] features of the best trajectory under each of the two rewards.
      thetas: [*B, 2, d] the rewards.
      weights: [*B, 2] their posterior weights, or ones.
    Reference: Wilde et al. 2020, arXiv:2005.04067.
    Departs: the difference in place of the ratio of values.
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
    """x^T A^{-1} x, squared uncertainty about the value of x; below a threshold, don't ask."""
    return jnp.einsum("...i,ij,...j->...", x, covariance, x)


def d_optimal(
    x: Float[Array, "*B d"], information: Float[Array, "*B"], covariance: Float[Array, "d d"]
) -> Float[Array, "*B"]:
    """Growth of the log-determinant: log det(A + v x x^T) - log det A = log(1 + v x^T A^{-1} x).

    Args:
      x: [*B, d] phi_1 - phi_0 of each comparison.
      information: [*B] v of `pair_information`.
      covariance: [d, d] A^{-1}, A the information of prior and answers so far.
    """
    return jnp.log1p(information * widths(x, covariance))


def add_information(
    covariance: Float[Array, "d d"], x: Float[Array, " d"], information: Scalar
) -> Float[Array, "d d"]:
    """(A + v x x^T)^{-1} from A^{-1}, by Sherman and Morrison."""
    step = covariance @ x
    return covariance - information * jnp.outer(step, step) / (1.0 + information * (x @ step))


def g_optimal(
    x: Float[Array, "*B d"],
    information: Float[Array, "*B"],
    covariance: Float[Array, "d d"],
    targets: Float[Array, "N d"],
) -> Float[Array, "*B"]:
    """-max_z z^T (A + v x x^T)^{-1} z: the largest uncertainty left over the targets z [N, d]."""
    cross = jnp.einsum("...i,ij,nj->...n", x, covariance, targets)
    shrink = information / (1.0 + information * widths(x, covariance))
    return -jnp.max(widths(targets, covariance) - shrink[..., None] * cross**2, axis=-1)


def v_optimal(
    x: Float[Array, "*B d"],
    information: Float[Array, "*B"],
    covariance: Float[Array, "d d"],
    target_covariance: Float[Array, "d d"],
) -> Float[Array, "*B"]:
    """-tr((A + v x x^T)^{-1} Sigma): mean uncertainty left, Sigma that of on-policy differences."""
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
      probs, weights: as everywhere.
      thetas: [M, d] linear rewards of the members.
      policy_features: [N, d] mu, expected features of each policy to choose from.
    Returns:
      [*B] >= 0; 0 where no answer would change the policy.
    """
    values = weights[:, None] * (thetas @ policy_features.T)
    after = jnp.max(jnp.einsum("m...k,mn->...kn", probs, values), axis=-1)
    return jnp.sum(after, axis=-1) - jnp.max(jnp.sum(values, axis=0))


def closest_margin(margins: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """-|h_1 - h_0|: pairs that a DPO policy is least sure of; margins = their gap of rewards.

    Reference: Muldrew et al. 2024, arXiv:2402.08114 (preference certainty, of which this is the
      opposite order).
    """
    return -jnp.abs(margins)


def on_policy(
    scores: Float[Array, "*B"], ages: Float[Array, "*B"], *, decay: Scalar
) -> Float[Array, "*B"]:
    """score * exp(-age / decay): old roll-outs count less. Scores must be >= 0."""
    return scores * jnp.exp(-ages / decay)


def per_group(
    scores: Float[Array, "*B"], groups: Int[Array, "*B"], counts: Int[Array, " G"]
) -> Float[Array, "*B"]:
    """score / n_g, n_g >= 1 the labels that the query's group has given: minorities are asked too.

    Args:
      scores: [*B] >= 0.
      groups: [*B] the group that would be asked.
      counts: [G] labels so far; a group without any counts as one with one.
    """
    return scores / jnp.maximum(counts, 1)[groups]


def worst_group(scores: Float[Array, "G *B"]) -> Float[Array, "*B"]:
    """min_g score: what the query tells the group that it tells least."""
    return jnp.min(scores, axis=0)


def optimistic_pair(
    features: Float[Array, "N d"],
    theta: Float[Array, " d"],
    covariance: Float[Array, "d d"],
    reference: Float[Array, " d"],
    *,
    bonus: Scalar,
) -> Int[Array, "2"]:
    """The response of highest upper bound against the best by the estimate.

    (argmax_y theta . phi + c |phi - phi_ref|_{A^{-1}}, argmax_y theta . phi).

    Args:
      features: [N, d] of the responses to one prompt.
      theta, covariance: the estimate and A^{-1}.
      reference: [d] phi_ref, where the reward is pinned to 0.
      bonus: c >= 0. May be traced.
    Returns:
      [2] indices; equal where nothing is worth asking.
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
