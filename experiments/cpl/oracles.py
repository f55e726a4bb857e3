"""Off-policy agents of the control panel: half-trained ones act, the last one labels."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from experiments.cpl.config import Control
from experiments.cpl.worlds import World
from rlhf_jax.algos.control import ddpg
from rlhf_jax.algos.control.off_policy import Progress, empty_step, play_round
from rlhf_jax.algos.control.replay import draw_rows, init_replay
from rlhf_jax.algos.gradient import gradient_step, init_state
from rlhf_jax.losses.policy_gradient import value_loss
from rlhf_jax.models.mlp import make_mlp
from rlhf_jax.ops.bellman import soft_values
from rlhf_jax.ops.masking import weighted_mean
from rlhf_jax.sampling.episodes import Episode, sample_episode
from rlhf_jax.types import Params, TrainState

LAST = 3  # one part in so many of the rounds is where the labelling agent is looked for


class Agent(NamedTuple):
    """An off-policy learner.

    init: `key -> learner`. learn: `(learner, rows) -> learner`.
    act: `(key, params, observations [*B, d], noise) -> actions`.
    values: `(params, observations [*B, d]) -> V [*B]`, of the policy without noise.
    params: `learner -> params`, what acts and has values.
    """

    init: Callable[[Key[Array, ""]], Any]
    learn: Callable[[Any, ddpg.ControlTransitions], Any]
    act: Callable[..., Array]
    values: Callable[[Params, Array], Array]
    params: Callable[[Any], Params]


class Trained(NamedTuple):
    """expert: params of the best of the last rounds. behaviours: [checkpoints, ...] params of the
    rounds with success nearest to a half. success, returns: [rounds] with noise."""

    expert: Params
    behaviours: Params
    success: Array
    returns: Array


def make_agent(world: World, config: Control) -> Agent:
    """DDPG where actions are continuous, else soft Q-learning."""
    return soft_q_agent(world, config) if world.num_actions else ddpg_agent(world, config)


def ddpg_agent(world: World, config: Control) -> Agent:
    """DDPG; V(s) = Q(s, mu(s)). Noise is Gaussian, its unit half the box."""
    actor_net = make_mlp((world.num_inputs, *config.widths, 1))
    critic_net = make_mlp((world.num_inputs + 1, *config.widths, 1))
    optimizer = optax.adam(config.agent_rate)

    def actor(params, observations):
        return jnp.tanh(actor_net.apply(params, observations))

    def critic(params, observations, actions):
        return critic_net.apply(params, jnp.concatenate([observations, actions], -1))[..., 0]

    settings = ddpg.DDPGConfig(gamma=config.gamma, tau=config.tau)
    update = ddpg.make_update(actor, critic, optimizer, settings)

    def init(key):
        keys = jax.random.split(key)
        return ddpg.init_ddpg(actor_net.init(keys[0]), critic_net.init(keys[1]), optimizer)

    def act(key, params, observations, noise):
        return ddpg.noisy_actions(key, actor(params[0], observations), std=noise, limit=1.0)

    return Agent(
        init=init,
        learn=lambda learner, rows: update(learner, rows)[0],
        act=act,
        values=lambda params, seen: critic(params[1], seen, actor(params[0], seen)),
        params=lambda learner: (learner.actor.params, learner.critic.params),
    )


class SoftQ(NamedTuple):
    """Two networks Q(s, .), and slowly moving copies for the targets."""

    q: TrainState
    target: Params


def soft_q_agent(world: World, config: Control) -> Agent:
    """Q_i(s, a) <- r + gamma V(s'), V = tau log sum exp(min_i Q_i / tau).

    Noise is the probability of a uniform action; else the best one is taken.
    """
    net = make_mlp((world.num_inputs, *config.widths, world.num_actions))
    optimizer = optax.adam(config.agent_rate)

    def both(params, observations):
        return jax.vmap(net.apply, (0, None))(params, observations)

    def values(params, observations):
        q = both(params, observations).min(0)
        return soft_values(q, jnp.zeros(q.shape), beta=config.temperature)

    def init(key):
        params = jax.vmap(net.init)(jax.random.split(key))
        return SoftQ(init_state(params, optimizer), params)

    def learn(learner, rows):
        after = values(learner.target, rows.next_observations)
        targets = rows.rewards + config.gamma * rows.discounts * after

        def objective(params):
            q = both(params, rows.observations)
            taken = jnp.take_along_axis(q, rows.actions[None, :, None], -1)[..., 0]
            return weighted_mean(value_loss(taken, jnp.broadcast_to(targets, taken.shape))), {}

        new, _ = gradient_step(learner.q, objective, optimizer)
        return SoftQ(new, optax.incremental_update(new.params, learner.target, config.tau))

    def act(key, params, observations, noise):
        when, which = jax.random.split(key)
        best = jnp.argmax(both(params, observations).min(0), axis=-1)
        other = jax.random.randint(which, best.shape, 0, world.num_actions)
        return jnp.where(jax.random.uniform(when, best.shape) < noise, other, best)

    return Agent(init, learn, act, values, lambda learner: learner.q.params)


def train_agent(key: Key[Array, ""], world: World, config: Control) -> Trained:
    """One run from a fresh agent; the parameters after each round are judged with noise."""
    agent = make_agent(world, config)
    init_key, play_key, test_key = jax.random.split(key, 3)
    action = jnp.zeros((), jnp.int32) if world.num_actions else jnp.zeros(1)
    size = config.rounds * config.round_steps * config.lanes
    now = Progress(agent.init(init_key), init_replay(empty_step(world.env, action), size=size))

    def learn(key, learner, replay):
        return agent.learn(learner, draw_rows(key, replay, batch=config.agent_batch))

    def turn(now, number):
        noise = jnp.where(number < config.warmup, 1.0, config.exploration)

        def act(key, learner, observations):
            return agent.act(key, agent.params(learner), observations, noise)

        now = play_round(
            jax.random.fold_in(play_key, number),
            now,
            act,
            learn,
            env=world.env,
            steps=config.round_steps,
            worlds=config.lanes,
            learning=number >= config.warmup,
        )
        return now, agent.params(now.learner)

    _, params = jax.lax.scan(turn, now, jnp.arange(config.rounds))

    def judge(params):
        episodes = play(test_key, world, agent, params, noise=config.noise, episodes=config.checks)
        return jax.vmap(world.success)(episodes).mean(), episodes.rewards.sum(-1).mean()

    success, returns = jax.lax.map(judge, params)
    late = jnp.arange(config.rounds) >= config.rounds - config.rounds // LAST
    best = jnp.argmax(jnp.where(late, returns, -jnp.inf))
    half = jnp.argsort(jnp.abs(success - 0.5))[: config.checkpoints]
    expert, behaviours = (jax.tree.map(lambda x, i=i: x[i], params) for i in (best, half))
    return Trained(expert, behaviours, success, returns)


def play(
    key: Key[Array, ""],
    world: World,
    agent: Agent,
    params: Params,
    *,
    noise: float,
    episodes: int,
) -> Episode:
    """Episodes [episodes, steps] of an agent with noise, without the states of the world."""

    def act(key, observation):
        return agent.act(key, params, observation, noise), jnp.zeros(())

    def one(key):
        return sample_episode(world.env, act, key, steps=world.steps)._replace(states=None)

    return jax.vmap(one)(jax.random.split(key, episodes))


def step_advantages(
    agent: Agent, params: Params, episodes: Episode, *, gamma: float
) -> tuple[Float[Array, "B T"], Float[Array, "B T d"]]:
    """r + gamma V(s') - V(s) of each step by an agent's critic, 0 after the end; and s'."""
    seen = episodes.trajectory.inputs
    after = jnp.concatenate([seen[:, 1:], episodes.last_observation[:, None]], axis=1)
    backed_up = episodes.rewards + gamma * episodes.discounts * agent.values(params, after)
    gaps = backed_up - agent.values(params, seen)
    return jnp.where(episodes.trajectory.mask, gaps, 0.0), after
