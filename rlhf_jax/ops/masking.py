"""Sums and means that padding cannot touch.

A mean travels as `Mean(total, weight)`, so that micro-batches and shards add up both parts and
divide once; a mean of means is a different number.
"""

from typing import NamedTuple

import chex
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Axis = int | tuple[int, ...] | None


class Mean(NamedTuple):
    """A mean on its way: total [*B] and weight [*B] >= 0, to be added before they are divided."""

    total: Float[Array, "*B"]
    weight: Float[Array, "*B"]

    def value(self) -> Float[Array, "*B"]:
        """total / weight, and 0 where the weight is 0."""
        empty = self.weight == 0
        return jnp.where(empty, 0.0, self.total) / jnp.where(empty, 1.0, self.weight)


def masked_sum(
    x: Float[Array, "*S"], mask: Bool[Array, "*S"], *, axis: Axis = None
) -> Float[Array, "..."]:
    """sum of x where the mask is True. What lies under False never matters, NaN included.

    Args:
      x: [*S].
      mask: [*S], same shape: losses never broadcast.
      axis: summed axes; None sums all.
    Returns:
      x's shape without `axis`.
    Raises:
      AssertionError: shapes differ (at trace time).
    """
    chex.assert_equal_shape([x, mask])
    return jnp.sum(jnp.where(mask, x, 0.0), axis=axis)


def masked_mean(
    x: Float[Array, "*S"], mask: Bool[Array, "*S"], *, axis: Axis = None
) -> Float[Array, "..."]:
    """Mean of x where the mask is True; 0 where nothing counts. Shapes as in `masked_sum`."""
    return Mean(masked_sum(x, mask, axis=axis), jnp.sum(mask, axis=axis, dtype=x.dtype)).value()


def weighted_mean(x: Float[Array, "*S"], weights: Float[Array, "*S"] | None = None) -> Mean:
    """sum_i w_i x_i and sum_i w_i over all axes, as a `Mean` of two scalars.

    Args:
      x: [*S] per-example losses or diagnostics.
      weights: [*S] >= 0, None for ones. Where a weight is 0, x never matters, NaN included.
    Raises:
      AssertionError: shapes differ (at trace time).
    """
    if weights is None:
        weights = jnp.ones_like(x)
    chex.assert_equal_shape([x, weights])
    return Mean(jnp.sum(jnp.where(weights > 0, x, 0.0) * weights), jnp.sum(weights))


def token_weights(
    mask: Bool[Array, "*B T"], weights: Float[Array, "*B"] | None = None
) -> Float[Array, "*B T"]:
    """Weight of each step in a token mean: m_t, times the weight of its example if there is one.

    Args:
      mask: [*B, T] True where the step counts.
      weights: [*B] >= 0 or None for ones.
    Returns:
      [*B, T] float32.
    """
    steps = mask.astype(jnp.float32)
    return steps if weights is None else steps * weights[..., None]


def keep_weighted(x: Float[Array, "*S"], weights: Float[Array, "*S"] | None) -> Float[Array, "*S"]:
    """x where its weight is positive, 0 elsewhere; None keeps all of x.

    Goes before a loss: a weight of 0 after it would still turn NaN or inf into a NaN gradient.

    Args:
      x: [*S] per-example log-probs or scores.
      weights: [*S] >= 0 or None.
    Returns:
      [*S].
    Raises:
      AssertionError: shapes differ (at trace time).
    """
    if weights is None:
        return x
    chex.assert_equal_shape([x, weights])
    return jnp.where(weights > 0, x, 0.0)


def whiten(
    x: Float[Array, "*S"],
    mask: Bool[Array, "*S"],
    *,
    weights: Float[Array, "*S"] | None = None,
    eps: float = 1e-8,
) -> Float[Array, "*S"]:
    """Zero mean, unit variance over every counted entry; 0 under the mask.

    (x - mean) / sqrt(var + eps), with Bessel's correction in var: sum_i w_i (x_i - mean)^2 over
    sum_i w_i - 1.

    Args:
      x: [*S], e.g. raw advantages [B, T].
      mask: [*S] True where the entry counts. With fewer than two the result is 0.
      weights: [*S] >= 0, how many times each entry counts; None for once. Where it is 0 the entry
        is under the mask.
      eps: added to the variance, > 0.
    Returns:
      [*S].
    Raises:
      AssertionError: shapes differ (at trace time).
    Reference: advantage normalisation of the TRL PPO trainer (masked, Bessel, eps 1e-8).
    """
    weights = mask.astype(x.dtype) if weights is None else jnp.where(mask, weights, 0.0)
    mean = weighted_mean(x, weights)
    centred = jnp.where(weights > 0, x - mean.value(), 0.0)
    variance = jnp.sum(weights * centred**2) / jnp.maximum(mean.weight - 1.0, 1.0)
    return centred / jnp.sqrt(variance + eps)
