"""Regret and queries of PR-LSVI, of what it is compared with, and of posterior sampling."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from experiments.randomized_pbrl.config import Config, WorldConfig, radius
from rlhf_jax.algos.planning import lsvi
from rlhf_jax.algos.planning import posterior_sampling as pbts
from rlhf_jax.algos.planning import preference_lsvi as pr
from rlhf_jax.envs.linear_mdp import (
    one_hot_features,
    random_linear_mdp,
    step_blocks,
    to_finite_mdp,
    trajectory_features,
)
from rlhf_jax.envs.tabular_mdp import FiniteMDP, finite_env, random_mdp
from rlhf_jax.exact.finite_mdp import regret
from rlhf_jax.feedback.teachers import bt_labels
from rlhf_jax.sampling.episodes import sample_episode

NEVER = 1e6  # times the norms of truncation: no features are that long


class World(NamedTuple):
    """mdp: FiniteMDP; features: [S, A, d] of transitions; step_features: [H, S, A, m] of the
    reward."""

    mdp: FiniteMDP
    features: Array
    step_features: Array


class Method(NamedTuple):
    """What differs between runs of PR-LSVI in one jit; all traced scalars.

    sigma_reward, sigma_values: of the draws; 0 is greedy.
    threshold: norm of the difference above which a comparison is asked for.
    rate: share of those that are, by a coin.
    unseen: norm of features above which truncation begins, over the world's `low`. At 1 values of
      what is new are raised to H - h, which is optimism; at `NEVER` nothing is truncated, and
      only noise explores.
    """

    sigma_reward: Array
    sigma_values: Array
    threshold: Array
    rate: Array
    unseen: Array


class Learner(NamedTuple):
    """start: state; act: (key, state) -> (plan, state); asks: (key, state, x) -> bool; update:
    (state, states [2, H + 1], actions [2, H], x, label, asked) -> state."""

    start: tuple
    act: Callable
    asks: Callable
    update: Callable


def draw_world(config: WorldConfig, key: Key[Array, ""]) -> World:
    """A table or a linear MDP; its reward has weights of its own at every step."""
    sizes = {
        "horizon": config.horizon,
        "num_states": config.num_states,
        "num_actions": config.num_actions,
        "concentration": config.concentration,
        "reward_share": config.reward_share,
    }
    if config.num_features is None:
        features = one_hot_features(config.num_states, config.num_actions)
        return World(random_mdp(key, **sizes), features, step_blocks(features, config.horizon))
    mdp = random_linear_mdp(
        key,
        num_features=config.num_features,
        measure_concentration=config.concentration,
        **sizes,
    )
    return World(to_finite_mdp(mdp), mdp.features, step_blocks(mdp.features, config.horizon))


def methods(config: Config) -> dict[str, Method]:
    """name -> Method: a value of eps each, the greedy fit, coins in place of the rule, and noise
    and greedy fit without truncation."""
    sigmas = config.sigma_reward, config.sigma_values
    named = {
        f"eps = {eps:g}": (*sigmas, pr.norm_threshold(eps, sigma=config.sigma_reward), 1.0, 1.0)
        for eps in config.eps
    }
    named["greedy"] = (0.0, 0.0, 0.0, 1.0, 1.0)
    # Noise too small for anything but ties.
    named["greedy, ties at random"] = (1e-9, 1e-9, 0.0, 1.0, 1.0)
    named |= {f"random {rate:.0%}": (*sigmas, 0.0, rate, 1.0) for rate in config.rates}
    named["eps = 0, no truncation"] = (*sigmas, 0.0, 1.0, NEVER)
    named["greedy, no truncation"] = (0.0, 0.0, 0.0, 1.0, NEVER)
    named["greedy, ties at random, no truncation"] = (1e-9, 1e-9, 0.0, 1.0, NEVER)
    return {name: Method(*map(jnp.asarray, each)) for name, each in named.items()}


def pr_lsvi(
    config: Config, kind: WorldConfig, world: World, method: Method, *, room: int | None = None
) -> Learner:
    """PR-LSVI, or what is left of it without noise or with a coin for a query rule.

    room: comparisons that it holds, those that it asks alone; None holds a row for every round.
    """
    start = pr.PRLSVIState(
        pr.init_reward(
            rounds=room or config.rounds,
            num_features=world.step_features.shape[-1],
            ridge=config.ridge,
        ),
        lsvi.init_lsvi(
            horizon=kind.horizon,
            num_features=kind.transition_features,
            num_states=kind.num_states,
            ridge=config.ridge,
        ),
    )

    def act(key, state):
        return pr.preference_plan(
            key,
            state,
            world.features,
            world.step_features,
            sigma_reward=method.sigma_reward,
            sigma_values=method.sigma_values,
            low=kind.low * method.unseen,
            high=kind.high * method.unseen,
            slope=config.slope,
            radius=radius(kind),
            ridge=config.fit_ridge,
        )

    def asks(key, state, x):
        wanted = pr.query(state.reward, x, threshold=method.threshold)
        return wanted & (jax.random.uniform(key) < method.rate)

    def update(state, states, actions, *told):
        seen = world.features[states[:, :-1], actions]
        compared = pr.update_reward(state.reward, *told)
        if room is not None:  # without a question nothing is told: the row is free for the next
            kept = partial(jnp.where, told[-1])
            compared = jax.tree.map(kept, compared, state.reward)
        return pr.PRLSVIState(
            compared,
            lsvi.update_lsvi(state.transitions, seen, states[:, 1:]),
        )

    return Learner(start, act, asks, update)


def posterior_sampler(config: Config, kind: WorldConfig, world: World, eps: Array) -> Learner:
    """PbTS, its prior on transitions the law that worlds are drawn from."""
    start = pbts.init_posterior(
        rounds=config.rounds,
        num_features=world.step_features.shape[-1],
        horizon=kind.horizon,
        num_states=kind.num_states,
        num_actions=kind.num_actions,
        ridge=config.fit_ridge,
    )

    def act(key, state):
        return pbts.posterior_plan(
            key,
            state,
            world.step_features,
            concentration=kind.concentration,
            slope=config.slope,
            radius=radius(kind),
            ridge=config.fit_ridge,
        )

    def asks(_, state, x):
        return pr.query(state.reward, x, threshold=pr.norm_threshold(eps, sigma=1.0))

    def update(state, states, actions, *told):
        state = state._replace(reward=pr.update_reward(state.reward, *told))
        return pbts.update_model(state, states, actions)

    return Learner(start, act, asks, update)


def run_rounds(
    config: Config, world: World, learner: Learner, key: Key[Array, ""]
) -> tuple[Float[Array, " T"], Int[Array, " T"]]:
    """Cumulative regret [T], both policies charged, and cumulative queries [T].

    Each round the last policy plays against the policy before it, and the teacher is asked, or not,
    which of the two trajectories has the larger return.
    """
    rewards = world.mdp.rewards
    steps = jnp.arange(rewards.shape[0])

    def step(carry, key):
        state, old, old_gap = carry
        act_key, play_key, label_key, ask_key = jax.random.split(key, 4)
        plan, state = learner.act(act_key, state)
        pair = jnp.stack([old, plan.logps])
        states, actions = jax.vmap(play, (None, 0, 0))(world.mdp, pair, jax.random.split(play_key))
        phi = trajectory_features(world.step_features, states[:, :-1], actions)
        returns = jnp.sum(rewards[steps, states[:, :-1], actions], axis=-1)
        label = bt_labels(label_key, returns, beta=config.slope)
        asked = learner.asks(ask_key, state, phi[1] - phi[0])
        state = learner.update(state, states, actions, phi[1] - phi[0], label, asked)
        gap = regret(world.mdp, plan.logps)
        return (state, plan.logps, gap), (old_gap + gap, asked)

    uniform = jnp.full_like(rewards, -jnp.log(rewards.shape[-1]))
    start = (learner.start, uniform, regret(world.mdp, uniform))
    _, (gaps, asked) = jax.lax.scan(step, start, jax.random.split(key, config.rounds))
    return jnp.cumsum(gaps), jnp.cumsum(asked)


def play(mdp: FiniteMDP, logps: Array, key: Array) -> tuple[Array, Array]:
    """States [H + 1] and actions [H] of one episode."""
    table = logps.reshape(-1, logps.shape[-1])

    def choose(key, observation):
        action = jax.random.categorical(key, table[observation])
        return action, table[observation, action]

    episode = sample_episode(finite_env(mdp), choose, key, steps=logps.shape[0])
    return episode.states[1], episode.trajectory.actions


def regret_curves(
    config: Config,
    kind: WorldConfig,
    keys: Key[Array, " N"],
    method: Method,
    *,
    room: int | None = None,
) -> tuple[Float[Array, "N T"], Int[Array, "N T"]]:
    """Cumulative regret and queries of one method in PR-LSVI's frame; not jitted, vmap over them.

    Args:
      keys: [N] one world and one run for each.
      method: from `methods`.
      room: as of `pr_lsvi`.
    Returns:
      Regret [N, T] and queries [N, T].
    """

    def one(key):
        world_key, run_key = jax.random.split(key)
        world = draw_world(kind, world_key)
        learner = pr_lsvi(config, kind, world, method, room=room)
        return run_rounds(config, world, learner, run_key)

    return jax.vmap(one)(keys)


def posterior_curves(
    config: Config, kind: WorldConfig, keys: Key[Array, " N"], eps: Array
) -> tuple[Float[Array, "N T"], Int[Array, "N T"]]:
    """`regret_curves` of PbTS, in the same worlds."""

    def one(key):
        world_key, run_key = jax.random.split(key)
        world = draw_world(kind, world_key)
        return run_rounds(config, world, posterior_sampler(config, kind, world, eps), run_key)

    return jax.vmap(one)(keys)
