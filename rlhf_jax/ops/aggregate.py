"""One reward out of several: weights of k rewards, and the state that moves them.

Shared arguments and results:
  rewards: [*B, k] what an answer is worth to each of k groups of people, or on each of k scales.
  values: [k] what the policy is worth to each, e.g. `group_values(rewards).value()`; a NaN is
    a group without a value, which gets no weight.
  weights, prior: [k] >= 0, sum 1. The weights are all the state there is.
Weights are without gradient: `weighted_rewards(rewards, w)` is what the policy then improves.

    values = group_values(rewards)                                      # Mean of [k]
    weights = exponentiated_weights(weights, values.value(), eta=0.1)   # the next state
    scores = weighted_rewards(rewards, weights)                         # [*B]

Rewards of Bradley-Terry models have a free zero for each prompt and a unit of their own: a minimum
over groups is meaningless before all of them have one zero and one unit (`standardised_scores`,
over answers of the reference policy). A direction for each prompt: `ops.directions.scalarise`.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_entries, check_range
from rlhf_jax.ops.ensembles import worst_case_scores
from rlhf_jax.ops.logprobs import above_underflow
from rlhf_jax.ops.masking import Mean
from rlhf_jax.types import Scalar


def weighted_rewards(
    rewards: Float[Array, "*B k"], weights: Float[Array, " k"]
) -> Float[Array, "*B"]:
    """Linear scalarisation.

    R = sum_u w_u r_u;   NaN where a reward with weight is, and a reward of weight 0 never matters.

    Reduces to: one of the rewards at a one-hot w.
    """
    chex.assert_axis_dimension(rewards, -1, weights.shape[0])
    check_entries("[0, inf)", weights=weights)
    weights = jax.lax.stop_gradient(weights)
    return jnp.sum(jnp.where(weights > 0, rewards, 0.0) * weights, axis=-1)


def minimum_rewards(rewards: Float[Array, "*B k"]) -> Float[Array, "*B"]:
    """The worst reward of each answer, NaN where one of them is.

    R = min_u r_u,   E R <= min_u E r_u: another objective than the worst group's.

    An answer that is second to every group beats two that are each the first of one and the last
    of another, so its optimum is not that of `worst_group_weights`.

    Reference: official code of Chakraborty et al. 2024, arXiv:2402.08925, which is not its Eq. 8.
    """
    return worst_case_scores(jnp.moveaxis(rewards, -1, 0))


def group_values(rewards: Float[Array, "*B k"], weights: Float[Array, "*B"] | None = None) -> Mean:
    """The mean of each reward over answers, as a `Mean` of [k] that shards may add up first.

    F_u = sum_i w_i r_iu / sum_i w_i over the answers where r_iu is finite.

    Args:
      weights: [*B] of each answer, None for ones. A penalty that all groups share, such as beta KL,
        moves all values alike and may be left out.
    Returns:
      Mean of [k]; weight 0, hence NaN in `known_values`, for a group that no answer is scored for.
    """
    if weights is None:
        weights = jnp.ones(rewards.shape[:-1], rewards.dtype)
    chex.assert_equal_shape([rewards[..., 0], weights])
    check_entries("[0, inf)", weights=weights)
    counted = jnp.isfinite(rewards) & (weights > 0)[..., None]
    axes = tuple(range(rewards.ndim - 1))
    shares = jnp.where(counted, weights[..., None], 0.0)
    return Mean(
        jnp.sum(jnp.where(counted, rewards, 0.0) * shares, axis=axes), jnp.sum(shares, axis=axes)
    )


def known_values(means: Mean) -> Float[Array, " k"]:
    """The values of `group_values`, NaN for a group without answers."""
    return jnp.where(means.weight > 0, means.value(), jnp.nan)


def worst_group_weights(values: Float[Array, " k"]) -> Float[Array, " k"]:
    """All weight on the group with the lowest value: a subgradient of min_u F_u.

    w = e_u,   u = argmin F,   the first of several; NaN if no group has a value.

    The policy chatters between groups near the optimum; `exponentiated_weights` settle.

    Reference: Chakraborty et al. 2024, arXiv:2402.08925, Algorithm 1.
    """
    known = jnp.isfinite(values)
    place = jnp.argmin(jnp.where(known, values, jnp.inf))
    return _some(known, jax.nn.one_hot(place, values.shape[0], dtype=values.dtype))


def soft_minimum(
    values: Float[Array, "*B k"], prior: Float[Array, " k"], *, temperature: Scalar
) -> Float[Array, "*B"]:
    """Soft minimum over groups, between the smallest value and the mean.

    F = -T log sum_u p_u exp(-F_u / T) = min_w sum_u w_u F_u + T KL(w || p).

    Its gradient in F is `soft_minimum_weights`. A group of prior 0 never matters, NaN included.

    Args:
      temperature: T > 0: egalitarian as it vanishes, utilitarian (the mean under p) as it grows.
    Reduces to: the value itself with one group, or where all are equal.
    """
    check_range("(0, inf)", temperature=temperature)
    check_entries("[0, inf)", prior=prior)
    chex.assert_axis_dimension(values, -1, prior.shape[0])
    prior = jnp.broadcast_to(jax.lax.stop_gradient(prior), values.shape)
    values = jnp.where(prior > 0, values, 0.0)
    temperature = above_underflow(temperature, values.dtype)
    return -temperature * jax.nn.logsumexp(-values / temperature, axis=-1, b=prior)


def soft_minimum_weights(
    values: Float[Array, " k"], prior: Float[Array, " k"], *, temperature: Scalar
) -> Float[Array, " k"]:
    """Weights of a soft minimum: the least favourable mixture near a prior.

    w_u = p_u exp(-F_u / T) / Z.

    Args:
      temperature: T > 0.
    Reduces to: `worst_group_weights` as T vanishes, the prior as T grows, and
      `exponentiated_weights` from the prior at T = 1 / eta.
    """
    check_range("(0, inf)", temperature=temperature)
    check_entries("[0, inf)", prior=prior)
    chex.assert_equal_shape([values, prior])
    known = jnp.isfinite(values)
    temperature = above_underflow(temperature, values.dtype)
    logits = jnp.log(prior) - jnp.where(known, values, 0.0) / temperature
    weights = jax.nn.softmax(jnp.where(known, logits, -jnp.inf))
    return jax.lax.stop_gradient(_some(known, weights))


def exponentiated_weights(
    weights: Float[Array, " k"], values: Float[Array, " k"], *, eta: Scalar
) -> Float[Array, " k"]:
    """One step of exponentiated gradient: weight moves to the groups that are worst off.

    w_u <- w_u exp(-eta F_u) / Z.

    Against policies that maximise sum_u w_u F_u it descends the dual of max_pi min_u F_u. A group
    of weight 0 keeps it, and so does a group without a value keep its weight.

    Args:
      eta: step size >= 0 per unit of value.
    Reduces to: the given weights at eta = 0 or where all values are equal.
    Reference: the dual of Chakraborty et al. 2024, arXiv:2402.08925, Eq. 8; Sagawa et al. 2019,
      arXiv:1911.08731, Algorithm 1 for losses.
    """
    check_range("[0, inf)", eta=eta)
    check_entries("[0, inf)", weights=weights)
    chex.assert_equal_shape([weights, values])
    known = jnp.isfinite(values)
    # In logs a weight of 0 stays 0, and the softmax subtracts its maximum before it takes exp.
    logits = jnp.log(weights) - eta * jnp.where(known, values, 0.0)
    mass = jnp.sum(jnp.where(known, weights, 0.0))
    moved = mass * jax.nn.softmax(jnp.where(known, logits, -jnp.inf))
    return jax.lax.stop_gradient(jnp.where(known & (mass > 0), moved, weights))


def _some(known: Array, weights: Float[Array, " k"]) -> Float[Array, " k"]:
    """The weights, NaN if no group has a value."""
    return jnp.where(jnp.any(known), weights, jnp.nan)
