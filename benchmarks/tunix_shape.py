"""The same model in Tunix. It imports nothing of this library: its environment is another one."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from tunix.models.qwen2.model import ModelConfig
from tunix.models.qwen2.params import create_model_from_safe_tensors


def tunix_model(folder: Path, sizes: Any) -> Any:
    """Tunix's model with the weights of the folder, in float32 on one device."""
    config = ModelConfig(
        num_layers=sizes.layers,
        vocab_size=sizes.vocab,
        embed_dim=sizes.width,
        hidden_dim=sizes.mlp,
        num_heads=sizes.heads,
        head_dim=sizes.head,
        num_kv_heads=sizes.kv_heads,
        rope_theta=10_000,
        norm_eps=1e-6,
        use_tied_embedding=True,
    )
    mesh = jax.make_mesh((1, 1), ("fsdp", "tp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    return create_model_from_safe_tensors(str(folder), config, mesh, dtype=jnp.float32)
