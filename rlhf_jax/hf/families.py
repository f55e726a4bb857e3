"""The families of models that can be read and written, one row each.

A row says which entries of config.json are which settings of `TransformerConfig` (fields.py) and
which tensors are which parameters (rows.py). Both are read in both directions.
"""

from typing import NamedTuple

from rlhf_jax.hf.fields import Field, activation, always, heads, only, same, several, windows
from rlhf_jax.hf.rope import rope
from rlhf_jax.hf.rows import FLAT, SAME, Row, linear


class Family(NamedTuple):
    """name: beginning of the class names, "Llama" for LlamaForCausalLM.

    base: prefix of the trunk's tensors; checkpoints of a bare trunk have none.
    fields: every entry of config.json that matters.
    rows: every tensor. Rows of parameters that a config doesn't have are skipped.
    ignored: patterns (regular expressions) of tensors that hold no parameters.
    causal: end of the class name of the language model.
    """

    name: str
    fields: tuple[Field, ...]
    rows: tuple[Row, ...]
    base: str = "model."
    ignored: tuple[str, ...] = (r".*\.rotary_emb\.inv_freq",)
    causal: str = "ForCausalLM"


LAYER = "{base}layers.{layer}."
LAYERS = "trunk.layers."

# All families but GPT-2 name these alike.
SIZES = (
    same("vocab_size", "vocab_size"),
    same("hidden_size", "d_model"),
    same("num_hidden_layers", "num_layers"),
    same("intermediate_size", "d_ff"),
)
PLAIN = (*SIZES, activation("hidden_act", "silu"), only("pretraining_tp", 1))
HEADS = (
    Row("unembed", "lm_head.weight", SAME),
    Row("head.weight", "score.weight", linear(1)),
)
ATTENTION = tuple(
    row
    for ours, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"))
    for row in (
        Row(f"{LAYERS}attention.{ours}", f"{LAYER}self_attn.{theirs}.weight", linear(1)),
        Row(f"{LAYERS}attention.{ours}_bias", f"{LAYER}self_attn.{theirs}.bias", FLAT),
    )
)
TRUNK = (
    Row("trunk.embed", "{base}embed_tokens.weight", SAME),
    Row("trunk.norm.scale", "{base}norm.weight", SAME),
    *ATTENTION,
    Row(f"{LAYERS}attention.out", f"{LAYER}self_attn.o_proj.weight", linear(2)),
)
MLP = tuple(
    Row(f"{LAYERS}mlp.{name}", f"{LAYER}mlp.{name}_proj.weight", linear(1))
    for name in ("gate", "up", "down")
)
PRE_NORMS = (
    Row(f"{LAYERS}attention_norm.scale", f"{LAYER}input_layernorm.weight", SAME),
    Row(f"{LAYERS}mlp_norm.scale", f"{LAYER}post_attention_layernorm.weight", SAME),
)
LLAMA_ROWS = (*TRUNK, *MLP, *PRE_NORMS, *HEADS)


def late_layers(entries, layers):
    """Qwen: the layers from max_window_layers on."""
    return [i >= entries.get("max_window_layers", 28) for i in range(layers)]


FAMILIES: dict[str, Family] = {
    "llama": Family(
        "Llama",
        (
            *PLAIN,
            heads(),
            rope(),
            same("rms_norm_eps", "norm_eps", 1e-6),
            same("tie_word_embeddings", "tied_embeddings", False),
            several("attention_bias", "qkv_bias", "out_bias", default=False),
            same("mlp_bias", "mlp_bias", False),
        ),
        LLAMA_ROWS,
    ),
    "qwen2": Family(
        "Qwen2",
        (
            *PLAIN,
            heads(kv_heads=32),
            rope(),
            same("rms_norm_eps", "norm_eps", 1e-6),
            same("tie_word_embeddings", "tied_embeddings", False),
            windows(4096, late_layers, optional=True),
            only("use_mrope", False),
            # No entry says it: queries, keys and values have biases, the output has none.
            always(qkv_bias=True),
        ),
        LLAMA_ROWS,
    ),
    "mistral": Family(
        "Mistral",
        (
            *PLAIN,
            heads(kv_heads=8),
            rope(),
            same("rms_norm_eps", "norm_eps", 1e-6),
            same("tie_word_embeddings", "tied_embeddings", False),
            windows(4096),
        ),
        LLAMA_ROWS,
    ),
}
