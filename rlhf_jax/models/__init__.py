"""Transformers as pure functions. The only folder that imports Flax."""

from rlhf_jax.models.config import TransformerConfig
from rlhf_jax.models.heads import (
    ScalarModel,
    make_reward_model,
    make_scalar_model,
    make_value_model,
)
from rlhf_jax.models.transformer import KVCache, Transformer, make_transformer

__all__ = [
    "KVCache",
    "ScalarModel",
    "Transformer",
    "TransformerConfig",
    "make_reward_model",
    "make_scalar_model",
    "make_transformer",
    "make_value_model",
]
