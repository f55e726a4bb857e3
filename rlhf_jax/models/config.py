"""Sizes and numerics of a decoder-only transformer."""

from dataclasses import dataclass
from typing import Literal

from rlhf_jax.checks import check_fields

FloatName = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The static settings of a transformer.

    vocab_size: V. d_model: d, width of the residual stream. num_layers: number of layers.
    num_heads, num_kv_heads: query heads and shared key/value heads; the second divides the first.
    head_dim: even, because rotary embedding turns pairs of features. d_ff: hidden width of SwiGLU.
    rope_theta: base of the rotary wavelengths, 2 pi theta^(2i / head_dim) tokens for pair i.
    norm_eps: added to the mean square in RMSNorm.
    tied_embeddings: whether the unembedding is the embedding, as one leaf of the parameters.
    qkv_bias: biases on the query, key and value projections.
    remat: recompute each layer in the backward pass; memory falls to one residual per layer.
    dtype: of matrix products and the residual stream. Norms, softmax and logits are float32.
    param_dtype: of the stored parameters.
    """

    vocab_size: int
    d_model: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    d_ff: int
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    tied_embeddings: bool = True
    qkv_bias: bool = False
    remat: bool = False
    dtype: FloatName = "float32"
    param_dtype: FloatName = "float32"

    def __post_init__(self) -> None:
        names = ("vocab_size", "d_model", "num_layers", "num_heads", "num_kv_heads", "head_dim")
        check_fields(self, "[1, inf)", *names, "d_ff")
        check_fields(self, "(0, inf)", "rope_theta", "norm_eps")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads ({self.num_heads}) must be a multiple of num_kv_heads "
                f"({self.num_kv_heads})"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even for rotary embedding, got {self.head_dim}")
        for name in ("dtype", "param_dtype"):
            if getattr(self, name) not in ("float32", "bfloat16"):
                raise ValueError(f"{name} must be float32 or bfloat16, got {getattr(self, name)!r}")
