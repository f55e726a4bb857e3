"""The matrix products of a forward pass, counted from the sizes of the model.

    layers      2 per weight and token           (k of E experts, and the router)
    attention   4 H h per layer and pair of tokens that attend: two products
    unembedding 2 d V per position with a log-prob

The backward pass has twice as many, or as many where the weights are frozen.
"""

from typing import NamedTuple

from rlhf_jax.models.config import TransformerConfig


class TokenRows(NamedTuple):
    """Rows of L tokens, of which `predicted` get a log-prob."""

    count: int
    length: int
    predicted: int = 0


def layer_weights(config: TransformerConfig) -> int:
    """Weights of all layers that multiply a token, without norms and biases."""
    d, h = config.d_model, config.head_dim
    attention = d * h * (2 * config.num_heads + 2 * config.num_kv_heads)
    mlp = (3 if config.gated_mlp else 2) * d * config.d_ff
    if config.moe:
        mlp = config.moe.experts_per_token * mlp + d * config.moe.experts
    return config.num_layers * (attention + mlp)


def causal_pairs(config: TransformerConfig, length: int) -> int:
    """Pairs of tokens of a row that attend, summed over the layers."""

    def pairs(window: int) -> int:
        window = min(window, length)
        return window * (window + 1) // 2 + (length - window) * window

    local = sum(config.local_layers)
    return local * pairs(config.sliding_window or length) + (config.num_layers - local) * pairs(
        length
    )


def forward_flops(
    config: TransformerConfig, rows: TokenRows, *, pairs: int | None = None
) -> float | int:
    """One pass over all rows.

    Args:
      pairs: of tokens that attend in a row, summed over layers; None for `causal_pairs`.
    """
    pairs = causal_pairs(config, rows.length) if pairs is None else pairs
    tokens = 2.0 * layer_weights(config) * rows.length
    attention = 4.0 * config.num_heads * config.head_dim * pairs
    unembedding = 2.0 * config.d_model * config.vocab_size * rows.predicted
    return rows.count * (tokens + attention + unembedding)
