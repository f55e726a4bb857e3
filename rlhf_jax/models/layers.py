"""The parts that every layer is made of: parameters, matrix products, biases, norms, soft caps.

Axis letters of this package: B rows, L tokens, d width, G key/value heads, R query heads for each,
H = G R query heads, h head size, f width of the MLP, E experts, S cache slots, N layers.

A layer starts as the identity. If its norms stand before attention and MLP, the last projections of
the two start at zero; if norms stand after them, the gains of these norms do. Other weights start
normal with standard deviation n^-1/2 for n inputs, other gains at 1, biases at 0.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float

from rlhf_jax.models.config import TransformerConfig


def weight(
    rngs: nnx.Rngs, config: TransformerConfig, shape: dict[str, int], std: float
) -> nnx.Param:
    """A normal parameter with one logical axis name per dimension; std 0 gives zeros."""
    sizes = tuple(shape.values())
    value = std * jax.random.normal(rngs.params(), sizes, config.param_dtype) if std else None
    value = jnp.zeros(sizes, config.param_dtype) if value is None else value
    return nnx.Param(value, axes=tuple(shape))


def output_std(config: TransformerConfig, inputs: int) -> float:
    """Deviation of the last projection of attention or MLP, so that a layer starts as the identity.

    Zero before a residual without a norm: the last layer then still sees the embeddings. From a
    random start small models take much longer to learn to copy. Not zero before a norm: at 0 its
    slope is eps^-1/2, about a thousand.
    """
    return 0.0 if config.norm_placement == "pre" else inputs**-0.5


def matmuls(x: Float[Array, "*B n"], *weights: Array, mesh: Mesh | None) -> list[Array]:
    """x w over the first axis of each w [n, ...], in the dtype of x: a list of [*B, ...].

    The rows are flattened first. With [B, L] as two axes XLA transposes both operands of the weight
    gradients, which doubles the time of a training step on CPU. Where the mesh splits L, flat rows
    would have to be gathered.
    """
    if mesh is not None and mesh.shape["sequence"] > 1:
        return [jnp.tensordot(x, w.astype(x.dtype), 1) for w in weights]
    rows = x.reshape(-1, x.shape[-1])
    flat = [rows @ w.astype(x.dtype).reshape(x.shape[-1], -1) for w in weights]
    return [y.reshape(*x.shape[:-1], *w.shape[1:]) for y, w in zip(flat, weights, strict=True)]


def add_bias(x: Array, bias: nnx.Param) -> Array:
    """x + bias in the dtype of x."""
    return x + bias[...].astype(x.dtype)


def softcap(x: Array, cap: float | None) -> Array:
    """cap tanh(x / cap), in (-cap, cap); x if there is no cap."""
    return x if cap is None else cap * jnp.tanh(x / cap)


class Norm(nnx.Module):
    """(x - m) / sqrt(mean((x - m)^2) + eps) * gain + bias over the last axes, in float32.

    RMSNorm has m = 0 and no bias, LayerNorm m = mean(x). The gain is `scale`, or 1 + scale with
    `norm_offset`. The result is NaN where the squares overflow.
    """

    def __init__(self, config: TransformerConfig, shape: dict[str, int], *, gain: float = 1.0):
        self.config, self.rank = config, len(shape)
        sizes, axes = tuple(shape.values()), tuple(shape)
        scale = gain - 1.0 if config.norm_offset else gain
        self.scale = nnx.Param(jnp.full(sizes, scale, config.param_dtype), axes=axes)
        if config.norm == "layer":
            self.bias = nnx.Param(jnp.zeros(sizes, config.param_dtype), axes=axes)

    def __call__(self, x: Float[Array, "*B"]) -> Float[Array, "*B"]:
        over = tuple(range(-self.rank, 0))
        wide = x.astype(jnp.float32)
        if self.config.norm == "layer":
            wide = wide - jnp.mean(wide, axis=over, keepdims=True)
        square = jnp.mean(wide * wide, axis=over, keepdims=True)
        # 1 / sqrt(inf) is 0, so a diverged model would silently output 0; make it NaN instead.
        square = jnp.where(jnp.isinf(square), jnp.nan, square)
        inverse = jax.lax.rsqrt(square + self.config.norm_eps)
        scale = self.scale[...].astype(jnp.float32)
        out = wide * inverse * (1.0 + scale if self.config.norm_offset else scale)
        return (out + self.bias[...] if self.config.norm == "layer" else out).astype(x.dtype)
