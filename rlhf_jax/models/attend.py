"""Attention within rows, in the form that suits their length and the devices.

    dense       all scores at once: rows of up to SHORTEST tokens
    blockwise   `models.blockwise`: longer rows on any device
    splash      a Pallas kernel: longer rows on TPU
    flash       a cuDNN kernel: longer rows on GPU, in bfloat16, without a soft cap

All but the dense form need memory linear in the length. They give the same numbers up to rounding,
except for padding, which no other token reads.
"""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from rlhf_jax.models.blockwise import MASKED_SCORE, Tokens, attention_mask, blockwise
from rlhf_jax.models.config import TransformerConfig
from rlhf_jax.models.layers import softcap
from rlhf_jax.models.rotary import Rotation

SHORTEST = 64  # tokens; up to here the dense form is as fast
CPU_BLOCK, BLOCK = 64, 256  # tokens; the smaller one suits the cache of a processor

Form = Literal["dense", "blockwise", "splash", "flash"]


class RowView(NamedTuple):
    """What the tokens of rows see: global and local layers differ in it and in nothing else.

    turn: rotations by the tokens' positions; None if positions are learned.
    local: whether a layer has the sliding window; traced in a scan over both kinds.
    """

    turn: Rotation | None
    tokens: Tokens
    local: bool | Bool[Array, ""]


def attend(
    query: Float[Array, "B L G R h"],
    key: Float[Array, "B L G h"],
    value: Float[Array, "B L G h"],
    view: RowView,
    config: TransformerConfig,
    mesh: Mesh | None = None,
) -> Float[Array, "B L G R h"]:
    """softmax(q k^T) v of each head over the tokens that each one sees; queries are scaled."""
    form, cap = choose_form(query, config, mesh), config.attention_softcap
    if form == "dense":
        return dense(query, key, value, view.tokens, cap=cap)
    if form == "blockwise":
        size = CPU_BLOCK if platform_of(mesh) == "cpu" else BLOCK
        whole = _splits_rows(mesh)
        return blockwise(query, key, value, view.tokens, cap=cap, size=size, whole=whole)
    from rlhf_jax.models import kernels  # here, because Pallas takes a while to import

    kernel = kernels.flash if form == "flash" else partial(kernels.splash, cap=cap, mesh=mesh)
    if isinstance(view.local, bool):
        window = config.sliding_window if view.local else None
        return kernel(query, key, value, view.tokens, window=window)
    forms = (partial(kernel, window=window) for window in (config.sliding_window, None))
    return jax.lax.cond(view.local, *forms, query, key, value, view.tokens)


def choose_form(
    query: Float[Array, "B L G R h"], config: TransformerConfig, mesh: Mesh | None
) -> Form:
    """The form for rows of this length and dtype, on the mesh or where programs without one run.

    Where a mesh splits the tokens of a row it is the blockwise form: kernels need whole rows.
    """
    if query.shape[1] <= SHORTEST:
        return "dense"
    platform = "cpu" if _splits_rows(mesh) else platform_of(mesh)
    if platform == "tpu":
        return "splash"
    if platform != "gpu" or query.dtype != jnp.bfloat16 or config.attention_softcap is not None:
        return "blockwise"
    newer = float(jax.local_devices(backend="gpu")[0].compute_capability) >= 9
    fits = query.shape[-1] % 8 == 0 and query.shape[-1] <= (256 if newer else 128)
    return "flash" if fits else "blockwise"


def platform_of(mesh: Mesh | None) -> str:
    """cpu, gpu or tpu: of the mesh, or where programs without one run."""
    if mesh is not None:
        return mesh.devices.flat[0].platform
    default = jax.config.jax_default_device  # ty: ignore[missing-attribute]  (made at run time)
    return getattr(default, "platform", default) or jax.default_backend()


def dense(
    query: Float[Array, "B L G R h"],
    key: Float[Array, "B L G h"],
    value: Float[Array, "B L G h"],
    tokens: Tokens,
    *,
    cap: float | None = None,
) -> Float[Array, "B L G R h"]:
    """All scores at once."""
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("blgrh,bmgh->bgrlm", query, key, preferred_element_type=wide)
    mask = attention_mask(tokens, tokens)[:, None, None]
    weights = jax.nn.softmax(jnp.where(mask, softcap(scores, cap), MASKED_SCORE), axis=-1)
    return jnp.einsum("bgrlm,bmgh->blgrh", weights.astype(value.dtype), value)


def _splits_rows(mesh: Mesh | None) -> bool:
    return mesh is not None and mesh.shape["sequence"] > 1
