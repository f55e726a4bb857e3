"""Part C: DDPG on the pendulum, on its own reward, on weighted sums and on HERON's reward."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from experiments.heron.config import SwingUp
from experiments.heron.rewards import (
    OBSERVATION_SCALE,
    Rewarder,
    Standardised,
    Steps,
    fixed_sum,
    heron,
    standardised_sum,
)
from rlhf_jax.algos.control import ddpg
from rlhf_jax.envs.pendulum import MAX_TORQUE, REWARD_WEIGHTS, pendulum_env
from rlhf_jax.models.mlp import make_mlp
from rlhf_jax.sampling.episodes import sample_episode

STEPS = 200  # of an episode
SUM_BETA = 0.5
WORLD = pendulum_env()


class Agent(NamedTuple):
    """init: `key -> state`; act: `(state, observations) -> actions`; learn: `(key, progress,
    filled) -> state`, an update on rows of the replay."""

    init: Callable[..., ddpg.DDPGState]
    act: Callable[..., Array]
    learn: Callable[..., ddpg.DDPGState]


class Progress(NamedTuple):
    """What a run carries from round to round."""

    learner: ddpg.DDPGState
    reward: Any
    replay: Steps


def sums(config: SwingUp) -> dict[str, tuple[float, ...]]:
    """Weights of (-theta^2, -theta'^2, -u^2) in each sum."""
    designed = (1.0, SUM_BETA, SUM_BETA**2)
    return {
        "true reward": REWARD_WEIGHTS,
        "true weights, odd unit": (*REWARD_WEIGHTS[:2], config.unit * REWARD_WEIGHTS[2]),
        "weighted sum": designed,
        "weighted sum, odd unit": (*designed[:2], config.unit * designed[2]),
    }


def train_on_sums(config: SwingUp, key: Key[Array, ""]) -> dict[str, np.ndarray]:
    """What `train` returns, [sums, seeds, ...]."""
    weights = jnp.asarray(list(sums(config).values()))
    keys = jax.random.split(key, config.num_seeds)
    over_seeds = jax.vmap(lambda key, w: train(key, w, fixed_sum(), config), in_axes=(0, None))
    found = jax.jit(jax.vmap(over_seeds, in_axes=(None, 0)))(keys, weights)
    return jax.tree.map(np.asarray, found)


def train_on_standardised(config: SwingUp, key: Key[Array, ""]) -> dict[str, np.ndarray]:
    """What `train` returns on standardised sums in the odd unit, [betas, seeds, ...]."""
    weights = jnp.asarray([(1.0, beta, beta**2) for beta in config.betas])
    keys = jax.random.split(key, config.num_seeds)

    def one(key, weights):
        start = Standardised(weights, jnp.ones(3))
        return train(key, start, standardised_sum(config), config)

    over_seeds = jax.vmap(one, in_axes=(0, None))
    found = jax.jit(jax.vmap(over_seeds, in_axes=(None, 0)))(keys, weights)
    return jax.tree.map(np.asarray, found)


def train_on_heron(config: SwingUp, key: Key[Array, ""]) -> dict[str, np.ndarray]:
    """What `train` returns, share of decided pairs and accuracy of the network too [seeds, ...]."""
    init, rewarder = heron(config)
    keys = jax.random.split(key, config.num_seeds)

    def one(key):
        return train(key, init(jax.random.fold_in(key, 1)), rewarder, config)

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys))


def make_agent(rewarder: Rewarder, config: SwingUp) -> Agent:
    """DDPG whose networks get inputs of about unit size, and whose rewards are today's."""
    actor_net, critic_net = make_mlp((3, *config.widths, 1)), make_mlp((4, *config.widths, 1))
    optimizer, scale = optax.adam(config.rate), jnp.asarray(OBSERVATION_SCALE)

    def actor(params, observations):
        return MAX_TORQUE * jnp.tanh(actor_net.apply(params, observations * scale))

    def critic(params, observations, actions):
        x = jnp.concatenate([observations * scale, actions / MAX_TORQUE], axis=-1)
        return critic_net.apply(params, x)[..., 0]

    update = ddpg.make_update(actor, critic, optimizer, ddpg.DDPGConfig(tau=config.tau))

    def init(key):
        actor_key, critic_key = jax.random.split(key)
        return ddpg.init_ddpg(actor_net.init(actor_key), critic_net.init(critic_key), optimizer)

    def learn(key, now, filled):
        seen, actions, following = ddpg.draw_transitions(
            key, now.replay, filled, batch=config.batch
        )
        rewards = rewarder.rewards(now.reward, Steps(seen, actions, following))
        # The pendulum never ends: a time limit is no reason to stop bootstrapping.
        going_on = jnp.ones_like(rewards)
        batch = ddpg.ControlTransitions(seen, actions, rewards, going_on, following)
        return update(now.learner, batch)[0]

    return Agent(init, lambda state, seen: actor(state.actor.params, seen), learn)


def train(key: Key[Array, ""], reward: Any, rewarder: Rewarder, config: SwingUp) -> dict:
    """One run from a fresh actor: true return and what the rewarder reports, [rounds] each, the
    rounds of warming up first."""
    agent = make_agent(rewarder, config)
    init_key, start_key, play_key, refresh_key = jax.random.split(key, 4)
    rows = (config.warmup + config.rounds) * STEPS * config.worlds

    def turn(now: Progress, number: Int[Array, ""]) -> tuple[Progress, dict]:
        now = play(jax.random.fold_in(play_key, number), now, number, agent, config)
        filled = (number + 1) * STEPS * config.worlds
        key = jax.random.fold_in(refresh_key, number)
        reward, info = rewarder.refresh(key, now.reward, now.replay, filled)
        returns = mean_return(start_key, agent, now.learner, config)
        return now._replace(reward=reward), info | {"return": returns}

    replay = Steps(*(jnp.zeros((rows, width)) for width in (3, 1, 3)))
    start = Progress(agent.init(init_key), reward, replay)
    return jax.lax.scan(turn, start, jnp.arange(config.warmup + config.rounds))[1]


def play(
    key: Key[Array, ""],
    now: Progress,
    number: Int[Array, ""],
    agent: Agent,
    config: SwingUp,
) -> Progress:
    """Round `number`: an episode in each world, with an update after each step once warm."""
    warm = number >= config.warmup
    std = MAX_TORQUE * jnp.where(warm, config.noise, 1.0)

    def step(carry, time):
        now, worlds, observations = carry
        act_key, step_key, learn_key = jax.random.split(jax.random.fold_in(key, time), 3)
        actions = agent.act(now.learner, observations)
        actions = ddpg.noisy_actions(act_key, actions, std=std, limit=MAX_TORQUE)
        step_keys = jax.random.split(step_key, config.worlds)
        worlds, seen = jax.vmap(WORLD.step)(step_keys, worlds, actions)
        place = (number * STEPS + time) * config.worlds
        replay = jax.tree.map(
            lambda rows, new: jax.lax.dynamic_update_slice_in_dim(rows, new, place, 0),
            now.replay,
            Steps(observations, actions, seen.observation),
        )
        now = now._replace(replay=replay)
        better = jax.lax.cond(
            warm, lambda: agent.learn(learn_key, now, place + config.worlds), lambda: now.learner
        )
        return (now._replace(learner=better), worlds, seen.observation), None

    starts = jax.random.split(jax.random.fold_in(key, STEPS), config.worlds)
    start = (now, *jax.vmap(WORLD.reset)(starts))
    return jax.lax.scan(step, start, jnp.arange(STEPS))[0][0]


def mean_return(
    key: Key[Array, ""], agent: Agent, learner: ddpg.DDPGState, config: SwingUp
) -> Float[Array, ""]:
    """Mean undiscounted reward of the benchmark without noise, over `starts` episodes."""

    def act(key, observation):
        return agent.act(learner, observation), jnp.zeros(())

    def one(key):
        return sample_episode(WORLD, act, key, steps=STEPS).rewards.sum()

    return jax.vmap(one)(jax.random.split(key, config.starts)).mean()
