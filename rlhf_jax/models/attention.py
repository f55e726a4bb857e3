"""Grouped-query attention: R query heads share each of G key/value heads."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.models.attend import RowView, attend
from rlhf_jax.models.blockwise import MASKED_SCORE
from rlhf_jax.models.cache import KeysValues
from rlhf_jax.models.config import TransformerConfig
from rlhf_jax.models.layers import Norm, add_bias, matmuls, output_std, softcap, weight
from rlhf_jax.models.rotary import Rotation, rotate
from rlhf_jax.sharding import constrain


class View(NamedTuple):
    """What the one new token of each row sees.

    turn: rotations by its position; None if positions are learned.
    mask: True where it attends to a cache slot.
    """

    turn: Rotation | None
    mask: Bool[Array, "B S"]


class Attention(nnx.Module):
    """softmax(scale q k^T) v of each head, and the projections around it."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, mesh: Mesh | None):
        d, h = config.d_model, config.head_dim
        heads = {"heads": config.num_heads, "head_dim": h}
        shared = {"kv_heads": config.num_kv_heads, "head_dim": h}
        self.config, self.mesh = config, mesh
        self.query = weight(rngs, config, {"embed": d} | heads, d**-0.5)
        self.key = weight(rngs, config, {"embed": d} | shared, d**-0.5)
        self.value = weight(rngs, config, {"embed": d} | shared, d**-0.5)
        std = output_std(config, config.num_heads * h)
        self.out = weight(rngs, config, heads | {"embed": d}, std)
        if config.qkv_bias:
            self.query_bias = weight(rngs, config, heads, 0.0)
            self.key_bias = weight(rngs, config, shared, 0.0)
            self.value_bias = weight(rngs, config, shared, 0.0)
        if config.out_bias:
            self.out_bias = weight(rngs, config, {"embed": d}, 0.0)
        if config.qk_norm:
            one = config.qk_norm == "head"
            self.query_norm = Norm(config, {"head_dim": h} if one else heads)
            self.key_norm = Norm(config, {"head_dim": h} if one else shared)

    def project(
        self, x: Float[Array, "*B d"], turn: Rotation | None
    ) -> tuple[Float[Array, "*B G R h"], Float[Array, "*B G h"], Float[Array, "*B G h"]]:
        """Rotated and scaled queries, rotated keys, and values."""
        config = self.config
        query, key, value = matmuls(
            x, self.query[...], self.key[...], self.value[...], mesh=self.mesh
        )
        if config.qkv_bias:
            query, key = add_bias(query, self.query_bias), add_bias(key, self.key_bias)
            value = add_bias(value, self.value_bias)
        if config.qk_norm:
            query, key = self.query_norm(query), self.key_norm(key)
        query = rotate(query, turn) * (config.attention_scale or config.head_dim**-0.5)
        groups = (config.num_kv_heads, config.num_heads // config.num_kv_heads, config.head_dim)
        return query.reshape(*x.shape[:-1], *groups), rotate(key, turn), value

    def weights(self, scores: Float[Array, "*B S"], mask: Bool[Array, "*#B S"]) -> Array:
        """softmax over the slots where the mask is True."""
        scores = softcap(scores, self.config.attention_softcap)
        return jax.nn.softmax(jnp.where(mask, scores, MASKED_SCORE), axis=-1)

    def merge_heads(self, mixed: Float[Array, "*B G R h"]) -> Float[Array, "*B d"]:
        """The output projection."""
        out = self.out[...]
        heads = mixed.reshape(*mixed.shape[:-3], -1)
        merged = matmuls(heads, out.reshape(-1, out.shape[-1]), mesh=self.mesh)[0]
        return add_bias(merged, self.out_bias) if self.config.out_bias else merged

    def __call__(
        self, x: Float[Array, "B L d"], view: RowView
    ) -> tuple[Float[Array, "B L d"], tuple[Float[Array, "B L G h"], Float[Array, "B L G h"]]]:
        """Attention within the row, and the keys and values it used."""
        query, key, value = self.project(x, view.turn)
        # Where a mesh splits the tokens of a row, each of its parts reads the keys of all.
        query = constrain(query, self.mesh, "batch", "length", "kv_heads", None, None)
        key, value = (
            constrain(part, self.mesh, "batch", None, "kv_heads", None) for part in (key, value)
        )
        mixed = attend(query, key, value, view, self.config, self.mesh)
        return self.merge_heads(mixed), (key, value)

    def step(
        self, x: Float[Array, "B d"], view: View, cached: KeysValues, slot: Int[Array, ""]
    ) -> tuple[Float[Array, "B d"], KeysValues]:
        """One token per row: writes its key and value at `slot`, then attends to [B, S] slots."""
        query, key, value = self.project(x, view.turn)
        keys, values = cached
        keys = jax.lax.dynamic_update_slice(keys, key[..., None], (0, 0, 0, slot))
        values = jax.lax.dynamic_update_slice(values, value[:, :, None], (0, 0, slot, 0))
        weights = self.weights(slot_scores(query, keys), view.mask[:, None, None])
        return self.merge_heads(mix_slots(weights.astype(x.dtype), values)), (keys, values)


def slot_scores(
    query: Float[Array, "B G R h"], keys: Float[Array, "B G h S"]
) -> Float[Array, "B G R S"]:
    """q k^T of one token and its cache, float32.

    A product of R rows is too thin for the kernels that XLA has on CPU: there multiplications and a
    sum take a fifth of the time for one row, and three fifths for 32.
    """

    def product(query, keys):
        return jnp.einsum("bgrh,bghs->bgrs", query, keys, preferred_element_type=jnp.float32)

    def elementwise(query, keys):
        return jnp.sum(query.astype(jnp.float32)[..., None] * keys[:, :, None], axis=-2)

    return jax.lax.platform_dependent(query, keys, cpu=elementwise, default=product)


def mix_slots(
    weights: Float[Array, "B G R S"], values: Float[Array, "B G S h"]
) -> Float[Array, "B G R h"]:
    """The values of the cache, weighted; see `slot_scores`."""

    def product(weights, values):
        return jnp.einsum("bgrs,bgsh->bgrh", weights, values)

    def elementwise(weights, values):
        total = jnp.sum(weights.astype(jnp.float32)[..., None] * values[:, :, None], axis=-2)
        return total.astype(values.dtype)

    return jax.lax.platform_dependent(weights, values, cpu=elementwise, default=product)
