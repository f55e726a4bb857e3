"""Rewards of tokens from a model that reads an answer and writes the better one.

The model is run once on (prompt, answer, answer): its logits at step t have read the whole answer,
and y_<t again as what is written so far. u_t = argmax_v of them, the first of equals. Up to the
first step where u_t != y_t its greedy rewriting is the answer itself, so no decoding is needed.

Shared arguments and results, unless a function says otherwise:
  logits: [*B, T, A] of the rewriting model, unnormalised.
  actions: [*B, T] y_t in [0, A); any other integer agrees with nothing.
  agrees: [*B, T] u_t = y_t, as from `likeliest_agreement`.
  mask: [*B, T] True where the step counts, the stop token included.
  bonus, penalty: a and b >= 0, of a token. May be traced.
  by_length: divide by the number of counted steps, so that an answer's sum is in [-b, a].
Results are [*B, T] rewards, 0 where the mask is False; other steps are as if cut out. Unequal
shapes raise AssertionError at trace time.
"""

import chex
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.checks import check_ids, check_mask, check_range
from rlhf_jax.types import Scalar


def likeliest_agreement(
    logits: Float[Array, "*B T A"], actions: Int[Array, "*B T"]
) -> Bool[Array, "*B T"]:
    """True where the action is the likeliest one, the first of equals; in float32 or wider."""
    chex.assert_equal_shape_prefix([logits, actions], actions.ndim)
    check_ids(actions=actions)
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return jnp.argmax(wide, axis=-1) == actions


def correction_rewards(
    agrees: Bool[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    *,
    bonus: Scalar = 1.0,
    penalty: Scalar = 1.0,
    by_length: bool = True,
) -> Float[Array, "*B T"]:
    """Paid until the rewriting diverges, fined at each disagreement from there on.

    r_t = a 1[t < tau] - b 1[t >= tau and u_t != y_t],   tau = min {t : u_t != y_t}.

    Without `by_length` each further token that agrees is paid: the reward grows with the length.

    Needs: a rewriting model.
    Reference: Zhou et al. 2024, arXiv:2409.00162, Fig. 2.
    Departs: the values of a and b and any normalisation are not known from the text that was read.
    """
    agrees = _counted(agrees, mask, bonus, penalty)
    before = jnp.cumprod(agrees, axis=-1).astype(bool)
    return _paid(before, ~agrees, mask, bonus, penalty, by_length)


def agreement_rewards(
    agrees: Bool[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    *,
    bonus: Scalar = 1.0,
    penalty: Scalar = 1.0,
    by_length: bool = True,
) -> Float[Array, "*B T"]:
    """Every agreement is paid and every disagreement fined.

    r_t = a 1[u_t = y_t] - b 1[u_t != y_t].

    Needs: a rewriting model.
    Reduces to: `correction_rewards` where nothing agrees after the first disagreement.
    """
    agrees = _counted(agrees, mask, bonus, penalty)
    return _paid(agrees, ~agrees, mask, bonus, penalty, by_length)


def seq2seq_token_rewards(
    logits: Float[Array, "*B T A"],
    actions: Int[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    *,
    bonus: Scalar = 1.0,
    penalty: Scalar = 1.0,
    by_length: bool = True,
) -> Float[Array, "*B T"]:
    """`correction_rewards` of the logits; NaN at counted steps with a NaN among them."""
    agrees = likeliest_agreement(logits, actions)
    amounts = {"bonus": bonus, "penalty": penalty, "by_length": by_length}
    rewards = correction_rewards(agrees, mask, **amounts)
    return jnp.where(mask & jnp.isnan(logits).any(-1), jnp.nan, rewards)


def soft_correction_rewards(
    logits: Float[Array, "*B T A"],
    actions: Int[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    *,
    limit: Scalar,
    by_length: bool = True,
) -> Float[Array, "*B T"]:
    """How far the action is from the likeliest one.

    r_t = max(log pi(y_t) - max_v log pi(v), -c) + c.   In [0, c]: c where they agree.

    Args:
      limit: c > 0, nats.
    Needs: a rewriting model.
    Reduces to: `agreement_rewards` with bonus c and penalty 0, for logits times infinity.
    """
    chex.assert_equal_shape_prefix([logits, actions], actions.ndim)
    chex.assert_equal_shape([actions, mask])
    check_range("(0, inf)", limit=limit)
    check_mask(mask=mask)
    check_ids(actions=actions)
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    known = (actions >= 0) & (actions < logits.shape[-1])
    chosen = jnp.take_along_axis(wide, jnp.where(known, actions, 0)[..., None], axis=-1)[..., 0]
    gaps = jnp.where(known, chosen - jnp.max(wide, axis=-1), -limit)
    gaps = jnp.maximum(gaps, -limit) + limit
    return jnp.where(mask, gaps / _lengths(mask, by_length), 0.0)


def _counted(agrees: Array, mask: Array, bonus: Scalar, penalty: Scalar) -> Array:
    """Agreements, True where nothing counts, after the checks that the rules share."""
    chex.assert_equal_shape([agrees, mask])
    check_mask(agrees=agrees, mask=mask)
    check_range("[0, inf)", bonus=bonus, penalty=penalty)
    return agrees | ~mask


def _paid(
    good: Array, bad: Array, mask: Array, bonus: Scalar, penalty: Scalar, by_length: bool
) -> Array:
    rewards = jnp.where(good, bonus, 0.0) - jnp.where(bad, penalty, 0.0)
    return jnp.where(mask, rewards / _lengths(mask, by_length), 0.0)


def _lengths(mask: Array, by_length: bool) -> Array:
    """[*B, 1] number of counted steps, at least 1; ones without `by_length`."""
    lengths = jnp.maximum(jnp.sum(mask, axis=-1, keepdims=True), 1).astype(float)
    return lengths if by_length else jnp.ones_like(lengths)
