"""Learners of the pendulum: networks of DDPG, RLIF on its labels, and clones."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from experiments.rlif.config import Config, Swing
from rlhf_jax.algos.control import ddpg, rlif
from rlhf_jax.algos.control.q_learning import Transition
from rlhf_jax.algos.gradient import gradient_step, init_state
from rlhf_jax.checks import entries
from rlhf_jax.envs.pendulum import MAX_TORQUE
from rlhf_jax.losses.policy_gradient import value_loss
from rlhf_jax.models.mlp import make_mlp
from rlhf_jax.ops.masking import weighted_mean
from rlhf_jax.types import Params, TrainState

UNITS = (1.0, 1.0, 0.125)  # of an observation, so that networks see about unit size


class Networks(NamedTuple):
    """init: `key -> DDPGState`; actor, critic: as in `ddpg`; update: of DDPG."""

    init: Callable[[Key[Array, ""]], ddpg.DDPGState]
    actor: ddpg.Actor
    critic: ddpg.Critic
    update: Callable


def make_networks(swing: Swing) -> Networks:
    """An actor that never exceeds the largest torque, and a critic."""
    actor_net, critic_net = make_mlp((3, *swing.widths, 1)), make_mlp((4, *swing.widths, 1))
    optimizer, units = optax.adam(swing.rate), jnp.asarray(UNITS)

    def actor(params, observations):
        return MAX_TORQUE * jnp.tanh(actor_net.apply(params, observations * units))

    def critic(params, observations, actions):
        x = jnp.concatenate([observations * units, actions / MAX_TORQUE], axis=-1)
        return critic_net.apply(params, x)[..., 0]

    def init(key):
        keys = jax.random.split(key)
        return ddpg.init_ddpg(actor_net.init(keys[0]), critic_net.init(keys[1]), optimizer)

    settings = ddpg.DDPGConfig(gamma=swing.gamma, tau=swing.tau)
    return Networks(init, actor, critic, ddpg.make_update(actor, critic, optimizer, settings))


class Swinger(NamedTuple):
    """A learner. first: its state. policy: `(state, observation) -> torque`; act: the same with
    exploration, after a key. rows: `(state, moment) -> (state, rows)`, of which those with `valid`
    are kept. learn: `(state, batch) -> state`."""

    first: Any
    policy: Callable
    act: Callable
    rows: Callable
    learn: Callable


class LabelledQ(NamedTuple):
    """q: network of Q(s, .) over the torques. target: its slow copy. previous: of `label_step`."""

    q: TrainState
    target: Params
    previous: Transition


def rlif_swinger(key: Key[Array, ""], config: Config, on_previous: Array | bool) -> Swinger:
    """Q-learning of a network over some torques on the labels, epsilon-greedy; the expert's torque
    counts as the nearest of them."""
    swing, torques = config.swing, torque_choices(config.swing)
    net = make_mlp((3, *swing.widths, swing.torques))
    optimizer, units = optax.adam(swing.rate), jnp.asarray(UNITS)

    def values(params, seen):
        return net.apply(params, seen * units)

    def policy(state, seen):
        return torques[jnp.argmax(values(state.q.params, seen), axis=-1)][..., None]

    def act(key, state, seen):
        when, which = jax.random.split(key)
        other = torques[jax.random.randint(which, (1,), 0, swing.torques)]
        return jnp.where(jax.random.uniform(when) < config.explore, other, policy(state, seen))

    def rows(state, moment):
        told = rlif.label_step(
            state.previous, moment, gamma=swing.label_gamma, on_previous=on_previous
        )
        return state._replace(previous=told.previous), (told.first, told.done)

    def learn(state, batch):
        taken = jnp.argmin(jnp.abs(batch.action - torques), axis=-1)
        after = values(state.target, batch.next_state).max(-1)
        targets = batch.reward + batch.discount * after

        def objective(params):
            found = entries(values(params, batch.state), taken=taken)
            return weighted_mean(value_loss(found, targets)), {}

        new, _ = gradient_step(state.q, objective, optimizer)
        target = optax.incremental_update(new.params, state.target, swing.tau)
        return LabelledQ(new, target, state.previous)

    start = net.init(key)
    first = LabelledQ(init_state(start, optimizer), start, no_transition())
    return Swinger(first, policy, act, rows, learn)


def torque_choices(swing: Swing) -> Float[Array, " K"]:
    """Evenly spaced, both ends too."""
    return jnp.linspace(-MAX_TORQUE, MAX_TORQUE, swing.torques)


def clone_swinger(key: Key[Array, ""], config: Config, own: Array, rate: Array) -> Swinger:
    """Least squares on the torques of the expert, and on the learner's own that nobody interrupted
    with weight `own`; network HG-DAgger at 0. The weight travels in the place of the reward."""
    nets, swing = make_networks(config.swing), config.swing
    optimizer = optax.adam(rate)

    def policy(state, seen):
        return nets.actor(state.params, seen)

    def act(key, state, seen):
        std = MAX_TORQUE * swing.noise
        return ddpg.noisy_actions(key, policy(state, seen), std=std, limit=MAX_TORQUE)

    def rows(state, moment):
        weight = jnp.where(moment.controlled, 1.0, own)
        valid = weight > 0
        step = Transition(
            moment.state, moment.action, weight, moment.next_state, moment.discount, valid
        )
        return state, (step,)

    def learn(state, batch):
        def objective(params):
            away = nets.actor(params, batch.state) - batch.action
            return weighted_mean(jnp.sum(away**2, axis=-1), batch.reward), {}

        return gradient_step(state, objective, optimizer)[0]

    first = init_state(nets.init(key).actor.params, optimizer)
    return Swinger(first, policy, act, rows, learn)


def no_transition() -> Transition:
    """The shapes of a step, and the step before the first."""
    seen, nothing = jnp.zeros(3), jnp.zeros(())
    return Transition(seen, jnp.zeros(1), nothing, seen, nothing, jnp.zeros((), bool))
