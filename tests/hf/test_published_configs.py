"""config.json as the families publish it: accepted whole, and what each says about its model."""

import pytest

from rlhf_jax.hf.config import config_of, write_entries
from rlhf_jax.models import MoEConfig

COMMON = {"use_cache": True, "initializer_range": 0.02, "attention_dropout": 0.0}
PUBLISHED = {
    "gpt2": {
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.1,
        "bos_token_id": 50256,
        "embd_pdrop": 0.1,
        "eos_token_id": 50256,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05,
        "model_type": "gpt2",
        "n_ctx": 1024,
        "n_embd": 768,
        "n_head": 12,
        "n_layer": 12,
        "n_positions": 1024,
        "resid_pdrop": 0.1,
        "summary_activation": None,
        "summary_first_dropout": 0.1,
        "summary_proj_to_labels": True,
        "summary_type": "cls_index",
        "summary_use_proj": True,
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
        "vocab_size": 50257,
    },
    "Qwen2.5-0.5B": COMMON
    | {
        "architectures": ["Qwen2ForCausalLM"],
        "bos_token_id": 151643,
        "eos_token_id": 151643,
        "hidden_act": "silu",
        "hidden_size": 896,
        "intermediate_size": 4864,
        "max_position_embeddings": 32768,
        "max_window_layers": 24,
        "model_type": "qwen2",
        "num_attention_heads": 14,
        "num_hidden_layers": 24,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": 32768,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.40.1",
        "use_mrope": False,
        "use_sliding_window": False,
        "vocab_size": 151936,
    },
    "Qwen3-30B-A3B": COMMON
    | {
        "architectures": ["Qwen3MoeForCausalLM"],
        "attention_bias": False,
        "bos_token_id": 151643,
        "decoder_sparse_step": 1,
        "eos_token_id": 151645,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "max_position_embeddings": 40960,
        "max_window_layers": 48,
        "mlp_only_layers": [],
        "model_type": "qwen3_moe",
        "moe_intermediate_size": 768,
        "norm_topk_prob": True,
        "num_attention_heads": 32,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 48,
        "num_key_value_heads": 4,
        "output_router_logits": False,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "router_aux_loss_coef": 0.001,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "vocab_size": 151936,
    },
    "gemma-2b": COMMON
    | {
        "architectures": ["GemmaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "head_dim": 256,
        "hidden_act": "gelu",
        "hidden_activation": None,
        "hidden_size": 2048,
        "intermediate_size": 16384,
        "max_position_embeddings": 8192,
        "model_type": "gemma",
        "num_attention_heads": 8,
        "num_hidden_layers": 18,
        "num_key_value_heads": 1,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "vocab_size": 256000,
    },
    "gemma-2-2b": COMMON
    | {
        "architectures": ["Gemma2ForCausalLM"],
        "attention_bias": False,
        "attn_logit_softcapping": 50.0,
        "bos_token_id": 2,
        "cache_implementation": "hybrid",
        "eos_token_id": 1,
        "final_logit_softcapping": 30.0,
        "head_dim": 256,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "max_position_embeddings": 8192,
        "model_type": "gemma2",
        "num_attention_heads": 8,
        "num_hidden_layers": 26,
        "num_key_value_heads": 4,
        "pad_token_id": 0,
        "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
        "vocab_size": 256000,
    },
    "gemma-3-1b": COMMON
    | {
        "architectures": ["Gemma3ForCausalLM"],
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "bos_token_id": 2,
        "cache_implementation": "hybrid",
        "eos_token_id": 1,
        "final_logit_softcapping": None,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 1152,
        "intermediate_size": 6912,
        "max_position_embeddings": 32768,
        "model_type": "gemma3_text",
        "num_attention_heads": 4,
        "num_hidden_layers": 26,
        "num_key_value_heads": 1,
        "pad_token_id": 0,
        "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": 512,
        "sliding_window_pattern": 6,
        "vocab_size": 262144,
    },
    "Mistral-7B-v0.1": {
        "architectures": ["MistralForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "max_position_embeddings": 32768,
        "model_type": "mistral",
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
        "tie_word_embeddings": False,
        "vocab_size": 32000,
    },
    "Mixtral-8x7B-v0.1": COMMON
    | {
        "architectures": ["MixtralForCausalLM"],
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "max_position_embeddings": 32768,
        "model_type": "mixtral",
        "num_attention_heads": 32,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "num_local_experts": 8,
        "output_router_logits": False,
        "rms_norm_eps": 1e-05,
        "rope_theta": 1000000.0,
        "router_aux_loss_coef": 0.02,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "vocab_size": 32000,
    },
    "OLMo-2-1124-7B": COMMON
    | {
        "architectures": ["Olmo2ForCausalLM"],
        "attention_bias": False,
        "eos_token_id": 100257,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "max_position_embeddings": 4096,
        "model_type": "olmo2",
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 32,
        "pad_token_id": 100277,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 500000,
        "tie_word_embeddings": False,
        "vocab_size": 100352,
    },
}
# What is not a number of the same name.
SAYS = {
    "gpt2": {"d_ff": 3072, "head_dim": 64, "positions": "learned", "activation": "gelu_tanh"},
    "Qwen2.5-0.5B": {"head_dim": 64, "qkv_bias": True, "sliding_window": None},
    "Qwen3-30B-A3B": {"d_ff": 768, "qk_norm": "head", "tied_embeddings": False},
    "gemma-2b": {"activation": "gelu_tanh", "tied_embeddings": True, "attention_scale": None},
    "gemma-2-2b": {"layer_windows": (True, False) * 13, "attention_scale": 1 / 16},
    "gemma-3-1b": {
        "layer_windows": (*(True,) * 5, False) * 4 + (True, True),
        "rope_local_theta": 10_000.0,
    },
    "Mistral-7B-v0.1": {"sliding_window": 4096, "layer_windows": None, "head_dim": 128},
    "Mixtral-8x7B-v0.1": {"d_ff": 14336, "sliding_window": None},
    "OLMo-2-1124-7B": {"norm_placement": "post", "qk_norm": "full"},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_file_is_read_whole(name):
    config = config_of(PUBLISHED[name], name)
    assert {setting: getattr(config, setting) for setting in SAYS[name]} == SAYS[name]
    entries = write_entries(config, reward=False, source=PUBLISHED[name])
    assert config_of(entries, name) == config
    assert entries["model_type"] == PUBLISHED[name]["model_type"]
    assert entries["architectures"] == PUBLISHED[name]["architectures"]


def test_experts_are_counted_and_weighted():
    qwen, mixtral = (
        config_of(PUBLISHED[name], "").moe for name in ("Qwen3-30B-A3B", "Mixtral-8x7B-v0.1")
    )
    assert qwen == MoEConfig(
        experts=128, experts_per_token=8, normalise_weights=True, load_balance_weight=0.001
    )
    assert mixtral == MoEConfig(experts=8, experts_per_token=2, load_balance_weight=0.02)


REFUSED = {
    "dense layers": ("Qwen3-30B-A3B", {"mlp_only_layers": [0]}, r"mlp_only_layers = \[0\]"),
    "some experts": ("Qwen3-30B-A3B", {"decoder_sparse_step": 2}, "decoder_sparse_step = 2"),
    "both ways": ("gemma-2b", {"use_bidirectional_attention": True}, "use_bidirectional_att"),
    "other layers": ("gemma-2-2b", {"layer_types": ["chunked"] * 26}, "layer_types = "),
    "scaled by layer": (
        "gpt2",
        {"scale_attn_by_inverse_layer_idx": True},
        "scale_attn_by_inverse_layer_idx = True",
    ),
    "heads": ("gpt2", {"n_head": 7}, "n_embd = 768 must be a multiple of n_head = 7"),
    "soft cap": ("gemma-2-2b", {"final_logit_softcapping": "30"}, "must be a number or null"),
}


@pytest.mark.parametrize(("name", "change", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_an_entry_of_a_family_that_is_not_computed_is_refused(name, change, message):
    with pytest.raises(ValueError, match=message):
        config_of(PUBLISHED[name] | change, name)
