"""Preference-based Thompson sampling on tables: draw a reward and a model, plan, ask, update.

Transitions have a conjugate Dirichlet posterior. The reward has a Gaussian prior and is observed
through comparisons only, so its posterior is a Laplace approximation N(theta, Lambda^-1), with
theta the mode and Lambda the Hessian at the mode.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from rlhf_jax.algos.planning.lsvi import Plan
from rlhf_jax.algos.planning.preference_lsvi import (
    RewardState,
    draw_weights,
    fit_reward,
    init_reward,
    reward_information,
)
from rlhf_jax.checks import check_range
from rlhf_jax.ops.bellman import expected_values, greedy_policy
from rlhf_jax.ops.linear_systems import invert
from rlhf_jax.types import Scalar


class PosteriorState(NamedTuple):
    """reward: RewardState; its `inverse` is the Laplace covariance after `posterior_plan`. counts:
    [H, S, A, S] how often s' followed (s, a) at step h."""

    reward: RewardState
    counts: Array


def init_posterior(
    *,
    room: int,
    num_features: int,
    horizon: int,
    num_states: int,
    num_actions: int,
    ridge: Scalar = 1.0,
) -> PosteriorState:
    """The prior theta ~ N(0, I / ridge), no transitions, and `room` as in `init_reward`."""
    counts = jnp.zeros((horizon, num_states, num_actions, num_states))
    reward = init_reward(room=room, num_features=num_features, ridge=ridge)
    return PosteriorState(reward, counts)


def posterior_plan(
    key: Key[Array, ""],
    state: PosteriorState,
    step_features: Float[Array, "H S A m"],
    *,
    concentration: Scalar,
    slope: Scalar,
    radius: Scalar,
    ridge: Scalar,
) -> tuple[Plan, PosteriorState]:
    """The optimal policy of an MDP drawn from the posterior, and the state with the fitted reward.

    P_h(. | s, a) ~ Dirichlet(concentration + counts),   theta ~ N(theta_hat, Lambda^-1),
    Lambda = ridge I + sum over queries of slope^2 p (1 - p) x x^T.

    Args:
      step_features: [H, S, A, m] phi_h; the drawn reward is <phi_h, theta>.
      concentration: Dirichlet prior on next states, > 0.
      slope: slope of the teacher's sigmoid, > 0.
      radius, ridge: as in `preference_lsvi.fit_reward`; ridge is the precision of the prior.
    Returns:
      Plan of the draw, with `weights` = theta at every step; the state is the input of
      `preference_lsvi.query`, with threshold `norm_threshold(eps, sigma=1)`.
    Reference: Wu and Sun 2023, arXiv:2310.14554, Algorithm 2.
    Departs: a Laplace approximation, with the mode in a ball of that radius, instead of the exact
      posterior; one Newton step per round, with the covariance at its end point.
    """
    check_range("(0, inf)", concentration=concentration)
    model_key, reward_key = jax.random.split(key)
    reward = state.reward
    mode = fit_reward(reward, slope=slope, radius=radius, ridge=ridge)
    covariance = invert(reward_information(mode, reward, slope=slope, ridge=ridge))
    covariance = (covariance + covariance.T) / 2.0
    drawn = draw_weights(reward_key, mode, covariance, sigma=1.0)
    transitions = jax.random.dirichlet(model_key, concentration + state.counts)
    plan = _optimal(transitions, step_features @ drawn, drawn)
    return plan, state._replace(reward=reward._replace(weights=mode, inverse=covariance))


def update_model(
    state: PosteriorState, states: Int[Array, "B G"], actions: Int[Array, "B H"]
) -> PosteriorState:
    """Adds B episodes to the counts: states [B, H + 1], actions [B, H]."""
    steps = jnp.arange(actions.shape[-1])
    counts = state.counts.at[steps, states[:, :-1], actions, states[:, 1:]].add(1.0)
    return state._replace(counts=counts)


def _optimal(transitions: Array, rewards: Array, weights: Array) -> Plan:
    """Value iteration in the drawn MDP."""

    def step(values, now):
        transitions, reward = now
        action_values = reward + expected_values(transitions, values)
        best = jnp.max(action_values, axis=-1)
        return best, (best, action_values, greedy_policy(action_values))

    last = jnp.zeros_like(rewards[0, :, 0])
    _, (values, action_values, logps) = jax.lax.scan(
        step, last, (transitions, rewards), reverse=True
    )
    everywhere = jnp.broadcast_to(weights, (len(rewards), *weights.shape))
    return Plan(jnp.concatenate([values, last[None]]), action_values, logps, everywhere)
