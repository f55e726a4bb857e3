"""Episodes in an environment: one at a time, batches by vmap, all by scan."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from rlhf_jax.checks import check_range
from rlhf_jax.ops.logprobs import token_logps
from rlhf_jax.types import Env, Params, Policy, PyTree, Trajectory

Act = Callable[[Key[Array, ""], Any], tuple[Any, Array]]


class Episode(NamedTuple):
    """One episode of at most T steps.

    trajectory: inputs are the observations [T], actions [T], mask [T] False after the end.
    rewards: [T], 0 after the end; discounts: [T], 0 from the last step on.
    token_logps: [T] log-prob of each action under the policy that acted, 0 after the end.
    last_observation: observation after the last step. states: environment states, [T + 1].
    """

    trajectory: Trajectory
    rewards: Array
    discounts: Array
    token_logps: Array
    last_observation: PyTree
    states: PyTree


def policy_act(policy: Policy, params: Params) -> Act:
    """Actions from a policy with observations as inputs, e.g. a table or a linear map.

    Returns:
      `act(key, observation) -> (action, log-prob)` for `sample_episode`.
    """

    def act(key, observation):
        logits = policy.logits(params, jax.tree.map(lambda x: x[None], observation))
        action = jax.random.categorical(key, logits[0])
        return action, token_logps(logits, action[None])[0]

    return act


def sample_episode(env: Env, act: Act, key: Key[Array, ""], *, steps: int) -> Episode:
    """One episode of at most `steps` steps; step t uses the key fold_in(key, t).

    Args:
      env: one environment; for several, vmap over the arguments that it is made from.
      act: `(key, observation) -> (action, log-prob)`.
      key: one per episode; use `jax.vmap` over keys for a batch.
      steps: T >= 1.
    """
    check_range("[1, inf)", steps=steps)
    state, observation = env.reset(jax.random.fold_in(key, steps))

    def step(carry, time):
        state, observation, alive = carry
        act_key, step_key = jax.random.split(jax.random.fold_in(key, time))
        action, logp = act(act_key, observation)
        new, seen = env.step(step_key, state, action)
        left = jnp.where(alive, seen.discount, 0.0)
        reward = jnp.where(alive, seen.reward, 0.0)
        record = (observation, action, alive, reward, left, jnp.where(alive, logp, 0.0), new)
        return (new, seen.observation, alive & (seen.discount > 0)), record

    start = (state, observation, jnp.ones((), bool))
    (_, last, _), records = jax.lax.scan(step, start, jnp.arange(steps))
    observations, actions, mask, rewards, discounts, logps, states = records
    states = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), state, states)
    trajectory = Trajectory(observations, actions, mask)
    return Episode(trajectory, rewards, discounts, logps, last, states)
