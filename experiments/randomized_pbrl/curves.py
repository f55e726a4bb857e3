"""Regret and queries of PR-LSVI, of what it is compared with, and of posterior sampling."""

from collections.abc import Callable
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
from rlhf_jax.types import Scalar

PLAIN, TIES = ", no truncation", "greedy, ties at random"
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
    named[TIES] = (1e-9, 1e-9, 0.0, 1.0, 1.0)
    named |= {f"random {rate:.0%}": (*sigmas, 0.0, rate, 1.0) for rate in config.rates}
    plain = {name: named[name] for name in ("eps = 0", "greedy", TIES)}
    named |= {f"{name}{PLAIN}": (*each[:-1], NEVER) for name, each in plain.items()}
    return {name: Method(*map(jnp.asarray, each)) for name, each in named.items()}


def pr_lsvi(config: Config, kind: WorldConfig, world: World, method: Method) -> Learner:
    """PR-LSVI, or what is left of it without noise or with a coin for a query rule."""
    start = pr.PRLSVIState(
        pr.init_reward(
            room=config.rounds, num_features=world.step_features.shape[-1], ridge=config.ridge
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
        return pr.PRLSVIState(
            pr.update_reward(state.reward, *told),
            lsvi.update_lsvi(state.transitions, seen, states[:, 1:]),
        )

    return Learner(start, act, asks, update)


def posterior_sampler(config: Config, kind: WorldConfig, world: World, eps: Array) -> Learner:
    """PbTS, its prior on transitions the law that worlds are drawn from."""
    start = pbts.init_posterior(
        room=config.rounds,
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


class Match(NamedTuple):
    """state: of the learner; logps, gap: of the last policy [H, S, A], and its regret."""

    state: tuple
    logps: Array
    gap: Array


class Told(NamedTuple):
    """Of one round. regret: of both policies; asked: bool; differs: whether the two trajectories
    have different features."""

    regret: Array
    asked: Array
    differs: Array


def first_match(world: World, learner: Learner) -> Match:
    """Before any round; the older policy is uniform."""
    rewards = world.mdp.rewards
    uniform = jnp.full_like(rewards, -jnp.log(rewards.shape[-1]))
    return Match(learner.start, uniform, regret(world.mdp, uniform))


def next_round(
    world: World, learner: Learner, match: Match, key: Key[Array, ""], *, slope: Scalar
) -> tuple[Match, Told]:
    """The last policy plays against the one before it, and the teacher is asked, or not, which of
    the two trajectories has the larger return."""
    rewards = world.mdp.rewards
    act_key, play_key, label_key, ask_key = jax.random.split(key, 4)
    plan, state = learner.act(act_key, match.state)
    pair = jnp.stack([match.logps, plan.logps])
    states, actions = jax.vmap(play, (None, 0, 0))(world.mdp, pair, jax.random.split(play_key))
    phi = trajectory_features(world.step_features, states[:, :-1], actions)
    returns = jnp.sum(rewards[jnp.arange(len(rewards)), states[:, :-1], actions], axis=-1)
    label = bt_labels(label_key, returns, beta=slope)
    x = phi[1] - phi[0]
    asked = learner.asks(ask_key, state, x)
    state = learner.update(state, states, actions, x, label, asked)
    gap = regret(world.mdp, plan.logps)
    return Match(state, plan.logps, gap), Told(match.gap + gap, asked, jnp.any(x != 0))


def run_rounds(
    config: Config, world: World, learner: Learner, key: Key[Array, ""]
) -> tuple[Float[Array, " T"], Int[Array, " T"]]:
    """Cumulative regret [T], both policies charged, and cumulative queries [T]."""

    def step(match, key):
        return next_round(world, learner, match, key, slope=config.slope)

    keys = jax.random.split(key, config.rounds)
    _, told = jax.lax.scan(step, first_match(world, learner), keys)
    return jnp.cumsum(told.regret), jnp.cumsum(told.asked)


def play(mdp: FiniteMDP, logps: Array, key: Array) -> tuple[Array, Array]:
    """States [H + 1] and actions [H] of one episode."""
    table = logps.reshape(-1, logps.shape[-1])

    def choose(key, observation):
        action = jax.random.categorical(key, table[observation])
        return action, table[observation, action]

    episode = sample_episode(finite_env(mdp), choose, key, steps=logps.shape[0])
    return episode.states[1], episode.trajectory.actions


def regret_curves(
    config: Config, kind: WorldConfig, keys: Key[Array, " N"], method: Method
) -> tuple[Float[Array, "N T"], Int[Array, "N T"]]:
    """Cumulative regret and queries of one method in PR-LSVI's frame; not jitted, vmap over them.

    Args:
      keys: [N] one world and one run for each.
      method: from `methods`.
    Returns:
      Regret [N, T] and queries [N, T].
    """

    def one(key):
        world_key, run_key = jax.random.split(key)
        world = draw_world(kind, world_key)
        return run_rounds(config, world, pr_lsvi(config, kind, world, method), run_key)

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
