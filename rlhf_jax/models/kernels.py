"""Attention kernels of accelerators, made fit for rows with padding anywhere and packed documents.

The kernels know the columns of a row, not the positions of its tokens. A sliding window, and with
cuDNN all padding, is right for them once padding is moved to the end of the row.
"""

import math
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as pallas
from jax.sharding import Mesh
from jaxtyping import Array, Float

from rlhf_jax.models.blockwise import SAVED, Tokens, blockwise
from rlhf_jax.sharding import partition

LANES, LARGEST = (
    128,
    512,
)  # tokens: a block of the TPU kernel is a multiple of the one, at most the other


def splash(
    query: Float[Array, "B L G R h"],
    key: Float[Array, "B L G h"],
    value: Float[Array, "B L G h"],
    tokens: Tokens,
    *,
    window: int | None,
    cap: float | None = None,
    mesh: Mesh | None = None,
    interpret: bool = False,
) -> Float[Array, "B L G R h"]:
    """The TPU kernel. On a mesh each device runs it for its own rows and heads.

    Args:
      window, cap: static; None for none.
      interpret: runs anywhere, slowly.
    """
    rows = partial(_splash, window=window, cap=cap, interpret=interpret)
    arrays = query, key, value, tokens.segments
    if mesh is not None:
        heads = "batch", None, "kv_heads", None
        names = (*heads[:3], None, None), heads, heads, ("batch", None)
        specs = tuple(partition(mesh, x.shape, *n) for x, n in zip(arrays, names, strict=True))
        # The compiler cannot split a kernel.
        rows = jax.shard_map(rows, mesh=mesh, in_specs=specs, out_specs=specs[0], check_vma=False)
    return rows(*arrays)


def flash(
    query: Float[Array, "B L G R h"],
    key: Float[Array, "B L G h"],
    value: Float[Array, "B L G h"],
    tokens: Tokens,
    *,
    window: int | None,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> Float[Array, "B L G R h"]:
    """The cuDNN kernel if every row is one document, else the blockwise form: it has no segments.

    Args:
      window: static; None for none.
      implementation: of `jax.nn.dot_product_attention`; "xla" runs anywhere.
    """
    sides = None if window is None else (window - 1, 0)
    attention = partial(jax.nn.dot_product_attention, scale=1.0, is_causal=True)

    def one_document(query: Array, key: Array, value: Array, tokens: Tokens) -> Array:
        order, back = _padding_last(tokens.segments)
        heads = query.reshape(*query.shape[:2], -1, query.shape[-1])
        arrays = (_reorder(x, order) for x in (heads, key, value))
        out = attention(*arrays, local_window_size=sides, implementation=implementation)
        return _reorder(out, back).reshape(query.shape)

    packed = jnp.max(tokens.segments) > 1
    return jax.lax.cond(packed, blockwise, one_document, query, key, value, tokens)


def _splash(
    query: Array,
    key: Array,
    value: Array,
    segments: Array,
    *,
    window: int | None,
    cap: float | None,
    interpret: bool,
) -> Array:
    """The kernel for rows and heads of one device."""
    length, shape = query.shape[1], query.shape
    arrays = query.reshape(*shape[:2], -1, shape[-1]), key, value, segments
    if window is not None:
        order, back = _padding_last(segments)
        arrays = tuple(_reorder(x, order) for x in arrays)
    spare = -length % LANES
    arrays = (jnp.pad(x, [(0, 0), (0, spare), *[(0, 0)] * (x.ndim - 2)]) for x in arrays)
    query, key, value, segments = arrays
    heads = (jnp.moveaxis(x, 1, 2) for x in (query, key, value))
    kernel = _kernel(length + spare, query.shape[2], window, cap, interpret)
    out = jax.vmap(kernel)(*heads, pallas.SegmentIds(segments, segments))
    out = jnp.moveaxis(out, 2, 1)[:, :length]
    return (out if window is None else _reorder(out, back)).reshape(shape)


def _kernel(length: int, heads: int, window: int | None, cap: float | None, interpret: bool):
    """The kernel for one row [H, L, h], keys [G, L, h] and segments [L]."""
    size = math.gcd(length, LARGEST)
    names = ("q", "kv", "kv_compute", "q_dkv", "kv_dkv", "kv_dkv_compute", "q_dq", "kv_dq")
    sizes: dict[str, Any] = {f"block_{name}": size for name in names}
    shape = (length, length)
    mask = pallas.CausalMask(shape)
    if window is not None:
        mask = pallas.LocalMask(shape, (window - 1, 0), 0)
    return pallas.make_splash_mha_single_device(
        pallas.MultiHeadMask([mask] * heads),
        block_sizes=pallas.BlockSizes(**sizes),
        attn_logits_soft_cap=cap,
        residual_checkpoint_name=SAVED,
        interpret=interpret,
    )


def _padding_last(segments: Array) -> tuple[Array, Array]:
    """The order of columns [B, L] that moves padding to the end of each row, and its inverse."""
    order = jnp.argsort(segments == 0, axis=1, stable=True)
    return order, jnp.argsort(order, axis=1)


def _reorder(x: Array, order: Array) -> Array:
    return jnp.take_along_axis(x, order.reshape(*order.shape, *[1] * (x.ndim - 2)), axis=1)
