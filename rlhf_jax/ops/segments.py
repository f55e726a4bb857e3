"""Rewards of segments: several heads, each on its own segmentation of an answer, as token rewards.

A head scores the sub-sentences, the sentences or the whole of an answer. Its rewards are paid at
the last tokens of its segments, and the heads are summed with weights:

    r_t = sum_k w_k sum_j 1[t = T^k_j] R_k(j).

The KL penalty of each token is not in it; `algos.ppo.make_token_batch` adds it.

    ends: [*B, S] int, the index T_j of the last token of each segment.
    mask: [*B, S] True where there is a segment; what stands under False never matters.

Reference: Wu et al. 2023, arXiv:2306.01693.
"""

from collections.abc import Mapping
from typing import NamedTuple

import chex
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.checks import check_ids, check_mask, check_range
from rlhf_jax.ops.masking import centred, true_before
from rlhf_jax.ops.returns import last_step
from rlhf_jax.types import Scalar


class SegmentRewards(NamedTuple):
    """What one head gives for a batch of answers.

    ends, mask: as above. rewards: [*B, S] of each segment, before the weight of the head.
    """

    ends: Int[Array, "*B S"]
    rewards: Float[Array, "*B S"]
    mask: Bool[Array, "*B S"]


def place_rewards(head: SegmentRewards, *, length: int) -> Float[Array, "*B T"]:
    """One head's rewards at the last tokens of its segments, 0 elsewhere: [*B, length].

    r_t = sum_j 1[t = T_j] R_j.

    Segments that end at the same token are summed, so that none is lost. A segment that ends
    outside the answer makes its reward NaN, at the token nearest to it.

    Departs: of segments that the length limit cuts at one token, the authors' code keeps one.
    """
    check_ids(ends=head.ends)
    check_mask(mask=head.mask)
    check_range("[1, inf)", length=length)
    chex.assert_equal_shape(head)
    places = jnp.where(head.mask, head.ends, 0)
    inside = (places >= 0) & (places < length)
    rewards = jnp.where(head.mask, jnp.where(inside, head.rewards, jnp.nan), 0.0)
    *lead, size = rewards.shape
    flat = rewards.reshape(-1, size)
    at = (jnp.arange(flat.shape[0])[:, None], jnp.clip(places, 0, length - 1).reshape(-1, size))
    placed = jnp.zeros((flat.shape[0], length), flat.dtype).at[at].add(flat)
    return placed.reshape(*lead, length)


def token_rewards(
    heads: Mapping[str, SegmentRewards], weights: Mapping[str, Scalar], *, length: int
) -> Float[Array, "*B T"]:
    """The weighted sum of all heads: [*B, length].

    Args:
      heads: name -> rewards, at least one; each head may have its own number of segments.
      weights: the same names -> w_k, any real; may be traced.
    Raises:
      ValueError: other names, or none.
    """
    if not heads or heads.keys() != weights.keys():
        raise ValueError(
            f"weights must be those of the heads, {sorted(heads)}, got {sorted(weights)}"
        )
    check_range("(-inf, inf)", **weights)
    parts = [weights[name] * place_rewards(head, length=length) for name, head in heads.items()]
    chex.assert_equal_shape(parts)
    return sum(parts[1:], start=parts[0])


def paid_at_the_end(
    rewards: Float[Array, "*B T"], mask: Bool[Array, "*B T"]
) -> Float[Array, "*B T"]:
    """The same return, all of it at the last counted step: the holistic baseline."""
    chex.assert_equal_shape([rewards, mask])
    total = jnp.sum(jnp.where(mask, rewards, 0.0), axis=-1, keepdims=True)
    return jnp.where(last_step(mask), total, 0.0)


def level_changes(
    levels: Float[Array, "*B S"], mask: Bool[Array, "*B S"], *, start: Scalar = 0.0
) -> Float[Array, "*B S"]:
    """Rewards of segments from one number for each prefix, such as the toxicity of what was said.

    R_j = c_{j-1} - c_j,   c_0 = start.

    They telescope: sum_j R_j = start - c_S, so with start = 0 the return is -c of the whole answer,
    the holistic reward 1 - c less 1.

    Args:
      levels: [*B, S] c_j >= 0, a cost of the first j segments; those without a segment are skipped.
      start: c_0, the cost of an empty answer.
    """
    check_mask(mask=mask)
    chex.assert_equal_shape([levels, mask])
    levels = jnp.where(mask, levels, 0.0)
    before = true_before(mask)
    previous = jnp.take_along_axis(levels, jnp.maximum(before, 0), axis=-1)
    previous = jnp.where(before < 0, start, previous)
    return jnp.where(mask, previous - levels, 0.0)


def sign_rewards(scores: Float[Array, "*B S"]) -> Float[Array, "*B S"]:
    """+1 for a segment without the error, -1 for one with it or on the boundary; NaN stays.

    R = 1 if s > 0 else -1.

    Args:
      scores: [*B, S] s, logit of "no error" minus logit of "error".
    """
    return jnp.where(jnp.isnan(scores), jnp.nan, jnp.where(scores > 0, 1.0, -1.0))


def scaled_rewards(
    rewards: Float[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    *,
    power: float = 0.5,
    eps: float = 1e-8,
) -> Float[Array, "*B T"]:
    """Rewards of a batch at a common scale, their mean kept; 0 under the mask.

    mean + (r - mean) / (var + eps)^power over the counted steps, with Bessel's correction in var.

    It comes after the KL penalty is added, so that beta and the weights of heads matter relative to
    each other only.

    Args:
      power: 1/2 divides by the standard deviation; 1/4 by its root, as the authors' code does,
        which gives a standard deviation as variance.
      eps: added to the variance, > 0.
    Reduces to: `whiten` plus the mean at power = 1/2.
    Departs: power = 1/2.
    """
    check_mask(mask=mask)
    check_range("(0, 1/2]", power=power)
    check_range("(0, inf)", eps=eps)
    chex.assert_equal_shape([rewards, mask])
    rewards = jnp.where(mask, rewards, 0.0)
    counted = mask.astype(rewards.dtype)
    away = centred(rewards, counted)
    mean = jnp.sum(rewards) / jnp.maximum(jnp.sum(counted), 1.0)
    variance = jnp.sum(away**2) / jnp.maximum(jnp.sum(counted) - 1.0, 1.0)
    return jnp.where(mask, mean + away / (variance + eps) ** power, 0.0)
