"""Published models by name, as configs; a test holds their published parameter counts."""

from typing import Any

from rlhf_jax.models import MoEConfig, TransformerConfig


def _llama(d_model: int, layers: int, heads: int, d_ff: int, **more: Any) -> TransformerConfig:
    """Llama 3.1 and 3.2."""
    settings: dict[str, Any] = {"tied_embeddings": False} | more
    return TransformerConfig(
        vocab_size=128_256,
        d_model=d_model,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=8,
        head_dim=d_model // heads,
        d_ff=d_ff,
        rope_theta=500_000.0,
        norm_eps=1e-5,
        **settings,
    )


def _qwen(
    d_model: int, layers: int, heads: int, kv_heads: int, d_ff: int, **more: Any
) -> TransformerConfig:
    """Qwen 2.5."""
    usual = {"vocab_size": 152_064, "qkv_bias": True, "tied_embeddings": False}
    settings: dict[str, Any] = usual | more
    return TransformerConfig(
        d_model=d_model,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=d_model // heads,
        d_ff=d_ff,
        rope_theta=1_000_000.0,
        **settings,
    )


def _gemma(d_model: int, layers: int, heads: int, kv_heads: int, d_ff: int) -> TransformerConfig:
    """Gemma 2: every other layer sees the last 4,096 tokens."""
    return TransformerConfig(
        vocab_size=256_000,
        d_model=d_model,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=256,
        d_ff=d_ff,
        activation="gelu_tanh",
        norm_offset=True,
        norm_placement="both",
        embed_scale=True,
        attention_softcap=50.0,
        final_softcap=30.0,
        sliding_window=4096,
        layer_windows=tuple(i % 2 == 0 for i in range(layers)),
    )


PRESETS: dict[str, TransformerConfig] = {
    "llama-1b": _llama(2048, 16, 32, 8192, tied_embeddings=True),
    "llama-3b": _llama(3072, 28, 24, 8192, tied_embeddings=True),
    "llama-8b": _llama(4096, 32, 32, 14_336),
    "llama-70b": _llama(8192, 80, 64, 28_672),
    "qwen2.5-0.5b": _qwen(896, 24, 14, 2, 4864, vocab_size=151_936, tied_embeddings=True),
    "qwen2.5-1.5b": _qwen(1536, 28, 12, 2, 8960, vocab_size=151_936, tied_embeddings=True),
    "qwen2.5-7b": _qwen(3584, 28, 28, 4, 18_944),
    "qwen2.5-14b": _qwen(5120, 48, 40, 8, 13_824),
    "qwen2.5-32b": _qwen(5120, 64, 40, 8, 27_648),
    "qwen2.5-72b": _qwen(8192, 80, 64, 8, 29_568),
    "gemma-2-2b": _gemma(2304, 26, 8, 4, 9216),
    "gemma-2-9b": _gemma(3584, 42, 16, 8, 14_336),
    "mixtral-8x7b": TransformerConfig(
        vocab_size=32_000,
        d_model=4096,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        d_ff=14_336,
        rope_theta=1_000_000.0,
        norm_eps=1e-5,
        tied_embeddings=False,
        moe=MoEConfig(experts=8, experts_per_token=2),
    ),
}
