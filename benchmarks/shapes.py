"""The Qwen2 of the benchmarks against peers; `tunix_shape` has that of Tunix."""

from typing import Any

from rlhf_jax.models import TransformerConfig


def library_config(sizes: Any, *, max_positions: int) -> TransformerConfig:
    """From sizes with vocab, width, layers, heads, kv_heads, head and mlp."""
    return TransformerConfig(
        vocab_size=sizes.vocab,
        d_model=sizes.width,
        num_layers=sizes.layers,
        num_heads=sizes.heads,
        num_kv_heads=sizes.kv_heads,
        head_dim=sizes.head,
        d_ff=sizes.mlp,
        qkv_bias=True,
        max_positions=max_positions,
    )
