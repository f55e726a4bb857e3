"""One transformer layer in Flax NNX: RMSNorm, rotary grouped-query attention, SwiGLU.

Axis letters: B rows, L tokens, d width, G key/value heads, R query heads per key/value head,
H = G R query heads, h head size, S cache slots, N layers.

A layer starts as the identity: its two output projections (`out` of attention, `down` of the MLP)
start at zero. Other weights start normal with standard deviation d^-1/2, norms at 1, biases at 0.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.models.config import TransformerConfig

Rotation = tuple[Float[Array, "*B half"], Float[Array, "*B half"]]  # cosines and sines
KeysValues = tuple[Float[Array, "B G S h"], Float[Array, "B G S h"]]  # one layer's cache

MASKED_SCORE = -1e30  # finite: where everything is masked, softmax gives uniform weights, not NaN


def weight(
    rngs: nnx.Rngs, config: TransformerConfig, shape: dict[str, int], std: float
) -> nnx.Param:
    """A normal parameter with one logical axis name per dimension; std 0 gives zeros."""
    sizes = tuple(shape.values())
    value = std * jax.random.normal(rngs.params(), sizes, config.param_dtype) if std else None
    value = jnp.zeros(sizes, config.param_dtype) if value is None else value
    return nnx.Param(value, axes=tuple(shape))


def matmuls(x: Float[Array, "*B n"], *weights: Array) -> list[Array]:
    """x w over the first axis of each w [n, ...], in the dtype of x: a list of [*B, ...].

    The rows are flattened first. With [B, L] as two axes XLA transposes both operands of the weight
    gradients, which doubles the time of a training step on CPU.
    """
    rows = x.reshape(-1, x.shape[-1])
    flat = [rows @ w.astype(x.dtype).reshape(x.shape[-1], -1) for w in weights]
    return [y.reshape(*x.shape[:-1], *w.shape[1:]) for y, w in zip(flat, weights, strict=True)]


def rotation(positions: Int[Array, "*B"], config: TransformerConfig) -> Rotation:
    """Cosines and sines of position * theta^(-2i / h), i = 0 .. h/2 - 1, in float32."""
    exponents = jnp.arange(config.head_dim // 2, dtype=jnp.float32) * (2.0 / config.head_dim)
    angles = positions[..., None].astype(jnp.float32) * config.rope_theta**-exponents
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: Float[Array, "*B heads h"], turn: Rotation) -> Float[Array, "*B heads h"]:
    """Turns features (i, i + h/2) of every head by the angle of the token's position."""
    cos, sin = (part[..., None, :] for part in turn)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


class RMSNorm(nnx.Module):
    """x / sqrt(mean(x^2) + eps) * scale, computed in float32; NaN where x^2 overflows."""

    def __init__(self, config: TransformerConfig):
        self.eps = config.norm_eps
        ones = jnp.ones((config.d_model,), config.param_dtype)
        self.scale = nnx.Param(ones, axes=("embed",))

    def __call__(self, x: Float[Array, "*B d"]) -> Float[Array, "*B d"]:
        wide = x.astype(jnp.float32)
        square = jnp.mean(wide * wide, axis=-1, keepdims=True)
        # 1 / sqrt(inf) is 0, so a diverged model would silently output 0; make it NaN instead.
        inverse = jax.lax.rsqrt(jnp.where(jnp.isinf(square), jnp.nan, square) + self.eps)
        return (wide * inverse * self.scale[...].astype(jnp.float32)).astype(x.dtype)


class Attention(nnx.Module):
    """Grouped-query attention: R query heads share each of G key/value heads."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs):
        d, h = config.d_model, config.head_dim
        into = {"embed": d, "heads": config.num_heads, "head_dim": h}
        shared = {"embed": d, "kv_heads": config.num_kv_heads, "head_dim": h}
        out = {"heads": config.num_heads, "head_dim": h, "embed": d}
        self.config = config
        self.query = weight(rngs, config, into, d**-0.5)
        self.key = weight(rngs, config, shared, d**-0.5)
        self.value = weight(rngs, config, shared, d**-0.5)
        # Zero, here and in SwiGLU, so that at the start the last layer still sees the embeddings.
        # From a random start small models take much longer to learn to copy.
        self.out = weight(rngs, config, out, 0.0)
        if config.qkv_bias:
            head_axes = {"heads": config.num_heads, "head_dim": h}
            kv_axes = {"kv_heads": config.num_kv_heads, "head_dim": h}
            self.query_bias = weight(rngs, config, head_axes, 0.0)
            self.key_bias = weight(rngs, config, kv_axes, 0.0)
            self.value_bias = weight(rngs, config, kv_axes, 0.0)

    def project(
        self, x: Float[Array, "*B d"], turn: Rotation
    ) -> tuple[Float[Array, "*B G R h"], Float[Array, "*B G h"], Float[Array, "*B G h"]]:
        """Rotated queries, scaled by h^-1/2, rotated keys, and values."""
        config = self.config
        query, key, value = matmuls(x, self.query[...], self.key[...], self.value[...])
        if config.qkv_bias:
            query = query + self.query_bias[...].astype(x.dtype)
            key = key + self.key_bias[...].astype(x.dtype)
            value = value + self.value_bias[...].astype(x.dtype)
        query = rotate(query, turn) * config.head_dim**-0.5
        groups = (config.num_kv_heads, config.num_heads // config.num_kv_heads, config.head_dim)
        return query.reshape(*x.shape[:-1], *groups), rotate(key, turn), value

    def merge_heads(self, mixed: Float[Array, "*B G R h"]) -> Float[Array, "*B d"]:
        """The output projection."""
        out = self.out[...]
        heads = mixed.reshape(*mixed.shape[:-3], -1)
        return matmuls(heads, out.reshape(-1, out.shape[-1]))[0]

    def __call__(
        self, x: Float[Array, "B L d"], turn: Rotation, mask: Bool[Array, "B L L"]
    ) -> tuple[Float[Array, "B L d"], tuple[Float[Array, "B L G h"], Float[Array, "B L G h"]]]:
        """Attention within the row, and the keys and values it used."""
        query, key, value = self.project(x, turn)
        scores = jnp.einsum("blgrh,bmgh->bgrlm", query, key, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(jnp.where(mask[:, None, None], scores, MASKED_SCORE), axis=-1)
        mixed = jnp.einsum("bgrlm,bmgh->blgrh", weights.astype(x.dtype), value)
        return self.merge_heads(mixed), (key, value)

    def step(
        self, x: Float[Array, "B d"], turn: Rotation, cached: KeysValues, slot, valid
    ) -> tuple[Float[Array, "B d"], KeysValues]:
        """One token per row: writes its key and value at `slot`, then attends to `valid` [B, S]."""
        query, key, value = self.project(x, turn)
        keys, values = (
            jax.lax.dynamic_update_slice(cache, new[:, :, None], (0, 0, slot, 0))
            for cache, new in zip(cached, (key, value), strict=True)
        )
        scores = jnp.einsum("bgrh,bgsh->bgrs", query, keys, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(jnp.where(valid[:, None, None], scores, MASKED_SCORE), axis=-1)
        mixed = jnp.einsum("bgrs,bgsh->bgrh", weights.astype(x.dtype), values)
        return self.merge_heads(mixed), (keys, values)


class SwiGLU(nnx.Module):
    """(silu(x W_gate) * x W_up) W_down."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs):
        d, f = config.d_model, config.d_ff
        self.gate = weight(rngs, config, {"embed": d, "mlp": f}, d**-0.5)
        self.up = weight(rngs, config, {"embed": d, "mlp": f}, d**-0.5)
        self.down = weight(rngs, config, {"mlp": f, "embed": d}, 0.0)

    def __call__(self, x: Float[Array, "*B d"]) -> Float[Array, "*B d"]:
        gate, up = matmuls(x, self.gate[...], self.up[...])
        return matmuls(jax.nn.silu(gate) * up, self.down[...])[0]


class Block(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs):
        self.attention_norm = RMSNorm(config)
        self.attention = Attention(config, rngs)
        self.mlp_norm = RMSNorm(config)
        self.mlp = SwiGLU(config, rngs)

    def __call__(self, x: Float[Array, "B L d"], turn: Rotation, mask: Bool[Array, "B L L"]):
        """New residual stream [B, L, d] and this layer's keys and values [B, L, G, h]."""
        added, kept = self.attention(self.attention_norm(x), turn, mask)
        x = x + added
        return x + self.mlp(self.mlp_norm(x)), kept

    def step(self, x: Float[Array, "B d"], turn: Rotation, cached: KeysValues, slot, valid):
        """The same for one token per row: new residual [B, d] and this layer's cache."""
        added, cached = self.attention.step(self.attention_norm(x), turn, cached, slot, valid)
        x = x + added
        return x + self.mlp(self.mlp_norm(x)), cached
