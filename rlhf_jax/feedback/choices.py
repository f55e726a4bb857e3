"""Reward-rational choice: every kind of feedback as a choice among options with features.

A kind of feedback is a choice set with a grounding, which gives each option the expected sum of
reward features of the trajectories that it stands for. The functions `*_options` turn step features
[*B, T, d] into option features [*B, K, d]; values are `options @ theta`, and all kinds share
`choice_loglik`. Features are summed over steps, so longer segments act like a larger beta.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from rlhf_jax.checks import NAN_OUTSIDE, check_ids, check_mask, check_range, entries
from rlhf_jax.ops.masking import masked_sum
from rlhf_jax.types import Scalar


def choice_logps(
    values: Float[Array, "*B K"], mask: Bool[Array, "*B K"] | None = None, *, beta: Scalar
) -> Float[Array, "*B K"]:
    """log P(option) of a reward-rational chooser, in nats.

    P(c) = exp(beta v_c) / sum_{c' allowed} exp(beta v_{c'}),   v_c = E_{xi ~ psi(c)} r(xi).

    Args:
      values: [*B, K] v, value of each option.
      mask: [*B, K] True where the option may be chosen, at least once per row; None for all.
      beta: rationality >= 0, in 1 / value; finite. May be traced.
    Returns:
      [*B, K], -inf where the option may not be chosen; values there have no effect.
    Reference: Jeon et al. 2020, arXiv:2002.04833.
    """
    if mask is not None:
        check_mask(mask=mask)
    check_range("[0, inf)", beta=beta)
    if mask is None:
        return jax.nn.log_softmax(beta * values, axis=-1)
    chex.assert_equal_shape([values, mask])
    scaled = beta * jnp.where(mask, values, 0.0)
    return jax.nn.log_softmax(jnp.where(mask, scaled, -jnp.inf), axis=-1)


def choice_loglik(
    values: Float[Array, "*B K"],
    choice: Int[Array, "*B"],
    mask: Bool[Array, "*B K"] | None = None,
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """log P(choice) of a reward-rational chooser: the likelihood of every kind of feedback.

    Args:
      values, mask, beta: as in `choice_logps`; values of linear rewards are options @ theta.
      choice: [*B] index of the chosen option.
    Returns:
      [*B] nats, <= 0; -inf for an option that may not be chosen.
    Reference: Jeon et al. 2020, arXiv:2002.04833.
    """
    chex.assert_equal_shape([values[..., 0], choice])
    logps = choice_logps(values, mask, beta=beta)
    return entries(logps, choice=choice)


def choice_gradient(
    options: Float[Array, "*B K d"],
    theta: Float[Array, " d"],
    choice: Int[Array, "*B"],
    mask: Bool[Array, "*B K"] | None = None,
    *,
    beta: Scalar,
) -> Float[Array, "*B d"]:
    """Gradient of `choice_loglik` with respect to the weights of a linear reward, in closed form.

    beta (phi(c*) - E_{c ~ P} phi(c)).

    Args:
      options: [*B, K, d] phi, features of each option.
      theta: [d] reward weights.
      choice, mask, beta: as in `choice_loglik`.
    Returns:
      [*B, d].
    """
    check_ids(choice=choice)
    probs = jnp.exp(choice_logps(options @ theta, mask, beta=beta))
    if mask is not None:
        options = jnp.where(mask[..., None], options, 0.0)
    places = choice[..., None, None]
    chosen = jnp.take_along_axis(options, places, axis=-2, **NAN_OUTSIDE)[..., 0, :]
    return beta * (chosen - jnp.einsum("...k,...kd->...d", probs, options))


def sample_choice(
    key: Key[Array, ""],
    values: Float[Array, "*B K"],
    mask: Bool[Array, "*B K"] | None = None,
    *,
    beta: Scalar,
) -> Int[Array, "*B"]:
    """A reward-rational choice, c ~ P of `choice_logps`.

    Args:
      key: one key for the whole batch.
      values, mask: as in `choice_logps`.
      beta: rationality >= 0; inf takes the largest value, the lower index in a tie. May be traced.
    Returns:
      [*B] int32.
    """
    if mask is not None:
        check_mask(mask=mask)
    check_range("[0, inf]", beta=beta)
    # beta may be traced: both cases are computed, with beta = 0 where inf * 0 would be NaN.
    sure = jnp.isinf(beta)
    noise = jax.random.gumbel(key, values.shape, values.dtype)
    noisy = jnp.where(sure, values, jnp.where(sure, 0.0, beta) * values + noise)
    allowed = noisy if mask is None else jnp.where(mask, noisy, -jnp.inf)
    return jnp.argmax(allowed, axis=-1).astype(jnp.int32)


def subset_loglik(
    values: Float[Array, "*B K"],
    members: Bool[Array, "*B K"],
    mask: Bool[Array, "*B K"] | None = None,
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """log P(the choice lies in a subset), for feedback that shows only a consequence of the choice.

    log sum_{c in members} P(c). Example, preferences implicit in the initial state: the options are
    the trajectories of a rational agent before the learner came, the members those that end in the
    observed state.

    Args:
      values, mask, beta: as in `choice_logps`.
      members: [*B, K] True for the options that are consistent with the observation.
    Returns:
      [*B] nats, <= 0; -inf if no member may be chosen.
    Reference: Shah et al. 2019, arXiv:1902.04198 (preferences implicit in the state).
    Departs: dynamics are deterministic, so the probability of a trajectory is that of its choice.
    """
    check_mask(members=members)
    chex.assert_equal_shape([values, members])
    logps = choice_logps(values, mask, beta=beta)
    return jax.nn.logsumexp(logps, axis=-1, where=members)


def sampled_demonstration_loglik(
    values: Float[Array, "*B K"],
    sample_logps: Float[Array, "*B K"],
    choice: Int[Array, "*B"],
    mask: Bool[Array, "*B K"] | None = None,
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """log P(demonstration) against K - 1 sampled alternatives, corrected for their distribution.

    P(c) ~ exp(beta v_c) / q(c). Without the correction, behaviour that is sampled often would seem
    to have a low reward.

    Args:
      values: [*B, K] returns of the demonstration and of the alternatives.
      sample_logps: [*B, K] log q of all of them (also of the demonstration) under the distribution
        of the alternatives, up to a constant per row.
      choice: [*B] index of the demonstration.
      mask: as in `choice_logps`.
      beta: rationality >= 0. May be traced.
    Returns:
      [*B] nats, <= 0. Its maximiser over rewards is consistent, like that of the full choice set.
    Reference: McFadden 1978, "Modelling the choice of residential location" (sampled choice sets).
    """
    check_range("[0, inf)", beta=beta)
    chex.assert_equal_shape([values, sample_logps])
    return choice_loglik(beta * values - sample_logps, choice, mask, beta=1.0)


def demonstration_loglik(
    returns: Float[Array, "*B"], log_partition: Float[Array, "*B"], *, beta: Scalar
) -> Float[Array, "*B"]:
    """log P(demonstration) with a known partition function over all trajectories: beta R - log Z.

    With deterministic dynamics log Z is beta times the soft value of the initial state at
    temperature 1 / beta (`ops.bellman.soft_values` with reference log-probs 0).

    Args:
      returns: [*B] R of the demonstrated trajectory.
      log_partition: [*B] log sum over trajectories of exp(beta R), for the same reward.
      beta: rationality >= 0. May be traced.
    Returns:
      [*B] nats.
    Reference: Ziebart et al. 2008, "Maximum entropy inverse reinforcement learning".
    """
    check_range("[0, inf)", beta=beta)
    chex.assert_equal_shape([returns, log_partition])
    return beta * returns - log_partition


def action_loglik(
    action_values: Float[Array, "*B T A"],
    actions: Int[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """log P(demonstration) action by action: sum_t [beta Q(s_t, a_t) - logsumexp_a beta Q(s_t, a)].

    Args:
      action_values: [*B, T, A] Q at the visited states.
      actions: [*B, T] taken.
      mask: [*B, T] True where the step counts.
      beta: rationality >= 0. May be traced.
    Returns:
      [*B] nats, <= 0.
    Reference: Ramachandran and Amir 2007, "Bayesian inverse reinforcement learning".
    """
    check_ids(actions=actions)
    return masked_sum(choice_loglik(action_values, actions, beta=beta), mask, axis=-1)


def comparison_options(
    first: Float[Array, "*B T d"],
    second: Float[Array, "*B T d"],
    first_mask: Bool[Array, "*B T"],
    second_mask: Bool[Array, "*B T"],
) -> Float[Array, "*B 2 d"]:
    """Options of a comparison: the sums of the step features of both segments, without padding."""
    check_mask(first_mask=first_mask, second_mask=second_mask)
    sums = [
        jnp.sum(jnp.where(mask[..., None], steps, 0.0), axis=-2)
        for steps, mask in ((first, first_mask), (second, second_mask))
    ]
    return jnp.stack(sums, axis=-2)


def critique_options(
    item: Float[Array, "*B d"], reference: Float[Array, " d"]
) -> Float[Array, "*B 2 d"]:
    """Options of a critique of one item: option 1 ("good") is the item, option 0 the reference.

    P(good) = sigmoid(beta (r(item) - r(reference))).
    """
    return jnp.stack([jnp.broadcast_to(reference, item.shape), item], axis=-2)


def ranking_masks(ranking: Int[Array, "*B K"]) -> Bool[Array, "*B K K"]:
    """The items that are still available at each place of a ranking, best place first.

    Row k allows the items not ranked above place k, so the sum over k of
    choice_loglik(values, ranking[k], masks[k]) is `teachers.pl_loglik`.

    Args:
      ranking: [*B, K] item indices with the best first.
    Returns:
      [*B, K, K] place, item.
    """
    check_ids(ranking=ranking)
    places = jnp.argsort(ranking, axis=-1)
    return places[..., None, :] >= jnp.arange(ranking.shape[-1])[:, None]


def stop_options(
    step_features: Float[Array, "*B T d"],
    stay_features: Float[Array, "*B T d"],
    mask: Bool[Array, "*B T"],
) -> tuple[Float[Array, "*B T+1 d"], Bool[Array, "*B T+1"]]:
    """Options of an emergency stop: option t keeps the first t steps and then stays in s_t.

    phi(t) = sum_{i < t} phi_i + (n - t) phi_stay(s_t),   t = 0..n;  t = n is no stop.

    All options last n steps. Without the steps after the stop, a short sum would be compared with a
    long one, and the sign of the rewards would decide.

    Args:
      step_features: [*B, T, d] features of each step taken.
      stay_features: [*B, T, d] features of one step spent in s_t, the state before step t.
      mask: [*B, T] True for the first n steps, those of the trajectory.
    Returns:
      Options [*B, T + 1, d], and [*B, T + 1] True where the option exists, t <= n.
    Reference: off-switch of Jeon et al. 2020, arXiv:2002.04833, Table 1.
    """
    check_mask(mask=mask)
    chex.assert_equal_shape([step_features, stay_features])
    length = jnp.sum(mask, axis=-1)[..., None]
    times = jnp.arange(mask.shape[-1] + 1)
    allowed = times <= length
    tail = jnp.where(mask[..., None], stay_features, 0.0) * (length - times[:-1])[..., None]
    options = prefix_sums(jnp.where(mask[..., None], step_features, 0.0))
    return options.at[..., :-1, :].add(tail), allowed


def prefix_sums(step_features: Float[Array, "*B T d"]) -> Float[Array, "*B T+1 d"]:
    """Sums of the first t steps, t = 0..T."""
    sums = jnp.cumsum(step_features, axis=-2)
    return jnp.concatenate([jnp.zeros_like(sums[..., :1, :]), sums], axis=-2)


def prefix_options(
    step_features: Float[Array, "*B T d"], times: Int[Array, "*B K"]
) -> Float[Array, "*B K d"]:
    """Options of an inter-temporal critique: the beginnings of one trajectory up to several times.

    Args:
      step_features: [*B, T, d].
      times: [*B, K] in 0..T: option k is the sum of the first times[k] steps.
    """
    check_ids(times=times)
    return jnp.take_along_axis(prefix_sums(step_features), times[..., None], axis=-2)


def corrected_paths(
    path: Float[Array, "*B T n"], pushes: Float[Array, "*B K T n"]
) -> Float[Array, "*B K+1 T n"]:
    """Options of a correction: the unchanged path (option 0), and the path deformed by K pushes.

    xi + A^{-1} du, where A is the matrix of the squared velocities sum_t |xi_{t+1} - xi_t|^2 with
    fixed ends: A^{-1}[i, j] = min(i, j) (N - max(i, j)) / N with N = T - 1. A push at one waypoint
    bends the path into a tent. The features of the options are those of the deformed paths.

    Args:
      path: [*B, T, n] waypoints, T >= 2.
      pushes: [*B, K, T, n] du, force on each waypoint; no effect at the two ends.
    Reference: Bajcsy et al. 2017, "Learning robot objectives from physical human interaction".
    """
    last = path.shape[-2] - 1
    i = jnp.arange(last + 1)
    inverse = jnp.minimum(i, i[:, None]) * (last - jnp.maximum(i, i[:, None])) / last
    bent = path[..., None, :, :] + jnp.einsum("ij,...jn->...in", inverse, pushes)
    return jnp.concatenate([path[..., None, :, :], bent], axis=-3)


def expected_options(
    probs: Float[Array, "*B K N"], features: Float[Array, "*B N d"]
) -> Float[Array, "*B K d"]:
    """Expected features of options that are distributions.

    Natural language: row k is the distribution over N trajectories that fulfil utterance k. Proxy
    reward: option k is a proxy, and its row the visits to N states (or trajectories) of its optimal
    policy in the designer's environment; the choice likelihood is then inverse reward design.

    Args:
      probs: [*B, K, N] >= 0, rows that sum to 1 (or to the horizon, for visits).
      features: [*B, N, d].
    Reference: Hadfield-Menell et al. 2017, arXiv:1711.02827 (proxy rewards).
    """
    return jnp.einsum("...kn,...nd->...kd", probs, features)
