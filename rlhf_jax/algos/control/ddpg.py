"""Deep deterministic policy gradient: a critic Q(s, a), and an actor trained to maximise it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from rlhf_jax.algos.gradient import Diagnostics, gradient_step, init_state
from rlhf_jax.checks import check_range
from rlhf_jax.losses.policy_gradient import value_loss
from rlhf_jax.ops.masking import weighted_mean
from rlhf_jax.types import Params, Scalar, TrainState, Update

Actor = Callable[[Params, Array], Array]  # (params, observations [*B, d]) -> actions [*B, k]
Critic = Callable[[Params, Array, Array], Array]  # (params, observations, actions) -> [*B]


@dataclass(frozen=True, kw_only=True)
class DDPGConfig:
    """gamma: discount in [0, 1). tau: share of the new params in the targets, in (0, 1]."""

    gamma: float = 0.99
    tau: float = 0.005

    def __post_init__(self):
        check_range("[0, 1)", gamma=self.gamma)
        check_range("(0, 1]", tau=self.tau)


class DDPGState(NamedTuple):
    """The trained networks, and their slowly moving copies for the targets."""

    actor: TrainState
    critic: TrainState
    target_actor: Params
    target_critic: Params


class ControlTransitions(NamedTuple):
    """Steps with leading axes [*B].

    observations, next_observations: [*B, d]. actions: [*B, k]. rewards: [*B].
    discounts: [*B] 0 where the environment ended the episode, else 1; a time limit also counts as
      1.
    """

    observations: Array
    actions: Array
    rewards: Array
    discounts: Array
    next_observations: Array


def init_ddpg(
    actor_params: Params, critic_params: Params, optimizer: optax.GradientTransformation
) -> DDPGState:
    """State at step 0; the targets equal the networks."""
    actor, critic = init_state(actor_params, optimizer), init_state(critic_params, optimizer)
    return DDPGState(actor, critic, actor_params, critic_params)


def make_update(
    actor: Actor, critic: Critic, optimizer: optax.GradientTransformation, config: DDPGConfig
) -> Update[DDPGState, ControlTransitions]:
    """Pure `update(state, batch) -> (state, metrics)`.

    y = r + gamma discount Q'(s', mu'(s')),
    critic: mean of (Q(s, a) - y)^2 / 2;   actor: mean of -Q(s, mu(s)) under the new critic;
    targets: theta' <- (1 - tau) theta' + tau theta.

    Returns:
      `update`; metrics "critic/loss", "critic/grad_norm", "actor/loss", "actor/grad_norm".
    Reference: Lillicrap et al. 2015, arXiv:1509.02971, Algorithm 1.
    Departs: no batch normalisation; the caller adds exploration noise (see `noisy_actions`).
    """

    def update(state: DDPGState, batch: ControlTransitions) -> tuple[DDPGState, Diagnostics]:
        following = actor(state.target_actor, batch.next_observations)
        values = critic(state.target_critic, batch.next_observations, following)
        targets = batch.rewards + config.gamma * batch.discounts * values

        def critic_objective(params):
            values = critic(params, batch.observations, batch.actions)
            return weighted_mean(value_loss(values, targets)), {}

        new_critic, critic_metrics = gradient_step(state.critic, critic_objective, optimizer)

        def actor_objective(params):
            actions = actor(params, batch.observations)
            return weighted_mean(-critic(new_critic.params, batch.observations, actions)), {}

        new_actor, actor_metrics = gradient_step(state.actor, actor_objective, optimizer)
        new = DDPGState(
            new_actor,
            new_critic,
            optax.incremental_update(new_actor.params, state.target_actor, config.tau),
            optax.incremental_update(new_critic.params, state.target_critic, config.tau),
        )
        named = {f"critic/{name}": value for name, value in critic_metrics.items()}
        return new, named | {f"actor/{name}": value for name, value in actor_metrics.items()}

    return update


def noisy_actions(
    key: Key[Array, ""], actions: Float[Array, "*B k"], *, std: Scalar, limit: Scalar
) -> Float[Array, "*B k"]:
    """Gaussian noise on the actor's actions, clipped to [-limit, limit]."""
    return jnp.clip(actions + std * jax.random.normal(key, actions.shape), -limit, limit)
