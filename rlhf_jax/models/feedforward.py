"""The MLP of a layer, and a mixture of experts in its place."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.models.config import MoEConfig, TransformerConfig
from rlhf_jax.models.layers import add_bias, matmuls, output_std, weight

ACTIVATIONS = {
    "silu": jax.nn.silu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
}


class FeedForward(nnx.Module):
    """(act(x W_gate) * x W_up) W_down, or act(x W_up) W_down."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, mesh: Mesh | None):
        d, f = config.d_model, config.d_ff
        self.config, self.mesh = config, mesh
        if config.gated_mlp:
            self.gate = weight(rngs, config, {"embed": d, "mlp": f}, d**-0.5)
        self.up = weight(rngs, config, {"embed": d, "mlp": f}, d**-0.5)
        self.down = weight(rngs, config, {"mlp": f, "embed": d}, output_std(config, f))
        if config.mlp_bias:
            if config.gated_mlp:
                self.gate_bias = weight(rngs, config, {"mlp": f}, 0.0)
            self.up_bias = weight(rngs, config, {"mlp": f}, 0.0)
            self.down_bias = weight(rngs, config, {"embed": d}, 0.0)

    def __call__(self, x: Float[Array, "*B d"]) -> Float[Array, "*B d"]:
        act, biased = ACTIVATIONS[self.config.activation], self.config.mlp_bias
        weights = [self.gate, self.up] if self.config.gated_mlp else [self.up]
        hidden = matmuls(x, *(w[...] for w in weights), mesh=self.mesh)
        if biased:
            biases = [self.gate_bias, self.up_bias] if self.config.gated_mlp else [self.up_bias]
            hidden = [add_bias(y, bias) for y, bias in zip(hidden, biases, strict=True)]
        inner = act(hidden[0]) * hidden[1] if self.config.gated_mlp else act(hidden[0])
        out = matmuls(inner, self.down[...], mesh=self.mesh)[0]
        return add_bias(out, self.down_bias) if biased else out


class Experts(nnx.Module):
    """sum over the k most probable experts e of w_e FFN_e(x), p = softmax(x W_router).

    w_e is p_e, or p_e over the sum of the k. Every token gets its k experts, whatever the load: the
    rows of each expert are laid out in blocks of their own, and a loop over the blocks multiplies
    each by the weights of its expert. With 32 rows per expert or more, padding adds a quarter at
    most, so the arithmetic grows with k and not with E. (`jax.lax.ragged_dot` is one kernel for
    this on TPU, but elsewhere it masks dense products with all E experts.)
    """

    def __init__(
        self, config: TransformerConfig, moe: MoEConfig, rngs: nnx.Rngs, mesh: Mesh | None
    ):
        d, f, count = config.d_model, config.d_ff, moe.experts
        into = {"experts": count, "embed": d, "mlp": f}
        out = {"experts": count, "mlp": f, "embed": d}
        self.config, self.moe, self.mesh = config, moe, mesh
        self.router = weight(rngs, config, {"embed": d, "experts": count}, d**-0.5)
        self.gate = weight(rngs, config, into, d**-0.5)
        self.up = weight(rngs, config, into, d**-0.5)
        self.down = weight(rngs, config, out, output_std(config, f))

    def route(
        self, x: Float[Array, "*B d"]
    ) -> tuple[Float[Array, "*B E"], Float[Array, "*B k"], Int[Array, "*B k"]]:
        """Router probabilities, weights of the k chosen experts, and their indices; float32."""
        router = self.router[...].astype(jnp.float32)
        probs = jax.nn.softmax(matmuls(x.astype(jnp.float32), router, mesh=self.mesh)[0])
        weights, chosen = jax.lax.top_k(probs, self.moe.experts_per_token)
        if self.moe.normalise_weights:
            weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
        return probs, weights, chosen

    def __call__(self, x: Float[Array, "*B d"]) -> Float[Array, "*B d"]:
        rows = x.reshape(-1, x.shape[-1])
        _, weights, chosen = self.route(rows)
        slots, owners, size = blocks(chosen, self.moe.experts)
        laid = jnp.zeros((len(owners) * size, rows.shape[-1]), x.dtype)
        laid = laid.at[slots].set(rows[:, None], unique_indices=True)
        out = jax.lax.map(self.expert, (laid.reshape(len(owners), size, -1), owners))
        out = out.reshape(laid.shape)[slots].astype(jnp.float32)
        return jnp.einsum("tk,tkd->td", weights, out).astype(x.dtype).reshape(x.shape)

    def expert(self, block: tuple[Float[Array, "n d"], Int[Array, ""]]) -> Float[Array, "n d"]:
        """FFN_e of the rows of a block."""
        rows, e = block
        gate, up, down = (w[...][e].astype(rows.dtype) for w in (self.gate, self.up, self.down))
        return (ACTIVATIONS[self.config.activation](rows @ gate) * (rows @ up)) @ down

    def load_balance_loss(
        self, x: Float[Array, "*B d"], real: Bool[Array, "*B"]
    ) -> Float[Array, ""]:
        """E sum_e f_e P_e over the real tokens: k if the load is even, up to E if it is not.

        f_e is the number of times a token chose expert e, per token, and has no gradient; P_e is
        the mean router probability of e.

        Reference: Fedus et al. 2021, arXiv:2101.03961, Eq. 4-6.
        """
        probs, _, chosen = self.route(x)
        share = real / jnp.maximum(jnp.sum(real), 1)
        times = jnp.sum(jax.nn.one_hot(chosen, self.moe.experts), axis=-2)
        load, mean = (jnp.einsum("...,...e->e", share, each) for each in (times, probs))
        return self.moe.experts * jnp.sum(load * mean)


def blocks(
    chosen: Int[Array, "T k"], experts: int
) -> tuple[Int[Array, "T k"], Int[Array, "blocks"], int]:
    """A place for each choice in blocks of equal size that belong to one expert each.

    Returns:
      slots: the place of each choice among the rows of all blocks. owners: the expert of each
      block; blocks that are left over belong to anyone. size: rows of a block, static.
    """
    flat, pairs = chosen.reshape(-1), chosen.size
    # 8 rows: a product of fewer is as slow, since it waits for the weights of the expert.
    size = min(max(pairs // (4 * experts), 8), 256)
    count = min(pairs, pairs // size + experts)  # enough for any load
    loads = jnp.bincount(flat, length=experts)
    ends = jnp.cumsum(-(-loads // size))
    order = jnp.argsort(flat)
    place = jnp.arange(pairs) - (jnp.cumsum(loads) - loads)[flat[order]]  # within its expert
    start = size * (ends + (-loads // size))[flat[order]]
    slots = jnp.zeros(pairs, order.dtype).at[order].set(start + place, unique_indices=True)
    owners = jnp.searchsorted(ends, jnp.arange(count), side="right")
    return slots.reshape(chosen.shape), jnp.minimum(owners, experts - 1), size
