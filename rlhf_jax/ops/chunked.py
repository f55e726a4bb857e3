"""Log-probabilities straight from hidden states, without [*B, T, V] logits in memory."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from rlhf_jax.checks import check_range, entries


def chunked_token_logps(
    hidden: Float[Array, "*B T d"],
    unembedding: Float[Array, "V d"],
    actions: Int[Array, "*B T"],
    *,
    chunk: int,
    softcap: float | None = None,
) -> Float[Array, "*B T"]:
    """Log-probability of each action under logits = hidden @ unembedding^T.

    log pi(a_t) = z_t[a_t] - logsumexp(z_t),   z_t[v] = sum_i hidden[t, i] unembedding[v, i],
    d log pi(a_t) / d z_t[v] = 1[v = a_t] - pi_t(v).

    With a soft cap c the logits are c tanh(z / c), with slope 1 - tanh(z / c)^2.

    Equal to `token_logps(hidden @ unembedding.T, actions)`, value and gradient, with logits for
    `chunk` positions of each row in memory at a time. The backward pass keeps the inputs and two
    numbers per position: the largest logit and the log of the normaliser above it. It computes the
    logits again, so a gradient costs four products with the table; the dense form costs three.

    T is cut, not B * T tokens: a batch axis that is split over devices stays as it is, and so does
    a vocabulary axis, where each device makes its own part of [*B, chunk, V].

    Args:
      hidden: [*B, T, d] float32 or bfloat16.
      unembedding: [V, d]; used in the dtype of `hidden`, as the transformer does.
      actions: [*B, T] in [0, V). Any other integer gives NaN.
      chunk: positions of each row at a time, >= 1, static; evened out over T. At most two arrays of
        [*B, chunk, V] float32 are in memory at once.
      softcap: c > 0, static; None for plain logits.
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
    if actions.shape[-1] == 0:
        return jnp.zeros(actions.shape, jnp.promote_types(hidden.dtype, jnp.float32))
    return _chunked(chunk, softcap, hidden, unembedding, actions)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _chunked(
    chunk: int, softcap: float | None, hidden: Array, unembedding: Array, actions: Array
) -> Array:
    return _forward(chunk, softcap, hidden, unembedding, actions)[0]


def _forward(chunk: int, softcap: float | None, hidden: Array, unembedding: Array, actions: Array):
    """Log-probs, and the arrays that the backward pass needs."""
    table = unembedding.astype(hidden.dtype)

    def one(_, part):
        states, actions = part
        logits = _logits(states, table, softcap)
        peak = jnp.max(logits, axis=-1, keepdims=True)
        log_sum = jnp.log(jnp.sum(jnp.exp(logits - peak), axis=-1, keepdims=True))
        chosen = entries(logits, actions=actions) - peak[..., 0]
        return None, (chosen - log_sum[..., 0], peak, log_sum)

    axis = actions.ndim - 1
    parts = _split(hidden, axis, chunk), _split(actions, axis, chunk)
    # A scan, so that the logits of one chunk are freed before the next.
    _, (logps, peak, log_sum) = jax.lax.scan(one, None, parts)
    logps = _join(logps, axis, actions.shape[-1])
    return logps, (hidden, unembedding, actions, peak, log_sum)


def _backward(chunk: int, softcap: float | None, saved: tuple, cotangents: ArrayLike):
    """Recomputes the logits and adds up the gradient of one chunk after another."""
    hidden, unembedding, actions, peak, log_sum = saved
    table = unembedding.astype(hidden.dtype)
    cotangents = jnp.asarray(cotangents)
    wide = cotangents.dtype

    def one(total, part):
        states, actions, cotangents, peak, log_sum = part
        logits = _logits(states, table, softcap)
        probs = jnp.exp(logits - peak - log_sum)
        weights = cotangents[..., None]
        # A comparison: the gradient of a gather would be a scatter into the whole chunk.
        ids = jax.lax.broadcasted_iota(actions.dtype, logits.shape, actions.ndim)
        slopes = jnp.where(ids == actions[..., None], weights, 0.0) - weights * probs
        slopes = slopes if softcap is None else slopes * (1 - (logits / softcap) ** 2)
        to_states = jnp.einsum("...v,vd->...d", slopes, table.astype(wide))
        lead = tuple(range(actions.ndim))
        to_table = jax.lax.dot_general(states.astype(wide), slopes, ((lead, lead), ((), ())))
        return total + to_table, to_states.astype(hidden.dtype)

    axis = actions.ndim - 1
    parts = *(_split(x, axis, chunk) for x in (hidden, actions, cotangents)), peak, log_sum
    # [d, V]: this way round the products read the slopes as they lie in memory.
    total, to_hidden = jax.lax.scan(one, jnp.zeros(unembedding.shape[::-1], wide), parts)
    to_hidden = _join(to_hidden, axis, actions.shape[-1])
    return to_hidden, total.T.astype(unembedding.dtype), None


_chunked.defvjp(_forward, _backward)


def _logits(states: Array, table: Array, softcap: float | None) -> Array:
    """[*B, C, V], accumulated in float32 at least."""
    wide = jnp.promote_types(states.dtype, jnp.float32)
    logits = jnp.einsum("...d,vd->...v", states, table, preferred_element_type=wide)
    return logits if softcap is None else softcap * jnp.tanh(logits / softcap)


def _split(x: Array, axis: int, chunk: int) -> Array:
    """[*B, T, ...] -> [N, *B, C, ...] with C <= chunk as even as possible, zeros at the end."""
    length = x.shape[axis]
    # Rounded up twice: as few chunks as `chunk` allows, then all of the same size.
    count = -(-length // chunk)
    size = -(-length // count)
    x = jnp.pad(x, [(0, count * size - length) if i == axis else (0, 0) for i in range(x.ndim)])
    x = x.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :])
    return jnp.moveaxis(x, axis, 0)


def _join(x: Array, axis: int, length: int) -> Array:
    """[N, *B, C, ...] -> [*B, T, ...]: the inverse of `_split`."""
    x = jnp.moveaxis(x, 0, axis)
    x = x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])
    return jax.lax.slice_in_dim(x, 0, length, axis=axis)
