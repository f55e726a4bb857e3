"""Log-probabilities straight from hidden states, without [*B, T, V] logits in memory."""

from collections.abc import Callable
from functools import partial
from math import gcd, prod
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from rlhf_jax.checks import check_range, entries


class Chunks(NamedTuple):
    """Static; see `chunked_token_logps`."""

    chunk: int
    softcap: float | None
    ways: tuple[int, int]
    whole: Callable[[Array], Array]

    def table(self, unembedding: Array, hidden: Array) -> Array:
        """The table as the products read it."""
        return self.whole(unembedding.astype(hidden.dtype))


def unsplit(table: Array) -> Array:
    """The table as it is."""
    return table


def chunked_token_logps(
    hidden: Float[Array, "*B T d"],
    unembedding: Float[Array, "V d"],
    actions: Int[Array, "*B T"],
    *,
    chunk: int,
    softcap: float | None = None,
    ways: tuple[int, int] = (1, 1),
    whole: Callable[[Array], Array] = unsplit,
) -> Float[Array, "*B T"]:
    """Log-probability of each action under logits = hidden @ unembedding^T.

    log pi(a_t) = z_t[a_t] - logsumexp(z_t),   z_t[v] = sum_i hidden[t, i] unembedding[v, i],
    d log pi(a_t) / d z_t[v] = 1[v = a_t] - pi_t(v).

    With a soft cap c the logits are c tanh(z / c), with slope 1 - tanh(z / c)^2.

    Equal to `token_logps(hidden @ unembedding.T, actions)`, value and gradient, with the logits of
    `chunk` tokens in memory at a time. The backward pass keeps the inputs and two numbers per
    token: the largest logit and the log of the normaliser above it. It computes the logits again,
    so a gradient costs four products with the table. If one chunk holds all tokens, it keeps their
    logits, and a gradient costs three.

    Devices that split the rows or positions cut their own tokens, and each device of a split
    vocabulary makes its own part of the logits: no hidden state is moved.

    Args:
      hidden: [*B, T, d] float32 or bfloat16.
      unembedding: [V, d]; used in the dtype of `hidden`, as the transformer does.
      actions: [*B, T] in [0, V). Any other integer gives NaN.
      chunk: tokens of each device at a time, >= 1, static; evened out over all of them. At most two
        arrays of [chunk, V] float32 are in memory at once.
      softcap: c > 0, static; None for plain logits.
      ways: devices that split the first axis, and those that split T. An axis that they do not
        divide is taken as split over their common divisor.
      whole: applied to the table before the chunks. Where devices share its features, it gathers
        them once and not for each chunk.
    Returns:
      [*B, T] float32 nats (float64 from float64), <= 0. Products accumulate in float32, and so
      does the gradient of the table over the chunks. No forward-mode derivative.
    Raises:
      AssertionError: leading shapes or feature sizes differ (at trace time).
    """
    check_range("[1, inf)", chunk=chunk)
    if softcap is not None:
        check_range("(0, inf)", softcap=softcap)
    chex.assert_equal_shape_prefix([hidden, actions], actions.ndim)
    chex.assert_axis_dimension(unembedding, 1, hidden.shape[-1])
    if actions.size == 0:
        return jnp.zeros(actions.shape, jnp.promote_types(hidden.dtype, jnp.float32))
    rows = actions.shape[0] if actions.ndim > 1 else 1
    ways = gcd(ways[0], rows), gcd(ways[1], actions.shape[-1])
    return _chunked(Chunks(chunk, softcap, ways, whole), hidden, unembedding, actions)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _chunked(cut: Chunks, hidden: Array, unembedding: Array, actions: Array) -> Array:
    return _forward(cut, hidden, unembedding, actions)[0]


def _forward(cut: Chunks, hidden: Array, unembedding: Array, actions: Array):
    """Log-probs, and the arrays that the backward pass needs."""
    table = cut.table(unembedding, hidden)
    parts = _split(cut, hidden, actions.ndim), _split(cut, actions, actions.ndim)
    alone = len(parts[0]) == 1

    def one(_, part):
        states, actions = part
        logits = _logits(states, table, cut.softcap)
        peak = jnp.max(logits, axis=-1, keepdims=True)
        log_sum = jnp.log(jnp.sum(jnp.exp(logits - peak), axis=-1, keepdims=True))
        chosen = entries(logits, actions=actions) - peak[..., 0]
        return None, (chosen - log_sum[..., 0], peak, log_sum, logits if alone else None)

    # A scan, so that the logits of one chunk are freed before the next.
    _, (logps, *kept) = jax.lax.scan(one, None, parts, unroll=alone)
    return _join(cut, logps, actions.shape), (hidden, unembedding, actions, *kept)


def _backward(cut: Chunks, saved: tuple, cotangents: ArrayLike):
    """Adds up the gradient of one chunk after another."""
    hidden, unembedding, actions, peak, log_sum, logits = saved
    table = cut.table(unembedding, hidden)
    cotangents = jnp.asarray(cotangents)

    def one(total, part):
        states, actions, cotangents, peak, log_sum, logits = part
        logits = _logits(states, table, cut.softcap) if logits is None else logits
        probs = jnp.exp(logits - peak - log_sum)
        weights = cotangents[..., None]
        # A comparison: the gradient of a gather would be a scatter into the whole chunk.
        ids = jax.lax.broadcasted_iota(actions.dtype, logits.shape, actions.ndim)
        slopes = jnp.where(ids == actions[..., None], weights, 0.0) - weights * probs
        slopes = slopes if cut.softcap is None else slopes * (1 - (logits / cut.softcap) ** 2)
        slopes = slopes.astype(hidden.dtype)
        to_states = jnp.einsum("wcv,vd->wcd", slopes, table)
        # [d, V]: this way round the product reads the slopes as they lie in memory. Each device has
        # its own sum, and all sums are added once, at the end.
        to_table = jnp.einsum("wcd,wcv->wdv", states, slopes, preferred_element_type=total.dtype)
        return total + to_table, to_states

    parts = (_split(cut, x, actions.ndim) for x in (hidden, actions, cotangents))
    start = jnp.zeros((prod(cut.ways), *unembedding.shape[::-1]), cotangents.dtype)
    parts = *parts, peak, log_sum, logits
    total, to_hidden = jax.lax.scan(one, start, parts, unroll=len(peak) == 1)
    to_table = jnp.sum(total, axis=0).T.astype(unembedding.dtype)
    return _join(cut, to_hidden, hidden.shape), to_table, None


_chunked.defvjp(_forward, _backward)


def _logits(states: Array, table: Array, softcap: float | None) -> Array:
    """[W, C, V], accumulated in float32 at least."""
    wide = jnp.promote_types(states.dtype, jnp.float32)
    logits = jnp.einsum("wcd,vd->wcv", states, table, preferred_element_type=wide)
    return logits if softcap is None else softcap * jnp.tanh(logits / softcap)


def _split(cut: Chunks, x: Array, axes: int) -> Array:
    """[*B, T, ...] with `axes` of tokens -> [N, W, C, ...] for W devices, zeros at the end.

    C <= chunk, as even as possible.
    """
    (rows, columns), rest = cut.ways, x.shape[axes:]
    x = x.reshape(rows, -1, columns, x.shape[axes - 1] // columns, *rest)
    x = jnp.moveaxis(x, 2, 1).reshape(rows * columns, -1, *rest)
    # Rounded up twice: as few chunks as `chunk` allows, then all of the same size.
    count = -(-x.shape[1] // cut.chunk)
    size = -(-x.shape[1] // count)
    x = jnp.pad(x, [(0, count * size - x.shape[1] if i == 1 else 0) for i in range(x.ndim)])
    return jnp.moveaxis(x.reshape(len(x), count, size, *rest), 1, 0)


def _join(cut: Chunks, x: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `_split`; `shape` is [*B, T, ...]."""
    (rows, columns), rest = cut.ways, x.shape[3:]
    x = jnp.moveaxis(x, 0, 1).reshape(rows * columns, -1, *rest)
    length = shape[len(shape) - len(rest) - 1] // columns
    local = prod(shape) // (prod(rest) * rows * columns)
    x = jax.lax.slice_in_dim(x, 0, local, axis=1)
    x = x.reshape(rows, columns, -1, length, *rest)
    return jnp.moveaxis(x, 1, 2).reshape(shape)
