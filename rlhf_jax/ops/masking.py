"""Sums and means that padding cannot change.

A mean travels as `Mean(total, weight)`: micro-batches and shards add up both parts and divide once.
A mean of means is a different number.

Shared arguments and results, unless a function says otherwise:
  x: [*S] per-example or per-step numbers.
  losses: [*B, T] one per token.
  mask: True where an entry counts, m; [*S] for x, [*B, T] for losses.
  weights: >= 0, w, None for ones; [*S] for x, [*B] of each answer for losses. A negative weight
    raises ValueError if it is known and counts as 0 if it is traced.
  axis: axes of the sum or mean; None takes all.
An entry with mask False or weight 0 never matters, NaN included. Nothing broadcasts: unequal shapes
raise AssertionError at trace time. An aggregation of losses returns a `Mean` of two scalars. An
answer without counted tokens adds 0 to its total and w to its weight, as in TRL; weight 0 leaves
the answer out.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from rlhf_jax.checks import check_entries, check_mask, check_range
from rlhf_jax.types import Scalar

Axis = int | tuple[int, ...] | None


class Mean(NamedTuple):
    """A mean before its division: total [*B] and weight [*B] >= 0, which may be added up first."""

    total: Float[Array, "*B"]
    weight: Float[Array, "*B"]

    def value(self) -> Float[Array, "*B"]:
        """total / weight, and 0 where the weight is 0."""
        # Two `where`s: 0 / 0 in the unused branch would make the gradient NaN, see
        # https://docs.jax.dev/en/latest/faq.html#gradients-contain-nan-where-using-where
        empty = self.weight == 0
        return jnp.where(empty, 0.0, self.total) / jnp.where(empty, 1.0, self.weight)

    def __float__(self) -> float:
        """The value of a mean of scalars as a Python number."""
        return float(self.value())


def masked_sum(
    x: Float[Array, "*S"], mask: Bool[Array, "*S"], *, axis: Axis = None
) -> Float[Array, "..."]:
    """Sum of x over `axis` where the mask is True."""
    chex.assert_equal_shape([x, mask])
    check_mask(mask=mask)
    # Not x * mask: NaN times 0 is NaN.
    return jnp.sum(jnp.where(mask, x, 0.0), axis=axis)


def masked_mean(
    x: Float[Array, "*S"], mask: Bool[Array, "*S"], *, axis: Axis = None
) -> Float[Array, "..."]:
    """Mean of x over `axis` where the mask is True; 0 where nothing counts."""
    return Mean(masked_sum(x, mask, axis=axis), jnp.sum(mask, axis=axis, dtype=x.dtype)).value()


def weighted_mean(x: Float[Array, "*S"], weights: Float[Array, "*S"] | None = None) -> Mean:
    """sum_i w_i x_i and sum_i w_i over all axes, as a `Mean` of two scalars."""
    weights = jnp.ones_like(x) if weights is None else _checked_weights(x, weights)
    return Mean(jnp.sum(keep_weighted(x, weights) * weights), jnp.sum(weights))


def token_weights(
    mask: Bool[Array, "*B T"], weights: Float[Array, "*B"] | None = None
) -> Float[Array, "*B T"]:
    """Weight of each step in a token mean: [*B, T] float32, m_t times the weight of its answer."""
    check_mask(mask=mask)
    steps = mask.astype(jnp.float32)
    return steps if weights is None else steps * _checked_weights(mask[..., 0], weights)[..., None]


def token_mean(
    losses: Float[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    weights: Float[Array, "*B"] | None = None,
) -> Mean:
    """Token mean: every counted token weighs the same, so a long answer weighs more.

    sum_bt w_b m_bt l_bt / sum_bt w_b m_bt.

    TRL's loss type `dapo` if the parts of all micro-batches and devices are added before the
    division; its `bnpo` if each micro-batch is divided by its own tokens first.

    Needs: token losses.
    Reduces to: `sequence_mean_of_token_mean` where all answers have one length.
    Reference: Yu et al. 2025, arXiv:2503.14476, Section 3.3 (token-level loss of DAPO).
    """
    answers = _answer_weights(losses, mask, weights)
    return weighted_mean(losses, token_weights(mask, answers))


def sequence_mean(
    losses: Float[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    weights: Float[Array, "*B"] | None = None,
) -> Mean:
    """Sum over the tokens of an answer, mean over the answers.

    sum_b w_b (sum_t m_bt l_bt) / sum_b w_b.

    The aggregation of REINFORCE and RLOO: its gradient is that of the answer's summed log-prob.
    TRL's `dr_grpo` is this divided by a constant, and its `luspo` is this where every token carries
    the loss of its whole answer.

    Needs: token losses.
    Reduces to: `constant_denominator` at length = 1.
    Reference: Ahmadian et al. 2024, arXiv:2402.14740 (an answer as one action).
    """
    answers = _answer_weights(losses, mask, weights)
    return weighted_mean(masked_sum(losses, mask, axis=-1), answers)


def sequence_mean_of_token_mean(
    losses: Float[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    weights: Float[Array, "*B"] | None = None,
) -> Mean:
    """Token mean of each answer, then the mean over answers: every answer weighs the same.

    sum_b w_b (sum_t m_bt l_bt / max(1, sum_t m_bt)) / sum_b w_b.

    TRL's loss type `grpo`: the tokens of a short answer weigh more than those of a long one.

    Needs: token losses.
    Reduces to: `token_mean` where all answers have one length.
    Reference: Shao et al. 2024, arXiv:2402.03300, Section 4.1.1 (the 1 / |o_i| of GRPO).
    """
    answers = _answer_weights(losses, mask, weights)
    lengths = jnp.maximum(jnp.sum(mask, axis=-1, dtype=losses.dtype), 1.0)
    return weighted_mean(masked_sum(losses, mask, axis=-1) / lengths, answers)


def constant_denominator(
    losses: Float[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    weights: Float[Array, "*B"] | None = None,
    *,
    length: int | Scalar,
) -> Mean:
    """Sum over all tokens, divided by the same constant for every answer (Dr. GRPO).

    sum_bt w_b m_bt l_bt / (length * sum_b w_b).

    TRL's loss type `dr_grpo`, with `length` its max_completion_length.

    Args:
      length: tokens of the longest answer allowed, > 0; the same for every batch. May be traced.
    Needs: token losses.
    Reduces to: `sequence_mean` at length = 1.
    Reference: Liu et al. 2025, arXiv:2503.20783, Section 3.2.
    """
    check_range("(0, inf)", length=length)
    total, weight = sequence_mean(losses, mask, weights)
    return Mean(total, weight * length)


def _answer_weights(
    losses: Float[Array, "*B T"], mask: Bool[Array, "*B T"], weights: Float[Array, "*B"] | None
) -> Float[Array, "*B"]:
    """[*B] weights or ones, in the dtype of the losses, after a check of the shapes."""
    chex.assert_equal_shape([losses, mask])
    if weights is None:
        return jnp.ones(losses.shape[:-1], losses.dtype)
    return _checked_weights(losses[..., 0], weights)


def _checked_weights(x: Shaped[Array, "*S"], weights: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Weights of x: a known negative one raises, a traced negative one becomes 0."""
    chex.assert_equal_shape([x, weights])
    check_entries("[0, inf)", weights=weights)
    return jnp.where(weights < 0, 0.0, weights)


def keep_weighted(x: Float[Array, "*S"], weights: Float[Array, "*S"] | None) -> Float[Array, "*S"]:
    """x where its weight is positive, 0 elsewhere; None keeps all of x.

    It goes before a loss: after it, weight 0 times an infinite gradient would be NaN.
    """
    if weights is None:
        return x
    return jnp.where(_checked_weights(x, weights) > 0, x, 0.0)


def centred(
    x: Float[Array, "*S"], weights: Float[Array, "*S"], *, axis: Axis = None
) -> Float[Array, "*S"]:
    """x minus its weighted mean over `axis`; exactly 0 for equal numbers, and for weight 0."""
    weights = _checked_weights(x, weights)
    counted = weights > 0
    # The mean of differences from one of the numbers rounds on the scale of their spread. The mean
    # of the numbers themselves would leave a rounding error that whitening amplifies.
    highest = jnp.max(jnp.where(counted, x, -jnp.inf), axis=axis, keepdims=True)
    away = jnp.where(counted, x - jax.lax.stop_gradient(highest), 0.0)
    total, weight = (jnp.sum(y, axis=axis, keepdims=True) for y in (away * weights, weights))
    return jnp.where(counted, away - Mean(total, weight).value(), 0.0)


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

    The result is 0 with fewer than two counted entries, and where all are equal.

    Args:
      weights: [*S] >= 0, how many times each entry counts; None for once.
      eps: added to the variance, > 0.
    Reference: advantage normalisation of the TRL PPO trainer (masked, Bessel, eps 1e-8).
    """
    check_mask(mask=mask)
    check_range("(0, inf)", eps=eps)
    weights = mask.astype(x.dtype) if weights is None else jnp.where(mask, weights, 0.0)
    away = centred(x, weights)
    variance = jnp.sum(weights * away**2) / jnp.maximum(jnp.sum(weights) - 1.0, 1.0)
    return away / jnp.sqrt(variance + eps)


def true_before(mask: Bool[Array, "*B T"]) -> Int[Array, "*B T"]:
    """[*B, T] the last place before each place where the mask is True, -1 where there is none."""
    check_mask(mask=mask)
    places = jnp.where(mask, jnp.arange(mask.shape[-1], dtype=jnp.int32), -1)
    latest = jax.lax.cummax(places, axis=mask.ndim - 1)
    # One place later: "before" leaves out the place itself.
    return jnp.concatenate([jnp.full_like(latest[..., :1], -1), latest[..., :-1]], axis=-1)
