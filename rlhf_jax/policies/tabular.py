"""Softmax tables: one free parameter per state and action. Inputs are state ids [*B, T].

Params may be NumPy arrays, e.g. from a file. A state outside the table gives NaN; params of another
shape raise AssertionError.
"""

from collections.abc import Callable
from dataclasses import replace

import chex
import jax
import jax.numpy as jnp

from rlhf_jax.checks import check_mask, rows
from rlhf_jax.ops.logprobs import token_logps
from rlhf_jax.types import Policy, RewardFn, Trajectory, ValueFn


def tabular_policy(num_states: int, num_actions: int) -> Policy:
    """pi(a | s) = softmax(params[s])_a, with params [S, A] that start at zero (uniform)."""

    def init(key: jax.Array) -> jax.Array:
        del key
        return jnp.zeros((num_states, num_actions))

    def logits(params, states):
        chex.assert_shape(params, (num_states, num_actions))
        return rows(params, states=states)

    def logps(params, states, actions):
        return token_logps(logits(params, states), actions)

    return Policy(init, logits, logps)


def tabular_value(num_states: int) -> ValueFn:
    """V(s) = params[s], with params [S] that start at zero."""

    def init(key: jax.Array) -> jax.Array:
        del key
        return jnp.zeros(num_states)

    def values(params, states):
        chex.assert_shape(params, (num_states,))
        return rows(params, states=states)

    return ValueFn(init, values)


def tabular_reward(num_states: int, num_actions: int) -> RewardFn:
    """score = sum over counted steps of params[s_t, a_t], with params [S, A] that start at zero."""

    def init(key: jax.Array) -> jax.Array:
        del key
        return jnp.zeros((num_states, num_actions))

    def scores(params, trajectory: Trajectory):
        chex.assert_shape(params, (num_states, num_actions))
        rewards = rows(params, states=trajectory.inputs, actions=trajectory.actions)
        check_mask(mask=trajectory.mask)
        return jnp.sum(jnp.where(trajectory.mask, rewards, 0.0), axis=-1)

    return RewardFn(init, scores)


def tabular_rewriting(num_actions: int) -> Callable[[Trajectory, Trajectory], Trajectory]:
    """`rewrite(read, write)` of `algos.correction_model`, for `tabular_policy(S A, A)`.

    Step t is shown its state and the action that `read` has there, as the state s_t A + u_t; an
    action outside [0, A) is a state outside the table.
    """

    def rewrite(read: Trajectory, write: Trajectory) -> Trajectory:
        chex.assert_equal_shape([read.inputs, read.actions, write.actions])
        known = (read.actions >= 0) & (read.actions < num_actions)
        return replace(write, inputs=jnp.where(known, read.inputs * num_actions + read.actions, -1))

    return rewrite
