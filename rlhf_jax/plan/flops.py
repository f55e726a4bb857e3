"""The matrix products that a method needs, counted by hand: forward, and twice that backward.

    layers      2 per weight and token           (k of E experts, and the router)
    attention   4 H h per layer and pair of tokens that attend: two products
    unembedding 2 d V per position with a log-prob

What a program computes beyond these is recomputation (`remat`, log-probs in chunks), masked
attention, and padding of experts.
"""

from typing import NamedTuple

from rlhf_jax.models import TransformerConfig
from rlhf_jax.plan.programs import Workload


class TokenRows(NamedTuple):
    """TokenRows of L tokens, of which `predicted` get a log-prob."""

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


def useful_flops(job: Workload) -> dict[str, float | int]:
    """Name of a program -> the FLOPs that it needs, on all chips together."""
    config, length = job.config, job.prompt_length + job.answer_length
    answers = job.batch * job.samples
    policy = forward_flops(config, TokenRows(1, length, job.answer_length))
    scalar = forward_flops(config, TokenRows(1, length))  # a head of scalars is next to nothing
    prompts = job.batch * forward_flops(config, TokenRows(1, job.prompt_length))
    answered = answers * (policy - forward_flops(config, TokenRows(1, job.prompt_length)))
    if job.method == "sample":
        token = forward_flops(config, TokenRows(1, 1, 1), pairs=config.num_layers * length)
        return {"prefill": prompts, "decode": answers * token}
    if job.method in ("ppo", "grpo"):
        critic = scalar if job.method == "ppo" else 0.0
        return {
            "draw": prompts + answered,
            "score": answers * (policy + scalar + critic),
            "step": 3 * answers * (policy + critic),
        }
    step = {"sft": policy, "pairs": 2 * policy, "reward": 2 * scalar}[job.method]
    return {"step": 3 * job.batch * step}
