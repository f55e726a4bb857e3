"""Attention within rows in memory linear in their length, and the mask that all forms share.

Axes as in `models.layers`; n blocks of b tokens. Blocks of scores [b, b] are computed one after the
other and never kept: with p = exp(s - z) and z = logsumexp(s) over the keys that a query sees,

    out = sum_m p_m v_m,   d v_m = p_m d out,   d s_m = p_m (v_m . d out - out . d out),

so the backward pass needs the queries, keys, values, `out` and z. The forward pass meets one block
of keys after another and rescales its sums when a larger score appears. Blocks in which all keys
come after all queries are skipped. On a CPU this is also faster than the dense form: a block stays
in its cache.

References: Rabe and Staats 2021, arXiv:2112.05682; Dao et al. 2022, arXiv:2205.14135.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.models.layers import softcap

BLOCK = 128  # tokens
MASKED_SCORE = -1e30  # finite: where everything is masked, weights are uniform, not NaN
SAVED = "attention"  # the name under which remat policies keep `out` and z


class Tokens(NamedTuple):
    """What decides which tokens of a row attend to which.

    segments: 0 is padding. positions: 0, 1, 2, ... in each segment. columns: places in the row.
    first: the first position of its segment that a token sees; None: every token sees them all.
    """

    segments: Int[Array, "*n B L"]
    positions: Int[Array, "*n B L"]
    columns: Int[Array, "*n B L"]
    first: Int[Array, "*n B L"] | None


def attention_mask(query: Tokens, key: Tokens) -> Bool[Array, "B L M"]:
    """[b, l, m] is True if token l attends to token m.

    That is: same segment, not padding, m not after l, and not before the first position it sees.
    """

    def pairs(compare, left: Array, right: Array) -> Array:
        return compare(left[:, :, None], right[:, None, :])

    mask = pairs(jnp.equal, query.segments, key.segments) & (key.segments[:, None, :] > 0)
    mask &= pairs(jnp.greater_equal, query.columns, key.columns)
    if query.first is None:
        return mask
    return mask & pairs(jnp.less_equal, query.first, key.positions)


class Blocks(NamedTuple):
    """Static: the soft cap, tokens of a block, whether the queries of a row stay in one block."""

    cap: float | None
    size: int
    whole: bool


def blockwise(
    query: Float[Array, "B L G R h"],
    key: Float[Array, "B L G h"],
    value: Float[Array, "B L G h"],
    tokens: Tokens,
    *,
    cap: float | None = None,
    size: int = BLOCK,
    whole: bool = False,
) -> Float[Array, "B L G R h"]:
    """softmax(q k^T) v over the keys that each query sees.

    Args:
      query: rotated and scaled.
      cap: soft cap of the scores.
      size: tokens of a block at most; evened out over L.
      whole: the queries of a row stay in one block, for a mesh that splits them; keys are cut, and
        no block is skipped.
    Returns:
      In the dtype of the queries; scores and sums are float32 (float64 from float64). Padding sees
      nothing and gets a mean of values, without gradient.
    """
    count = -(-query.shape[1] // size)
    return _blockwise(Blocks(cap, -(-query.shape[1] // count), whole), query, key, value, tokens)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _blockwise(cut: Blocks, query: Array, key: Array, value: Array, tokens: Tokens) -> Array:
    return _forward(cut, query, key, value, tokens)[0]


def _forward(cut: Blocks, query: Array, key: Array, value: Array, tokens: Tokens):
    """The mixed values, and the arrays that the backward pass needs."""
    queries, keys, values, rows, columns = _cut(cut, query, key, value, tokens)

    def one(sums, pair):
        i, j = pair
        out, peak, total = _at(sums, i)
        scores, mask = _scores(cut, *_at((queries, rows), i), *_at((keys, columns), j))
        scores = jnp.where(mask, scores, MASKED_SCORE)
        higher = jnp.maximum(peak, jnp.max(scores, axis=-1))
        weights, scale = jnp.exp(scores - higher[..., None]), jnp.exp(peak - higher)
        total = scale * total + jnp.sum(weights, axis=-1)
        mixed = _product("bgrlm,bgmh->bgrlh", weights.astype(value.dtype), _at(values, j))
        return _put(sums, i, (scale[..., None] * out + mixed, higher, total)), None

    wide = jnp.promote_types(query.dtype, jnp.float32)
    zeros = jnp.zeros(queries.shape[:-1], wide)
    start = jnp.zeros(queries.shape, wide), zeros + MASKED_SCORE, zeros
    (out, peak, total), _ = jax.lax.scan(one, start, _pairs(cut, len(keys)))
    out = jnp.moveaxis(_join(out / total[..., None], 3, query.shape[1]), 3, 1)
    out = checkpoint_name(out.astype(query.dtype), SAVED)
    norm = checkpoint_name(peak + jnp.log(total), SAVED)
    return out, (query, key, value, tokens, out, norm)


def _backward(cut: Blocks, saved: tuple, cotangent: Array):
    """Recomputes the scores of one block after another."""
    query, key, value, tokens, out, norm = saved
    queries, keys, values, rows, columns = _cut(cut, query, key, value, tokens)
    along = jnp.sum(out.astype(norm.dtype) * cotangent, axis=-1)
    towards, along = (
        _split(jnp.moveaxis(x, 1, 3), 3, queries.shape[4]) for x in (cotangent, along)
    )

    def one(sums, pair):
        i, j = pair
        scores, mask = _scores(cut, *_at((queries, rows), i), *_at((keys, columns), j))
        toward, mixed = _at(towards, i), _at(values, j)
        weights = jnp.where(mask, jnp.exp(scores - _at(norm, i)[..., None]), 0.0)
        slopes = _product("bgrlh,bgmh->bgrlm", toward, mixed) - _at(along, i)[..., None]
        slopes = weights * slopes
        if cut.cap is not None:
            slopes = slopes * (1 - (scores / cut.cap) ** 2)
        weights, slopes = weights.astype(value.dtype), slopes.astype(query.dtype)
        to_query = _product("bgrlm,bgmh->bgrlh", slopes, _at(keys, j))
        to_key = _product("bgrlm,bgrlh->bgmh", slopes, _at(queries, i))
        to_value = _product("bgrlm,bgrlh->bgmh", weights, toward)
        by_query, by_key = sums
        by_query = _put(by_query, i, _at(by_query, i) + to_query)
        old = _at(by_key, j)
        return (by_query, _put(by_key, j, (old[0] + to_key, old[1] + to_value))), None

    zeros = partial(jnp.zeros, dtype=norm.dtype)
    start = zeros(queries.shape), (zeros(keys.shape), zeros(values.shape))
    (by_query, by_key), _ = jax.lax.scan(one, start, _pairs(cut, len(keys)))
    slopes = (
        jnp.moveaxis(_join(total, axis, query.shape[1]), axis, 1).astype(x.dtype)
        for total, axis, x in zip((by_query, *by_key), (3, 2, 2), (query, key, value), strict=True)
    )
    return *slopes, None


_blockwise.defvjp(_forward, _backward)


def _cut(cut: Blocks, query: Array, key: Array, value: Array, tokens: Tokens):
    """Heads first and in blocks: [n, B, G, R, b, h], [n, B, G, b, h] twice, [n, B, b] twice."""
    size = query.shape[1] if cut.whole else cut.size
    # Else the masks of all blocks, which every layer shares, are computed and kept outside the scan
    # over layers.
    tokens, query = jax.lax.optimization_barrier((tokens, query))
    return (
        _split(jnp.moveaxis(query, 1, 3), 3, size),
        _split(jnp.moveaxis(key, 1, 2), 2, cut.size),
        _split(jnp.moveaxis(value, 1, 2), 2, cut.size),
        jax.tree.map(lambda x: _split(x, 1, size), tokens),
        jax.tree.map(lambda x: _split(x, 1, cut.size), tokens),
    )


def _scores(
    cut: Blocks, query: Array, rows: Tokens, key: Array, columns: Tokens
) -> tuple[Array, Array]:
    """Scores of a block [B, G, R, b, b], and the mask [B, 1, 1, b, b]."""
    scores = softcap(_product("bgrlh,bgmh->bgrlm", query, key), cut.cap)
    return scores, attention_mask(rows, columns)[:, None, None]


def _product(form: str, left: Array, right: Array) -> Array:
    """Accumulated and returned in float32 at least."""
    wide = jnp.promote_types(left.dtype, jnp.float32)
    return jnp.einsum(form, left, right, preferred_element_type=wide)


def _pairs(cut: Blocks, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The blocks of queries and of keys that meet, keys in their order."""
    if cut.whole:
        return np.zeros(count, np.int32), np.arange(count, dtype=np.int32)
    rows, columns = np.tril_indices(count)
    return rows.astype(np.int32), columns.astype(np.int32)


def _at(blocks: Any, i: Array) -> Any:
    """Block i of each array."""
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), blocks)


def _put(blocks: Any, i: Array, new: Any) -> Any:
    """The arrays with other blocks i."""
    put = jax.lax.dynamic_update_index_in_dim
    return jax.tree.map(lambda x, y: put(x, y, i, 0), blocks, new)


def _split(x: Array, axis: int, size: int) -> Array:
    """[..., L, ...] -> [n, ..., size, ...], zeros at the end."""
    count = -(-x.shape[axis] // size)
    spare = count * size - x.shape[axis]
    x = jnp.pad(x, [(0, spare if i == axis else 0) for i in range(x.ndim)])
    return jnp.moveaxis(x.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :]), axis, 0)


def _join(x: Array, axis: int, length: int) -> Array:
    """The inverse of `_split`."""
    x = jnp.moveaxis(x, 0, axis)
    x = x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])
    return jax.lax.slice_in_dim(x, 0, length, axis=axis)
