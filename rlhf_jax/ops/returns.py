"""From rewards to advantages and returns. Nothing here whitens; see `ops.masking.whiten`."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def gae(
    rewards: Float[Array, "*B T"],
    values: Float[Array, "*B T"],
    discounts: Float[Array, "*B T"],
    last_values: Float[Array, "*B"],
    *,
    gae_lambda: float | Float[Array, ""],
) -> Float[Array, "*B T"]:
    """Generalised advantage estimation, raw.

    delta_t = r_t + d_t V_{t+1} - V_t,   A_t = delta_t + d_t lambda A_{t+1},   A_T = 0.

    Args:
      rewards: [*B, T] reward received on leaving state t.
      values: [*B, T] V of the state before action t.
      discounts: [*B, T] d_t: gamma while the episode goes on after step t, 0 once it has ended.
      last_values: [*B] V_T, the bootstrap value after the last step.
      gae_lambda: in [0, 1]; 1 gives return minus value, 0 the one-step error. May be traced.
    Returns:
      [*B, T] advantages; returns are `advantages + values`.
    Raises:
      AssertionError: shapes differ (at trace time).
    Reference: Schulman et al. 2015, arXiv:1506.02438, Eq. 16.
    """
    chex.assert_equal_shape([rewards, values, discounts])
    chex.assert_equal_shape([rewards[..., 0], last_values])
    next_values = jnp.concatenate([values[..., 1:], last_values[..., None]], axis=-1)
    deltas = rewards + discounts * next_values - values

    def backwards(advantage, step):
        delta, discount = step
        advantage = delta + discount * gae_lambda * advantage
        return advantage, advantage

    steps = (jnp.moveaxis(deltas, -1, 0), jnp.moveaxis(discounts, -1, 0))
    _, advantages = jax.lax.scan(backwards, jnp.zeros_like(last_values), steps, reverse=True)
    return jnp.moveaxis(advantages, 0, -1)


def last_step(mask: Bool[Array, "*B T"]) -> Bool[Array, "*B T"]:
    """[*B, T] True at the last counted step of each row; all False in an empty row."""
    later = jnp.flip(jnp.cumsum(jnp.flip(mask, -1), axis=-1, dtype=jnp.int32), -1)
    return mask & (later == 1)


def answer_rewards(
    scores: Float[Array, "*B"],
    token_kl: Float[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    *,
    beta: float | Float[Array, ""],
) -> Float[Array, "*B T"]:
    """Rewards per step of an answer that is scored once, with a KL penalty at each step.

    r_t = -beta kl_t + 1[t is the last counted step] R.

    Args:
      scores: [*B] R, from a reward model or judge.
      token_kl: [*B, T] an estimate of KL(pi || pi_ref) at each step, in nats, e.g. `kl.k1`.
      mask: [*B, T] True where the step counts.
      beta: KL weight >= 0. May be traced.
    Returns:
      [*B, T], 0 where the mask is False.
    Raises:
      AssertionError: shapes differ (at trace time).
    Reference: Ziegler et al. 2019, arXiv:1909.08593, Eq. 2.
    Departs: the TRL trainer pays R one step after the last token where a padding slot exists; here
      R is always paid with the last counted token, so padding never changes an advantage.
    """
    chex.assert_equal_shape([token_kl, mask])
    chex.assert_equal_shape([token_kl[..., 0], scores])
    final = jnp.where(last_step(mask), scores[..., None], 0.0)
    return final - beta * jnp.where(mask, token_kl, 0.0)


def answer_discounts(
    mask: Bool[Array, "*B T"], *, gamma: float | Float[Array, ""] = 1.0
) -> Float[Array, "*B T"]:
    """gamma while another counted step follows, 0 at the last one and on padding: [*B, T].

    The counted steps of a row must be contiguous.
    """
    follows = jnp.concatenate([mask[..., 1:], jnp.zeros_like(mask[..., :1])], axis=-1)
    return gamma * (mask & follows).astype(jnp.float32)
