"""Part C: DDPG on the pendulum, on its own reward, on weighted sums and on HERON's reward."""

from collections.abc import Callable, Sequence
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
    fixed_sum,
    heron,
    standardised_sum,
)
from rlhf_jax.algos.control import ddpg
from rlhf_jax.algos.control.off_policy import LearnFrom, Progress, empty_step, play_round
from rlhf_jax.algos.control.replay import draw_rows, init_replay
from rlhf_jax.envs.pendulum import MAX_TORQUE, REWARD_WEIGHTS, pendulum_env
from rlhf_jax.models.mlp import make_mlp
from rlhf_jax.sampling.episodes import sample_episode
from rlhf_jax.types import Env

STEPS = 200  # of an episode
SUM_BETA = 0.5
WORLD = pendulum_env()
CHANGED = {
    "as trained": WORLD,
    "mass x 0.7": pendulum_env(mass=0.7),
    "mass x 1.3": pendulum_env(mass=1.3),
    "friction 0.3": pendulum_env(friction=0.3),
}


class Learner(NamedTuple):
    """What learns: the networks, and the rewarder's state."""

    networks: ddpg.DDPGState
    reward: Any


class Agent(NamedTuple):
    """init: `key -> networks`; act: `(networks, observations) -> actions`; learn: `(key, learner,
    replay) -> learner`, an update on rows of the replay."""

    init: Callable[[Key[Array, ""]], ddpg.DDPGState]
    act: Callable[[ddpg.DDPGState, Array], Array]
    learn: LearnFrom


def sums(config: SwingUp) -> dict[str, tuple[float, ...]]:
    """Weights of (-theta^2, -theta'^2, -u^2) in each sum."""
    designed = (1.0, SUM_BETA, SUM_BETA**2)
    return {
        "true reward": REWARD_WEIGHTS,
        "true weights, odd unit": (*REWARD_WEIGHTS[:2], config.unit * REWARD_WEIGHTS[2]),
        "weighted sum": designed,
        "weighted sum, odd unit": (*designed[:2], config.unit * designed[2]),
    }


def train_on_sums(
    config: SwingUp, key: Key[Array, ""], names: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """What `train` returns, [sums, seeds, ...], of all sums or those of these names."""
    weights = jnp.asarray([sums(config)[name] for name in names or sums(config)])
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

    def learn(key, learner, replay):
        rows = draw_rows(key, replay, batch=config.batch)
        rows = rows._replace(rewards=rewarder.rewards(learner.reward, rows))
        return learner._replace(networks=update(learner.networks, rows)[0])

    return Agent(init, lambda networks, seen: actor(networks.actor.params, seen), learn)


def train(key: Key[Array, ""], reward: Any, rewarder: Rewarder, config: SwingUp) -> dict:
    """One run from a fresh actor: true return and what the rewarder reports, [rounds] each, the
    rounds of warming up first; and "changed", the true return of the last actor in CHANGED."""
    agent = make_agent(rewarder, config)
    init_key, start_key, play_key, refresh_key = jax.random.split(key, 4)
    rows = (config.warmup + config.rounds) * STEPS * config.worlds

    def turn(now: Progress, number: Int[Array, ""]) -> tuple[Progress, dict]:
        now = play(jax.random.fold_in(play_key, number), now, number, agent, config)
        key, learner = jax.random.fold_in(refresh_key, number), now.learner
        reward, info = rewarder.refresh(key, learner.reward, now.replay)
        returns = mean_return(start_key, agent, learner.networks, config)
        now = now._replace(learner=learner._replace(reward=reward))
        return now, info | {"return": returns}

    replay = init_replay(empty_step(WORLD, jnp.zeros(1)), size=rows)
    start = Progress(Learner(agent.init(init_key), reward), replay)
    end, told = jax.lax.scan(turn, start, jnp.arange(config.warmup + config.rounds))
    changed = [
        mean_return(start_key, agent, end.learner.networks, config, world)
        for world in CHANGED.values()
    ]
    return told | {"changed": jnp.stack(changed)}


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

    def act(key, learner, observations):
        actions = agent.act(learner.networks, observations)
        return ddpg.noisy_actions(key, actions, std=std, limit=MAX_TORQUE)

    return play_round(
        key, now, act, agent.learn, env=WORLD, steps=STEPS, worlds=config.worlds, learning=warm
    )


def mean_return(
    key: Key[Array, ""],
    agent: Agent,
    networks: ddpg.DDPGState,
    config: SwingUp,
    world: Env = WORLD,
) -> Float[Array, ""]:
    """Mean undiscounted reward of the benchmark without noise, over `starts` episodes."""

    def act(key, observation):
        return agent.act(networks, observation), jnp.zeros(())

    def one(key):
        return sample_episode(world, act, key, steps=STEPS).rewards.sum()

    return jax.vmap(one)(jax.random.split(key, config.starts)).mean()
