"""PR-LSVI: exploration by noise from preferences between trajectories, in linear MDPs.

Each round fits the reward to the comparisons so far, draws a reward around the fit, and plans for
the draw by randomised LSVI. The teacher then compares a trajectory of this policy with one of the
previous policy, but only if two draws of the reward are expected to disagree about the pair.
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
    """Comparisons so far and the fitted reward. Its arrays have room for N different ones.

    differences: [N, m] x_i = phi(tau^1_i) - phi(tau^0_i); queries with the same difference share a
      row, and free rows are 0.
    asked: [N] number of queries of each row. labels: [N] how often tau^1 won.
    rows: rows that are needed so far; beyond N they are lost, and rows > N shows it.
    inverse: [m, m] Sigma_r^-1, from all queries.
    weights: [m] last fit, the starting point of the next one.
    """

    differences: Array
    asked: Array
    labels: Array
    rows: Array
    inverse: Array
    weights: Array


class PRLSVIState(NamedTuple):
    """reward: RewardState; transitions: LSVIState."""

    reward: RewardState
    transitions: lsvi.LSVIState


def init_reward(*, room: int, num_features: int, ridge: Scalar = 1.0) -> RewardState:
    """Room for N = `room` differences, the number of rounds at most; Sigma_r = ridge I."""
    return RewardState(
        differences=jnp.zeros((room, num_features)),
        asked=jnp.zeros(room),
        labels=jnp.zeros(room),
        rows=jnp.zeros((), int),
        inverse=initial_inverse(num_features, ridge=ridge),
        weights=jnp.zeros(num_features),
    )


def preference_loss(
    weights: Float[Array, " m"], state: RewardState, *, slope: Scalar
) -> Float[Array, ""]:
    """- sum over queries of log sigmoid( (2 o - 1) slope <x, theta> ), in nats."""
    shares = state.labels / jnp.maximum(state.asked, 1.0)  # the loss is linear in the label
    return jnp.sum(state.asked * soft_logistic(slope * (state.differences @ weights), shares))


def fit_reward(
    state: RewardState, *, slope: Scalar, radius: Scalar, ridge: Scalar, steps: int = 1
) -> Float[Array, " m"]:
    """Maximum likelihood in a ball with a ridge, by damped Newton from the last fit.

    theta = argmin_{||theta|| <= radius} preference_loss(theta) + (ridge / 2) ||theta||^2.

    Each step minimises the quadratic model in the ball, shortened so that no coordinate moves by
    more than 1. Without these two limits Newton diverges on the first, separable comparisons.

    Args:
      slope: slope of the teacher's sigmoid, > 0.
      radius: > 0.
      ridge: > 0, precision of a Gaussian prior; directions without a comparison are fitted to 0.
      steps: Newton steps. One per round is enough to follow the data.
    Returns:
      [m]; a fixed point satisfies the conditions of the constrained optimum, and `newton_move`
      measures the distance from it.
    Reference: Wu and Sun 2023, arXiv:2310.14554, Algorithm 1, for the fit in a ball.
    Departs: the ridge; without it the first comparisons alone use the whole radius.
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
    """Step from `weights` to the minimum in the ball of the quadratic model at `weights`.

    It is 0 exactly at the fit, so its size certifies the result of `fit_reward`.
    """
    gradient = jax.grad(preference_loss)(weights, state, slope=slope)
    hessian = reward_information(weights, state, slope=slope, ridge=ridge)
    target = hessian @ weights - gradient - ridge * weights
    return ball_minimiser(hessian, target, radius) - weights


def reward_information(
    weights: Float[Array, " m"], state: RewardState, *, slope: Scalar, ridge: Scalar
) -> Float[Array, "m m"]:
    """ridge I + sum over queries of slope^2 p (1 - p) x x^T: the Hessian of the fit at theta."""
    probs = jax.nn.sigmoid(slope * (state.differences @ weights))
    curvature = slope**2 * state.asked * probs * (1.0 - probs)
    seen = (state.differences * curvature[:, None]).T @ state.differences
    return seen + ridge * jnp.eye(len(weights), dtype=seen.dtype)


def ball_minimiser(
    hessian: Float[Array, "m m"], target: Float[Array, " m"], radius: Scalar
) -> Float[Array, " m"]:
    """argmin_{||z|| <= radius} z^T H z / 2 - <z, b>.

    z(mu) = (H + mu I)^-1 b, where mu = 0 if z(0) is in the ball and ||z(mu)|| = radius otherwise.
    Newton's method on 1 / ||z(mu)|| starts at mu = 0, never overshoots, and ends when mu no longer
    rises.

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
        # bend is 0 only at b = 0, where the length is 0 too: then the move is 0, not NaN.
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
    absolute value is sqrt(2 / pi) times its standard deviation.
    """
    return 2.0 / jnp.sqrt(jnp.pi) * sigma * elliptical_norms(differences, inverse)


def norm_threshold(eps: Scalar, *, sigma: Scalar) -> Scalar:
    """eps sqrt(pi) / (2 sigma), sigma > 0: the norm at which `expected_disagreement` equals eps."""
    return eps * jnp.sqrt(jnp.pi) / (2.0 * sigma)


def query(
    state: RewardState, difference: Float[Array, " m"], *, threshold: Scalar
) -> Bool[Array, ""]:
    """Z = 1{ ||x||_{Sigma_r^-1} > threshold }; False for identical trajectories."""
    return elliptical_norms(difference, state.inverse) > threshold


def most_queries(
    rounds: int, *, num_features: int, length: Scalar, threshold: Scalar, ridge: Scalar = 1.0
) -> Float[Array, ""]:
    """Upper bound on the number of queries in a run.

    queries <= m log(1 + T L^2 / (m ridge)) / log(1 + threshold^2), because each query adds more
    than log(1 + threshold^2) to log det Sigma_r.

    Args:
      rounds: T.
      num_features: m.
      length: L, an upper bound of ||x||_2: 2 H for ||phi|| <= 1, sqrt(2 H) for one-hot features in
        a block per step.
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
    """State after a round; the same state without a query."""
    same = (state.asked > 0) & jnp.all(state.differences == difference, axis=-1)
    known = jnp.any(same)
    at = jnp.where(known, jnp.argmax(same), state.rows)
    kept = jnp.where(asked, difference, 0.0)
    return state._replace(
        differences=state.differences.at[at].set(jnp.where(known, difference, kept), mode="drop"),
        asked=state.asked.at[at].add(asked, mode="drop"),
        labels=state.labels.at[at].add(jnp.where(asked, label, 0), mode="drop"),
        rows=state.rows + (asked & ~known),
        inverse=rank_one_inverse(state.inverse, kept),
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
    """The policy of the next episode, and the state with the reward fitted again.

    Args:
      features: [S, A, d] phi for the transitions.
      step_features: [H, S, A, m] phi_h for the reward.
      sigma_reward, sigma_values: standard deviations of the two draws; both 0 is the greedy fit.
      low, high: as in `lsvi.randomised_plan`.
      slope, radius, ridge: as in `fit_reward`.
    Reference: Wu and Sun 2023, arXiv:2310.14554, Algorithm 1.
    Departs: the fit starts at the last one and takes one Newton step per round.
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
