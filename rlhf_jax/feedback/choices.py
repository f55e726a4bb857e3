"""Reward-rational choice: feedback of every kind as one choice among options that have features.

A kind of feedback is a choice set and a grounding: what each option says about behaviour, as the
expected sum of reward features of the trajectories it stands for. The groundings here turn step
features [*B, T, d] into option features [*B, K, d]; values are `options @ theta`, and all kinds
share `choice_loglik`. With features summed over steps, longer segments act like a larger beta.
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
      values: [*B, K] v, the value of what each option stands for.
      mask: [*B, K] True where the option may be chosen, at least one in a row; None for all.
      beta: rationality >= 0, in 1 / value; finite. May be traced.
    Returns:
      [*B, K], -inf where the option may not be chosen; a value there never matters.
    Raises:
      AssertionError: shapes differ (at trace time).
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
    """log P(choice) of a reward-rational chooser: the one likelihood of all kinds of feedback.

    Args:
      values, mask, beta: as in `choice_logps`; values of linear rewards are options @ theta.
      choice: [*B] index of the chosen option.
    Returns:
      [*B] nats, <= 0; -inf for an option that may not be chosen.
    Raises:
      AssertionError: shapes differ (at trace time).
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
    """Gradient of `choice_loglik` in the weights of a linear reward, in closed form.

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
      beta: rationality >= 0; inf takes the largest value, the lower index on a tie. May be traced.
    Returns:
      [*B] int32.
    """
    if mask is not None:
        check_mask(mask=mask)
    check_range("[0, inf]", beta=beta)
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
    """log P(the choice lies in a subset): feedback that shows a consequence of the choice only.

    log sum_{c in members} P(c). Initial state: the options are the trajectories that a rational
    agent may have taken before the learner came, the members those that end in the state found.

    Args:
      values, mask, beta: as in `choice_logps`.
      members: [*B, K] True for the options that agree with what was seen.
    Returns:
      [*B] nats, <= 0; -inf where no member may be chosen.
    Raises:
      AssertionError: shapes differ (at trace time).
    Reference: Shah et al. 2019, arXiv:1902.04198 (preferences implicit in the state).
    Departs: dynamics are deterministic, so that a trajectory's probability is that of its choice.
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
    """log P(demonstration) against K - 1 sampled alternatives, corrected for how they were drawn.

    P(c) ~ exp(beta v_c) / q(c): given the set, its sampled members say nothing by being in it.
    Without the correction, behaviour that the sampler likes is taken for behaviour of low reward.

    Args:
      values: [*B, K] returns of the demonstration and of the alternatives.
      sample_logps: [*B, K] log q of each under the law that alternatives were drawn from, up to a
        constant for each row; the demonstration's too.
      choice: [*B] where the demonstration stands.
      mask: as in `choice_logps`.
      beta: rationality >= 0. May be traced.
    Returns:
      [*B] nats, <= 0. Its maximiser over rewards is consistent, as the full choice set's is.
    Raises:
      AssertionError: shapes differ (at trace time).
    Reference: McFadden 1978, "Modelling the choice of residential location" (sampled choice sets).
    """
    check_range("[0, inf)", beta=beta)
    chex.assert_equal_shape([values, sample_logps])
    return choice_loglik(beta * values - sample_logps, choice, mask, beta=1.0)


def demonstration_loglik(
    returns: Float[Array, "*B"], log_partition: Float[Array, "*B"], *, beta: Scalar
) -> Float[Array, "*B"]:
    """log P(demonstration) where the partition over all trajectories is known: beta R - log Z.

    In a deterministic world log Z is beta times the soft value of the start at temperature 1 / beta
    (`ops.bellman.soft_values` with reference log-probs 0).

    Args:
      returns: [*B] R of the demonstrated trajectory.
      log_partition: [*B] log sum over trajectories of exp(beta R), same reward.
      beta: rationality >= 0. May be traced.
    Returns:
      [*B] nats.
    Raises:
      AssertionError: shapes differ (at trace time).
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
    """Options of a comparison: the sums of both segments' step features, padding left out."""
    check_mask(first_mask=first_mask, second_mask=second_mask)
    sums = [
        jnp.sum(jnp.where(mask[..., None], steps, 0.0), axis=-2)
        for steps, mask in ((first, first_mask), (second, second_mask))
    ]
    return jnp.stack(sums, axis=-2)


def critique_options(
    item: Float[Array, "*B d"], reference: Float[Array, " d"]
) -> Float[Array, "*B 2 d"]:
    """Options of a critique of one item: 1 is "good", the item; 0 is "bad", the reference.

    P(good) = sigmoid(beta (r(item) - r(reference))).
    """
    return jnp.stack([jnp.broadcast_to(reference, item.shape), item], axis=-2)


def ranking_masks(ranking: Int[Array, "*B K"]) -> Bool[Array, "*B K K"]:
    """What was left to choose from at each place of a ranking, best place first.

    Row k allows the items not ranked above place k, so that the sum over k of
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
    """Options of an emergency stop: at t the first t steps are kept, and s_t is stayed in after it.

    phi(t) = sum_{i < t} phi_i + (n - t) phi_stay(s_t),   t = 0..n;  t = n is not stopped.

    All options last n steps. Leaving out the tail would compare a short sum with a long one, and
    the sign of the rewards, not the task, would choose.

    Args:
      step_features: [*B, T, d] of each step taken.
      stay_features: [*B, T, d] of one step spent in s_t, the state before step t.
      mask: [*B, T] True for the first n steps, the trajectory's.
    Returns:
      options [*B, T + 1, d], and [*B, T + 1] True where the option exists, t <= n.
    Raises:
      AssertionError: shapes differ (at trace time).
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
    """Options of an inter-temporal critique: one trajectory up to several times.

    Args:
      step_features: [*B, T, d].
      times: [*B, K] in 0..T: option k is the sum of the first times[k] steps.
    """
    check_ids(times=times)
    return jnp.take_along_axis(prefix_sums(step_features), times[..., None], axis=-2)


def corrected_paths(
    path: Float[Array, "*B T n"], pushes: Float[Array, "*B K T n"]
) -> Float[Array, "*B K+1 T n"]:
    """Options of a correction: the path as it is (option 0), and the path deformed by K pushes.

    xi + A^{-1} du, A the matrix of squared velocities, sum_t |xi_{t+1} - xi_t|^2, with both ends
    held: A^{-1}[i, j] = min(i, j) (N - max(i, j)) / N with N = T - 1. A push at one waypoint bends
    the path into a tent; features of the options are those of the deformed paths.

    Args:
      path: [*B, T, n] waypoints, T >= 2.
      pushes: [*B, K, T, n] du, force on each waypoint; what lies on the two ends does nothing.
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
    """Options that stand for distributions: expected features under each.

    Natural language: row k is the law over N trajectories of who fulfils utterance k. Proxy reward:
    option k is a proxy, its row the visits to N states (or trajectories) of its optimal policy
    where the designer tried it; the choice likelihood is then inverse reward design.

    Args:
      probs: [*B, K, N] >= 0, rows that sum to 1 (or to the horizon, for visits).
      features: [*B, N, d].
    Reference: Hadfield-Menell et al. 2017, arXiv:1711.02827 (proxy rewards).
    """
    return jnp.einsum("...kn,...nd->...kd", probs, features)
