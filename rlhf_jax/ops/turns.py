"""Credit for the turns of an episode: rewards per turn in, advantages per step out.

    rewards: [*B, N], one per turn, 0 for the turns that were not taken.
    turn_ids: [*B, T] int, the turn of each counted step: 0, 1, ..., N - 1, in order.
    mask: [*B, T] True where the step counts; values under False never matter, NaN included.

Only arrays come in, so a turn may be a message of a dialogue, a call of a tool or one action of a
table. Results are [*B, T], 0 under the mask and not whitened. Unequal shapes raise AssertionError
at trace time.
"""

from collections.abc import Callable

import chex
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.checks import NAN_OUTSIDE, check_ids, check_mask, check_range
from rlhf_jax.ops.masking import true_before
from rlhf_jax.ops.returns import gae, lambda_returns
from rlhf_jax.types import Scalar


def episode_credit(
    rewards: Float[Array, "*B N"],
    mask: Bool[Array, "*B T"],
    *,
    group_advantages: Callable[[Float[Array, "*B"]], Float[Array, "*B"]] | None = None,
) -> Float[Array, "*B T"]:
    """Episode credit: every step gets the total of all turns.

    A_t = f(R),   R = sum_n r_n.

    Args:
      group_advantages: f, from totals [*B, K] of K episodes of one prompt, such as
        `ops.groups.group_normalised_advantages`; then the leading axes are [*B, K]. None for R.
    Returns:
      [*B, T] advantages.
    Needs: rewards per turn.
    Reduces to: the advantage of a whole answer at N = 1.
    """
    check_mask(mask=mask)
    totals = jnp.sum(rewards, axis=-1)
    chex.assert_equal_shape([totals, mask[..., 0]])
    if group_advantages is not None:
        totals = group_advantages(totals)
    return jnp.where(mask, totals[..., None], 0.0)


def turn_credit(
    rewards: Float[Array, "*B N"],
    turn_ids: Int[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    *,
    gamma: Scalar = 1.0,
) -> Float[Array, "*B T"]:
    """Turn credit: every step gets the return from its turn on.

    A_t = G_n,   G_n = r_n + gamma G_{n+1},   n the turn of step t.

    Args:
      gamma: discount of one turn, in [0, 1]. May be traced.
    Returns:
      [*B, T] advantages.
    Needs: rewards per turn.
    Reduces to: `episode_credit` at N = 1, `lambda_returns` where every step is a turn.
    Reference: Sutton and Barto 2018, "Reinforcement Learning", Section 3.3, a turn for a step.
    """
    check_range("[0, 1]", gamma=gamma)
    zeros = jnp.zeros_like(rewards)
    returns = lambda_returns(rewards, zeros, zeros + gamma, zeros[..., 0], gae_lambda=1.0)
    return per_step(returns, turn_ids, mask)


def turn_gae(
    rewards: Float[Array, "*B N"],
    values: Float[Array, "*B T"],
    turn_ids: Int[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    *,
    gamma: Scalar,
    gae_lambda: Scalar,
) -> Float[Array, "*B T"]:
    """Generalised advantage estimation with turns as its steps.

    A_t = A_n,   A_n = delta_n + gamma lambda A_{n+1},   delta_n = r_n + gamma V_{n+1} - V_n.

    n is the turn of step t, and V_n the value before its first step; 0 after the last turn.

    Args:
      values: [*B, T] V of the state before each step; read where `turn_starts` is True.
      gamma: discount of one turn, in [0, 1]. May be traced.
      gae_lambda: in [0, 1]; 1 gives turn credit minus value. May be traced.
    Returns:
      [*B, T] advantages; where `turn_starts` is True, the critic's targets are
      `advantages + values`.
    Needs: rewards per turn, values.
    Reduces to: `gae` where every step is a turn, `turn_credit` at V = 0 and lambda = 1.
    Reference: Schulman et al. 2015, arXiv:1506.02438, Eq. 16, a turn for a step; values of whole
      utterances as in Zhou et al. 2024, arXiv:2402.19446.
    """
    check_range("[0, 1]", gamma=gamma, gae_lambda=gae_lambda)
    chex.assert_equal_shape([values, turn_ids, mask])
    turns = jnp.arange(rewards.shape[-1])
    first = turn_starts(turn_ids, mask)[..., None] & (turn_ids[..., None] == turns)  # [*B, T, N]
    turn_values = jnp.sum(jnp.where(first, values[..., None], 0.0), axis=-2)
    discounts = jnp.zeros_like(rewards) + gamma
    ends = jnp.zeros_like(turn_values[..., 0])
    taken = jnp.any(first, axis=-2)
    advantages = gae(rewards, turn_values, discounts, ends, gae_lambda=gae_lambda, mask=taken)
    return per_step(advantages, turn_ids, mask)


def turn_starts(turn_ids: Int[Array, "*B T"], mask: Bool[Array, "*B T"]) -> Bool[Array, "*B T"]:
    """[*B, T] True at the first counted step of each turn, the mask of a critic of turns."""
    check_ids(turn_ids=turn_ids)
    chex.assert_equal_shape([turn_ids, mask])
    before = true_before(mask)
    # Before the first counted step there is none: -1 reads place 0, and `before < 0` decides.
    previous = jnp.take_along_axis(turn_ids, jnp.maximum(before, 0), axis=-1)
    return mask & ((before < 0) | (previous != turn_ids))


def per_step(
    x: Float[Array, "*B N"], turn_ids: Int[Array, "*B T"], mask: Bool[Array, "*B T"]
) -> Float[Array, "*B T"]:
    """x of each counted step's turn: [*B, T], NaN where a counted step has no turn in [0, N)."""
    check_ids(turn_ids=turn_ids)
    check_mask(mask=mask)
    chex.assert_equal_shape([turn_ids, mask])
    chex.assert_equal_shape([x[..., 0], mask[..., 0]])
    turns = jnp.where(mask, turn_ids, 0)
    return jnp.where(mask, jnp.take_along_axis(x, turns, axis=-1, **NAN_OUTSIDE), 0.0)
