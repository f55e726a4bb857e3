"""PR-LSVI: exploration by noise from preferences between trajectories, in linear MDPs.

The reward is fitted to comparisons and drawn around the fit; the policy is greedy for the draw in a
randomised LSVI; a comparison is asked for where draws disagree about it. What the teacher is asked
is the last policy's trajectory against the policy's before it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from rlhf_jax.algos.planning import lsvi
from rlhf_jax.checks import check_range
from rlhf_jax.losses.links import soft_logistic
from rlhf_jax.ops.elliptical import (
    elliptical_norms,
    initial_inverse,
    log_det_bound,
    rank_one_inverse,
)
from rlhf_jax.ops.linear_systems import cholesky, solve
from rlhf_jax.types import Scalar


class RewardState(NamedTuple):
    """What is known about the reward.

    differences: [N, m] x_i = phi(tau^1_i) - phi(tau^0_i), 0 where nothing was asked.
    labels: [N] o_i, 1 where tau^1 won.
    asked: [N] bool Z_i.
    rounds: rounds so far, asked or not; N is the most there may be.
    inverse: [m, m] Sigma_r^-1, of asked rounds only.
    weights: [m] last fit, where the next one starts.
    """

    differences: Array
    labels: Array
    asked: Array
    rounds: Array
    inverse: Array
    weights: Array


class PRLSVIState(NamedTuple):
    """reward: RewardState; transitions: LSVIState."""

    reward: RewardState
    transitions: lsvi.LSVIState


def init_reward(*, rounds: int, num_features: int, ridge: Scalar = 1.0) -> RewardState:
    """Room for `rounds` comparisons; Sigma_r = ridge I."""
    return RewardState(
        differences=jnp.zeros((rounds, num_features)),
        labels=jnp.zeros(rounds),
        asked=jnp.zeros(rounds, bool),
        rounds=jnp.zeros((), int),
        inverse=initial_inverse(num_features, ridge=ridge),
        weights=jnp.zeros(num_features),
    )


def preference_loss(
    weights: Float[Array, " m"], state: RewardState, *, slope: Scalar
) -> Float[Array, ""]:
    """- sum_i Z_i log sigmoid( (2 o_i - 1) slope <x_i, theta> ), in nats."""
    losses = soft_logistic(slope * (state.differences @ weights), state.labels)
    return jnp.sum(jnp.where(state.asked, losses, 0.0))


def fit_reward(
    state: RewardState, *, slope: Scalar, radius: Scalar, ridge: Scalar, steps: int = 1
) -> Float[Array, " m"]:
    """Maximum likelihood in a ball with a ridge, by damped Newton from the last fit.

    theta = argmin_{||theta|| <= radius} preference_loss(theta) + (ridge / 2) ||theta||^2.

    Each step solves the quadratic model in the ball, and no coordinate moves by more than 1:
    without either, separable early data send undamped Newton to infinity.

    Args:
      slope: of the teacher's sigmoid, > 0.
      radius: > 0.
      ridge: > 0, precision of a Gaussian prior; what no comparison has seen is 0.
      steps: Newton steps. One a round follows the fit as data come.
    Returns:
      [m]; a fixed point satisfies the conditions of the constrained optimum, and `newton_move` is
      how far off it is.
    Reference: Wu and Sun 2023, arXiv:2310.14554, Algorithm 1, for the fit in a ball.
    Departs: the ridge; a fit in the ball alone puts its whole length on the first comparisons.
    """
    check_range("(0, inf)", slope=slope, radius=radius, ridge=ridge)

    def step(weights, _):
        move = newton_move(weights, state, slope=slope, radius=radius, ridge=ridge)
        return weights + move / jnp.maximum(1.0, jnp.max(jnp.abs(move))), None

    return jax.lax.scan(step, state.weights, None, length=steps)[0]


def newton_move(
    weights: Float[Array, " m"],
    state: RewardState,
    *,
    slope: Scalar,
    radius: Scalar,
    ridge: Scalar,
) -> Float[Array, " m"]:
    """From weights in the ball to the minimum of the fit's quadratic model there; 0 at the fit.

    Its size certifies the result of `fit_reward`.
    """
    gradient = jax.grad(preference_loss)(weights, state, slope=slope)
    hessian = reward_information(weights, state, slope=slope, ridge=ridge)
    target = hessian @ weights - gradient - ridge * weights
    return ball_minimiser(hessian, target, radius) - weights


def reward_information(
    weights: Float[Array, " m"], state: RewardState, *, slope: Scalar, ridge: Scalar
) -> Float[Array, "m m"]:
    """ridge I + sum_i Z_i slope^2 p_i (1 - p_i) x_i x_i^T: the Hessian of the fit at theta."""
    probs = jax.nn.sigmoid(slope * (state.differences @ weights))
    curvature = slope**2 * jnp.where(state.asked, probs * (1.0 - probs), 0.0)
    seen = (state.differences * curvature[:, None]).T @ state.differences
    return seen + ridge * jnp.eye(len(weights), dtype=seen.dtype)


def ball_minimiser(
    hessian: Float[Array, "m m"], target: Float[Array, " m"], radius: Scalar
) -> Float[Array, " m"]:
    """argmin_{||z|| <= radius} z^T H z / 2 - <z, b>.

    z(mu) = (H + mu I)^-1 b; mu >= 0 is 0 inside the ball and solves ||z(mu)|| = radius otherwise,
    by Newton on 1 / ||z(mu)||, which from below never overshoots; until mu no longer rises.

    Args:
      hessian: [m, m] H, positive definite.
      target: [m] b.
      radius: > 0.
    Reference: Moré and Sorensen 1983, "Computing a trust region step".
    """
    eye = jnp.eye(len(target), dtype=hessian.dtype)

    def tighten(carry):
        multiplier, _ = carry
        held = hessian + multiplier * eye
        point = solve(held, target[:, None])[:, 0]
        length = jnp.linalg.norm(point)
        bend = point @ solve(held, point[:, None])[:, 0]
        move = length**2 * (length - radius) / (radius * jnp.where(bend > 0, bend, 1.0))
        return jnp.maximum(multiplier, multiplier + move), multiplier + move > multiplier

    start = jnp.zeros((), hessian.dtype), jnp.array(True)
    multiplier = jax.lax.while_loop(lambda carry: carry[1], tighten, start)[0]
    return solve(hessian + multiplier * eye, target[:, None])[:, 0]


def draw_weights(
    key: Key[Array, ""],
    weights: Float[Array, " m"],
    inverse: Float[Array, "m m"],
    *,
    sigma: Scalar,
) -> Float[Array, " m"]:
    """theta ~ N(weights, sigma^2 inverse): one draw for a whole episode."""
    noise = jax.random.normal(key, weights.shape, weights.dtype)
    return weights + sigma * cholesky(inverse) @ noise


def expected_disagreement(
    differences: Float[Array, "*B m"], inverse: Float[Array, "m m"], *, sigma: Scalar
) -> Float[Array, "*B"]:
    """E |<x, theta - theta'>| of two draws = (2 / sqrt pi) sigma ||x||_{Sigma^-1}.

    theta - theta' ~ N(0, 2 sigma^2 Sigma^-1), so <x, theta - theta'> is normal, and the mean of its
    absolute value sqrt(2 / pi) times its standard deviation. Exact; 0 at x = 0.
    """
    return 2.0 / jnp.sqrt(jnp.pi) * sigma * elliptical_norms(differences, inverse)


def norm_threshold(eps: Scalar, *, sigma: Scalar) -> Scalar:
    """disagreement > eps is ||x||_{Sigma^-1} > eps sqrt(pi) / (2 sigma), sigma > 0."""
    return eps * jnp.sqrt(jnp.pi) / (2.0 * sigma)


def query(
    state: RewardState, difference: Float[Array, " m"], *, threshold: Scalar
) -> Bool[Array, ""]:
    """Z = 1{ ||x||_{Sigma_r^-1} > threshold }; identical trajectories are never asked about."""
    return elliptical_norms(difference, state.inverse) > threshold


def most_queries(
    rounds: int, *, num_features: int, length: Scalar, threshold: Scalar, ridge: Scalar = 1.0
) -> Float[Array, ""]:
    """No run asks more often: each query adds more than log(1 + threshold^2) to log det Sigma_r.

    queries <= m log(1 + T L^2 / (m ridge)) / log(1 + threshold^2).

    Args:
      rounds: T.
      num_features: m.
      length: L >= ||x||_2 always: 2 H for ||phi|| <= 1, sqrt(2 H) for step blocks of one-hot
        features.
      threshold: > 0, of the norm.
    """
    check_range("(0, inf)", threshold=threshold)
    room = log_det_bound(rounds, num_features=num_features, length=length, ridge=ridge)
    return room / jnp.log1p(jnp.asarray(threshold) ** 2)


def update_reward(
    state: RewardState,
    difference: Float[Array, " m"],
    label: Int[Array, ""],
    asked: Bool[Array, ""],
) -> RewardState:
    """State after a round. Without a query nothing but the count of rounds changes."""
    at = state.rounds
    difference = jnp.where(asked, difference, 0.0)
    return state._replace(
        differences=state.differences.at[at].set(difference),
        labels=state.labels.at[at].set(label.astype(state.labels.dtype)),
        asked=state.asked.at[at].set(asked),
        rounds=at + 1,
        inverse=rank_one_inverse(state.inverse, difference),
    )


def preference_plan(
    key: Key[Array, ""],
    state: PRLSVIState,
    features: Float[Array, "S A d"],
    step_features: Float[Array, "H S A m"],
    *,
    sigma_reward: Scalar,
    sigma_values: Scalar,
    low: Scalar,
    high: Scalar,
    slope: Scalar,
    radius: Scalar,
    ridge: Scalar,
) -> tuple[lsvi.Plan, PRLSVIState]:
    """The policy of the next episode, and the state with its reward fitted anew.

    Args:
      features: [S, A, d] phi, of transitions.
      step_features: [H, S, A, m] phi_h, of the reward.
      sigma_reward, sigma_values: of the two draws; 0 and 0 is the greedy fit.
      low, high: truncation of `lsvi.randomised_plan`.
      slope, radius, ridge: of `fit_reward`.
    Reference: Wu and Sun 2023, arXiv:2310.14554, Algorithm 1.
    Departs: Newton's fit is warm-started and takes one step a round.
    """
    reward_key, value_key = jax.random.split(key)
    weights = fit_reward(state.reward, slope=slope, radius=radius, ridge=ridge)
    drawn = draw_weights(reward_key, weights, state.reward.inverse, sigma=sigma_reward)
    plan = lsvi.randomised_plan(
        value_key,
        state.transitions,
        features,
        step_features @ drawn,
        sigma=sigma_values,
        low=low,
        high=high,
    )
    return plan, state._replace(reward=state.reward._replace(weights=weights))
