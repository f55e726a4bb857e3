"""What both worlds share: tables, PPO with a table of values, one update a batch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rlhf_jax.algos import ppo
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.policies.tabular import tabular_policy, tabular_value
from rlhf_jax.types import PyTree, Trajectory

# (key, logits [S, A]) -> (answers, token rewards [B, T], numbers to log)
DrawScored = Callable[[jax.Array, Array], tuple[Trajectory, Float[Array, "B T"], PyTree]]


def train_tables(
    key: jax.Array,
    draw: DrawScored,
    *,
    states: int,
    actions: int,
    beta: float,
    rate: float,
    updates: int,
) -> PyTree:
    """The logged numbers of every batch, [updates, ...]; batch u is drawn after u updates.

    One step of policy and values on each batch, where the clips bind nothing: the policy gradient.
    Policy and values start at 0, and the first policy is the reference.
    """
    policy, value = tabular_policy(states, actions), tabular_value(states)
    optimizer = optax.adam(rate)
    config = ppo.PPOConfig(beta=beta, value_clip_eps=jnp.inf, value_coef=1.0, gae_lambda=0.95)
    update = ppo.make_update(policy, value, optimizer, config)
    reference = jnp.zeros((states, actions))

    def step(state, key):
        trajectory, rewards, logged = draw(key, state.params.policy)
        seen = (trajectory.inputs, trajectory.actions)
        batch = ppo.make_token_batch(
            trajectory,
            rewards,
            old_logps=policy.logps(state.params.policy, *seen),
            ref_logps=policy.logps(reference, *seen),
            old_values=value.values(state.params.value, trajectory.inputs),
            config=config,
        )
        return update(state, batch)[0], logged

    state = init_state(ppo.ActorCritic(reference, jnp.zeros(states)), optimizer)
    return jax.lax.scan(step, state, jax.random.split(key, updates))[1]
