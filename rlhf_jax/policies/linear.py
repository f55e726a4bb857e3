"""Log-linear models over fixed features. Inputs are state ids [*B, T], as for tables.

The features belong to the policy, not to its inputs, so a table and a linear policy can train on
the same rollouts.
"""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_mask, rows
from rlhf_jax.ops.logprobs import token_logps
from rlhf_jax.types import Policy, RewardFn, Trajectory, ValueFn


def linear_policy(features: Float[Array, "S A d"]) -> Policy:
    """pi(a | s) = softmax_a(features[s, a] . params), with params [d] that start at zero."""

    def init(key: jax.Array) -> jax.Array:
        del key
        return jnp.zeros(features.shape[-1])

    def logits(params, states):
        chex.assert_shape(params, features.shape[-1:])
        return rows(features @ params, states=states)

    def logps(params, states, actions):
        return token_logps(logits(params, states), actions)

    return Policy(init, logits, logps)


def linear_value(features: Float[Array, "S d"]) -> ValueFn:
    """V(s) = features[s] . params, with params [d] that start at zero."""

    def init(key: jax.Array) -> jax.Array:
        del key
        return jnp.zeros(features.shape[-1])

    def values(params, states):
        chex.assert_shape(params, features.shape[-1:])
        return rows(features @ params, states=states)

    return ValueFn(init, values)


def linear_reward(num_features: int) -> RewardFn:
    """score = sum over counted steps of x_t . params, with params [d] that start at zero.

    The features x are the inputs of the trajectory, [*B, T, d], from any source. An answer
    described by one vector is a trajectory with T = 1.
    """

    def init(key: jax.Array) -> jax.Array:
        del key
        return jnp.zeros(num_features)

    def scores(params, trajectory: Trajectory):
        chex.assert_shape(params, (num_features,))
        check_mask(mask=trajectory.mask)
        # Masked before the product: 0 times a NaN feature would be a NaN gradient.
        counted = jnp.where(trajectory.mask[..., None], trajectory.inputs, 0.0)
        return jnp.sum(counted @ params, axis=-1)

    return RewardFn(init, scores)


def paired_features(read: Trajectory, write: Trajectory) -> Trajectory:
    """`rewrite(read, write)` of `algos.gap_model`, for `linear_reward(2 d)`: x = [F(y), -F(y_ref)].

    The score is the additive gap u . F(y) - v . F(y_ref), with params [u, v]. Inputs are features
    F [*B, T, d] of the answers.
    """
    chex.assert_equal_shape([read.inputs, write.inputs])
    return replace(write, inputs=jnp.concatenate([write.inputs, -read.inputs], axis=-1))
