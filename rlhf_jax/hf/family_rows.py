"""The tensors of each family: tables of rows for families.py.

All families but GPT-2 have the same names outside the MLP and the norms of a layer. Rows of
parameters that a model doesn't have, such as biases, are skipped.
"""

from rlhf_jax.hf.rows import FLAT, SAME, Layout, Row, linear, transposed_linear

LLAMA_LAYER, GPT2_LAYER = "{base}layers.{layer}.", "{base}h.{layer}."
OUR_LAYER = "trunk.layers."


def layer_rows(prefix: str, names: dict[str, tuple[str, Layout]]) -> tuple[Row, ...]:
    """A row for each parameter of a layer, and one for its bias."""
    return tuple(
        row
        for ours, (theirs, layout) in names.items()
        for row in (
            Row(f"{OUR_LAYER}{ours}", f"{prefix}{theirs}.weight", layout),
            Row(f"{OUR_LAYER}{ours}_bias", f"{prefix}{theirs}.bias", FLAT),
        )
    )


def norm_rows(prefix: str, names: dict[str, str], ours: str = OUR_LAYER) -> tuple[Row, ...]:
    """Two rows for each norm; FLAT, as a norm of all heads is stored as one vector."""
    return tuple(
        row
        for name, theirs in names.items()
        for row in (
            Row(f"{ours}{name}.scale", f"{prefix}{theirs}.weight", FLAT),
            Row(f"{ours}{name}.bias", f"{prefix}{theirs}.bias", FLAT),
        )
    )


HEADS = (Row("unembed", "lm_head.weight", SAME), Row("head.weight", "score.weight", linear(1)))
ATTENTION = {
    "attention.query": ("self_attn.q_proj", linear(1)),
    "attention.key": ("self_attn.k_proj", linear(1)),
    "attention.value": ("self_attn.v_proj", linear(1)),
    "attention.out": ("self_attn.o_proj", linear(2)),
}
QK_NORMS = {"attention.query_norm": "self_attn.q_norm", "attention.key_norm": "self_attn.k_norm"}
COMMON = (
    Row("trunk.embed", "{base}embed_tokens.weight", SAME),
    *norm_rows("{base}", {"norm": "norm"}, "trunk."),
    *layer_rows(LLAMA_LAYER, ATTENTION),
    *norm_rows(LLAMA_LAYER, QK_NORMS),
    *HEADS,
)
MLP = layer_rows(
    LLAMA_LAYER,
    {f"mlp.{name}": (f"mlp.{name}_proj", linear(1)) for name in ("gate", "up", "down")},
)


def expert_rows(prefix: str, gate: str, up: str, down: str) -> tuple[Row, ...]:
    """The router, and the three matrices of each expert."""
    names = {"mlp.router": "gate"} | {
        f"mlp.{ours}": f"experts.{{expert}}.{theirs}"
        for ours, theirs in (("gate", gate), ("up", up), ("down", down))
    }
    return tuple(
        Row(f"{OUR_LAYER}{ours}", f"{LLAMA_LAYER}{prefix}.{theirs}.weight", linear(1))
        for ours, theirs in names.items()
    )


PRE_NORMS = norm_rows(
    LLAMA_LAYER, {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
)
POST_NORMS = norm_rows(
    LLAMA_LAYER,
    {
        "attention_post_norm": "post_attention_layernorm",
        "mlp_post_norm": "post_feedforward_layernorm",
    },
)
BOTH_NORMS = POST_NORMS + norm_rows(
    LLAMA_LAYER, {"attention_norm": "input_layernorm", "mlp_norm": "pre_feedforward_layernorm"}
)
LLAMA_ROWS = (*COMMON, *MLP, *PRE_NORMS)
GPT2_PARTS = tuple(
    row
    for k, name in enumerate(("query", "key", "value"))
    for row in (
        Row(
            f"{OUR_LAYER}attention.{name}",
            f"{GPT2_LAYER}attn.c_attn.weight",
            transposed_linear(1),
            (k, 3),
        ),
        Row(f"{OUR_LAYER}attention.{name}_bias", f"{GPT2_LAYER}attn.c_attn.bias", FLAT, (k, 3)),
    )
)
GPT2_ROWS = (
    Row("trunk.embed", "{base}wte.weight", SAME),
    Row("trunk.positions", "{base}wpe.weight", SAME),
    *norm_rows("{base}", {"norm": "ln_f"}, "trunk."),
    *norm_rows(GPT2_LAYER, {"attention_norm": "ln_1", "mlp_norm": "ln_2"}),
    *GPT2_PARTS,
    *layer_rows(
        GPT2_LAYER,
        {
            "attention.out": ("attn.c_proj", transposed_linear(2)),
            "mlp.up": ("mlp.c_fc", transposed_linear(1)),
            "mlp.down": ("mlp.c_proj", transposed_linear(1)),
        },
    ),
    *HEADS,
)
