"""One transformer layer."""

from collections.abc import Callable

from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.models.attend import RowView
from rlhf_jax.models.attention import Attention, View
from rlhf_jax.models.cache import KeysValues
from rlhf_jax.models.config import TransformerConfig
from rlhf_jax.models.feedforward import Experts, FeedForward
from rlhf_jax.models.layers import Norm


class Block(nnx.Module):
    """x + attention(x), then x + mlp(x), with a norm before or after each, or both."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, mesh: Mesh | None):
        self.attention_norm, self.attention_post_norm = norms(config)
        self.attention = Attention(config, rngs, mesh)
        self.mlp_norm, self.mlp_post_norm = norms(config)
        moe = config.moe
        self.mlp = Experts(config, moe, rngs, mesh) if moe else FeedForward(config, rngs, mesh)

    def __call__(self, x: Float[Array, "B L d"], view: RowView, real: Bool[Array, "B L"]):
        """New residual stream [B, L, d], keys and values [B, L, G, h], load-balance loss or None.

        Only the `real` tokens count in the loss.
        """
        added, kept = self.attention(self.attention_norm(x), view)
        x = x + self.attention_post_norm(added)
        into = self.mlp_norm(x)
        loss = self.mlp.load_balance_loss(into, real) if isinstance(self.mlp, Experts) else None
        return x + self.mlp_post_norm(self.mlp(into)), kept, loss

    def step(
        self, x: Float[Array, "B d"], view: View, cached: KeysValues, slot: Int[Array, ""]
    ) -> tuple[Float[Array, "B d"], KeysValues]:
        """The same for one token per row: new residual [B, d] and this layer's cache."""
        added, cached = self.attention.step(self.attention_norm(x), view, cached, slot)
        x = x + self.attention_post_norm(added)
        return x + self.mlp_post_norm(self.mlp(self.mlp_norm(x))), cached


def norms(config: TransformerConfig) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """The norms before and after attention or MLP; the identity where there is none."""
    width = {"embed": config.d_model}
    before = identity if config.norm_placement == "post" else Norm(config, width)
    after = identity if config.norm_placement == "pre" else Norm(config, width, gain=0.0)
    return before, after


def identity(x: Array) -> Array:
    """x."""
    return x
