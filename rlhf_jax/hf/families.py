"""The families of models that can be read and written, one row each.

A row says which entries of config.json are which settings of `TransformerConfig` (fields.py) and
which tensors are which parameters (rows.py). Both are read in both directions.
"""

from typing import NamedTuple

from rlhf_jax.hf.family_rows import (
    BOTH_NORMS,
    COMMON,
    GPT2_ROWS,
    LLAMA_ROWS,
    MLP,
    POST_NORMS,
    PRE_NORMS,
    expert_rows,
)
from rlhf_jax.hf.fields import (
    ACTIVATIONS,
    PATTERNS,
    ConfigField,
    Entries,
    activation,
    always,
    attention_scale,
    equal_heads,
    experts,
    heads,
    inner_width,
    only,
    optional,
    renamed,
    several,
    unused,
    windows,
)
from rlhf_jax.hf.rope import rope
from rlhf_jax.hf.rows import Row


class Family(NamedTuple):
    """name: beginning of its class names, "Llama" for LlamaModel.

    fields: every entry of config.json that matters.
    rows: every tensor.
    base: prefix of the trunk's tensors; checkpoints of a bare trunk have none.
    ignored: patterns (regular expressions) of tensors that hold no parameters.
    language_class: the class of the language model; "": name + "ForCausalLM".
    """

    name: str
    fields: tuple[ConfigField, ...]
    rows: tuple[Row, ...]
    base: str = "model."
    ignored: tuple[str, ...] = (r".*\.rotary_emb\.inv_freq",)
    language_class: str = ""

    @property
    def causal(self) -> str:
        """The class of the language model."""
        return self.language_class or f"{self.name}ForCausalLM"

    @property
    def reward(self) -> str:
        """The class of the reward model."""
        return f"{self.name}ForSequenceClassification"


def late_layers(entries: Entries, layers: int) -> list[bool]:
    """Qwen: the layers from max_window_layers on are local."""
    return [i >= entries.get("max_window_layers", 28) for i in range(layers)]


def alternate_layers(entries: Entries, layers: int) -> list[bool]:
    """Gemma 2: every other layer is local, the first one too."""
    return [i % 2 == 0 for i in range(layers)]


def most_layers(entries: Entries, layers: int) -> list[bool]:
    """Gemma 3: all but every sixth layer are local."""
    found = [entries[name] for name in PATTERNS if name in entries]
    period = found[0] if found else 6
    return [(i + 1) % period != 0 for i in range(layers)]


# Entries of config.json.
WIDTH = (
    renamed("vocab_size", "vocab_size"),
    renamed("hidden_size", "d_model"),
    renamed("num_hidden_layers", "num_layers"),
)
SIZES = (*WIDTH, renamed("intermediate_size", "d_ff"))
SILU = activation("hidden_act", "silu")
ATTENTION_BIAS = several("attention_bias", "qkv_bias", "out_bias", default=False)


def eps(default: float) -> ConfigField:
    """The number under the root of RMSNorm."""
    return renamed("rms_norm_eps", "norm_eps", default)


def tied(default: bool) -> ConfigField:
    """Whether the unembedding is the embedding."""
    return renamed("tie_word_embeddings", "tied_embeddings", default)


PLAIN = (*SIZES, SILU, tied(False))
GEMMA = (
    *SIZES,
    eps(1e-6),
    tied(True),
    ATTENTION_BIAS,
    only("use_bidirectional_attention", None, False),
    always(norm_offset=True, embed_scale=True),
)
GEMMA_2 = (
    *GEMMA,
    heads(kv_heads=4, head_dim=256),
    activation("hidden_activation", "gelu_pytorch_tanh"),
    only("hidden_act", "gelu_pytorch_tanh"),
    attention_scale(256),
    always(norm_placement="both"),
)
# The first releases of Gemma say "gelu" and mean its tanh approximation.
TANH = {"gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu_tanh"}
GPT2_ACTIVATIONS = {"gelu_new": "gelu_tanh", **ACTIVATIONS}

FAMILIES: dict[str, Family] = {
    "llama": Family(
        "Llama",
        (
            *PLAIN,
            heads(),
            rope(),
            eps(1e-6),
            ATTENTION_BIAS,
            renamed("mlp_bias", "mlp_bias", False),
            only("pretraining_tp", 1),
        ),
        LLAMA_ROWS,
    ),
    "qwen2": Family(
        "Qwen2",
        (
            *PLAIN,
            heads(kv_heads=32),
            rope(),
            eps(1e-6),
            windows(4096, late_layers, optional=True),
            only("use_mrope", False),
            always(qkv_bias=True),
        ),
        LLAMA_ROWS,
    ),
    "qwen3": Family(
        "Qwen3",
        (
            *PLAIN,
            heads(kv_heads=32, head_dim=128),
            rope(),
            eps(1e-6),
            ATTENTION_BIAS,
            windows(4096, late_layers, optional=True),
            always(qk_norm="head"),
        ),
        LLAMA_ROWS,
    ),
    "qwen3_moe": Family(
        "Qwen3Moe",
        (
            *WIDTH,
            renamed("moe_intermediate_size", "d_ff"),
            unused("intermediate_size", "d_ff"),  # the width of layers without experts
            SILU,
            tied(False),
            heads(kv_heads=4),
            rope(),
            eps(1e-6),
            ATTENTION_BIAS,
            windows(4096, optional=True),
            experts("num_experts", "num_local_experts", normalise=None),
            only("decoder_sparse_step", 1),
            only("mlp_only_layers", [], None),
            always(qk_norm="head"),
        ),
        (*COMMON, *PRE_NORMS, *expert_rows("mlp", "gate_proj", "up_proj", "down_proj")),
    ),
    "mistral": Family(
        "Mistral", (*PLAIN, heads(kv_heads=8), rope(), eps(1e-6), windows(4096)), LLAMA_ROWS
    ),
    "mixtral": Family(
        "Mixtral",
        (
            *PLAIN,
            heads(kv_heads=8),
            rope(1_000_000.0),
            eps(1e-5),
            windows(None),
            experts("num_local_experts", normalise=True),
        ),
        (*COMMON, *PRE_NORMS, *expert_rows("block_sparse_moe", "w1", "w3", "w2")),
    ),
    "gemma": Family(
        "Gemma",
        (
            *GEMMA,
            heads(kv_heads=16, head_dim=256),
            rope(),
            activation("hidden_act", "gelu_pytorch_tanh", TANH),
            only("hidden_activation", "gelu_pytorch_tanh", None),
        ),
        LLAMA_ROWS,
    ),
    "gemma2": Family(
        "Gemma2",
        (
            *GEMMA_2,
            rope(),
            windows(4096, alternate_layers),
            optional("attn_logit_softcapping", "attention_softcap", 50.0),
            optional("final_logit_softcapping", "final_softcap", 30.0),
        ),
        (*COMMON, *MLP, *BOTH_NORMS),
    ),
    "gemma3_text": Family(
        "Gemma3Text",
        (
            *GEMMA_2,
            rope(1_000_000.0, local_theta=10_000.0),
            windows(4096, most_layers),
            optional("attn_logit_softcapping", "attention_softcap", None),
            optional("final_logit_softcapping", "final_softcap", None),
            always(qk_norm="head"),
        ),
        (*COMMON, *MLP, *BOTH_NORMS),
        language_class="Gemma3ForCausalLM",
    ),
    "olmo2": Family(
        "Olmo2",
        (
            *PLAIN,
            heads(),
            rope(),
            eps(1e-5),
            ATTENTION_BIAS,
            always(norm_placement="post", qk_norm="full"),
        ),
        (*COMMON, *MLP, *POST_NORMS),
    ),
    "gpt2": Family(
        "GPT2",
        (
            renamed("vocab_size", "vocab_size"),
            renamed("n_embd", "d_model"),
            renamed("n_layer", "num_layers"),
            renamed("n_positions", "max_positions"),
            unused("n_ctx", "max_positions"),
            *(equal_heads("n_head", "n_embd"), inner_width("n_inner", "n_embd")),
            activation("activation_function", "gelu_new", GPT2_ACTIVATIONS),
            renamed("layer_norm_epsilon", "norm_eps", 1e-5),
            tied(True),
            only("scale_attn_weights", True),
            only("scale_attn_by_inverse_layer_idx", False),
            only("add_cross_attention", False),
            always(norm="layer", positions="learned", gated_mlp=False),
            always(qkv_bias=True, out_bias=True, mlp_bias=True),
        ),
        GPT2_ROWS,
        base="transformer.",
        ignored=(r".*\.attn\.(masked_)?bias",),
        language_class="GPT2LMHeadModel",
    ),
}
