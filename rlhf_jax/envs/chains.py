"""Chains, which are hard to explore: only a long run of right actions pays, and a bait is near."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from rlhf_jax.envs.tabular_mdp import FiniteMDP


def chain(*, horizon: int, num_states: int, slip: float = 0.1, bait: float = 0.05) -> FiniteMDP:
    """States in a row, from the left end; action 0 goes left, action 1 right.

    Going right fails with probability `slip` and goes left; walls stop. Action 0 at the left end
    pays `bait`, action 1 at the right end pays 1.

    Args:
      horizon: H >= 1; the right end can pay if H >= num_states.
      slip, bait: in [0, 1].
    Returns:
      FiniteMDP, the same at every step.
    Raises:
      ValueError: horizon < 1, fewer than two states, slip or bait outside [0, 1].
    Reference: the chain of Strehl and Littman 2008, doi:10.1016/j.jcss.2007.08.009 (RiverSwim).
    Departs: a slip always goes left; rewards and probabilities are rounder numbers.
    """
    if horizon < 1 or num_states < 2:
        raise ValueError(
            f"a chain needs horizon >= 1 and num_states >= 2, got {horizon} and {num_states}"
        )
    if not (0 <= slip <= 1 and 0 <= bait <= 1):
        raise ValueError(f"slip and bait must be in [0, 1], got {slip} and {bait}")
    places = jnp.arange(num_states)
    left = jax.nn.one_hot(jnp.maximum(places - 1, 0), num_states)
    right = jax.nn.one_hot(jnp.minimum(places + 1, num_states - 1), num_states)
    moves = jnp.stack([left, (1 - slip) * right + slip * left], axis=1)
    pays = jnp.zeros((num_states, 2)).at[0, 0].set(bait).at[-1, 1].set(1.0)
    return FiniteMDP(
        transitions=jnp.broadcast_to(moves, (horizon, *moves.shape)),
        rewards=jnp.broadcast_to(pays, (horizon, *pays.shape)),
        initial=left[0],
    )


def combination_lock(
    key: Key[Array, ""],
    *,
    horizon: int,
    num_actions: int,
    success: float = 0.97,
    bait: float = 0.05,
) -> FiniteMDP:
    """One right action per step, drawn at random; the last one pays 1.

    In state i < H the right action goes to i + 1 with probability `success`. Everything else goes
    to the absorbing last state, which pays `bait` per step. The right action in state H - 1 pays 1.

    Args:
      key: draws the combination.
      horizon: H >= 1.
      num_actions: A >= 1.
      success, bait: in [0, 1].
    Returns:
      FiniteMDP of H + 1 states that starts in state 0, the same at every step.
    Raises:
      ValueError: a size below 1, success or bait outside [0, 1].
    """
    if horizon < 1 or num_actions < 1:
        raise ValueError(f"horizon and num_actions must be >= 1, got {horizon} and {num_actions}")
    if not (0 <= success <= 1 and 0 <= bait <= 1):
        raise ValueError(f"success and bait must be in [0, 1], got {success} and {bait}")
    steps = jnp.arange(horizon)
    right = jax.random.randint(key, (horizon,), 0, num_actions)
    # First all actions fail; then the right ones succeed, except the last, which has no next state.
    moves = jnp.zeros((horizon + 1, num_actions, horizon + 1)).at[..., -1].set(1.0)
    on = steps[:-1], right[:-1]
    moves = moves.at[*on, -1].set(1.0 - success).at[*on, steps[1:]].set(success)
    pays = (
        jnp.zeros((horizon + 1, num_actions)).at[-1].set(bait).at[horizon - 1, right[-1]].set(1.0)
    )
    return FiniteMDP(
        transitions=jnp.broadcast_to(moves, (horizon, *moves.shape)),
        rewards=jnp.broadcast_to(pays, (horizon, *pays.shape)),
        initial=jax.nn.one_hot(0, horizon + 1),
    )
