"""config.json <-> TransformerConfig: every entry is used, harmless or refused by name."""

import json

import pytest

from rlhf_jax.hf import read_config
from rlhf_jax.hf.config import config_of, write_entries
from rlhf_jax.models import RopeScaling, TransformerConfig

# As published with Llama 3.2 1B.
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.45.0.dev0",
    "use_cache": True,
    "vocab_size": 128256,
}
NEW_ROPE = {**LLAMA["rope_scaling"], "rope_theta": 500000.0}
BARE = {name: value for name, value in LLAMA.items() if not name.startswith("rope")}


def write(folder, entries):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(entries))
    return folder


def test_a_published_file_says_what_its_model_is(tmp_path):
    found = read_config(write(tmp_path, LLAMA), dtype="bfloat16")
    assert found == TransformerConfig(
        vocab_size=128256,
        d_model=2048,
        num_layers=16,
        num_heads=32,
        num_kv_heads=8,
        head_dim=64,
        d_ff=8192,
        norm_eps=1e-5,
        max_positions=131072,
        rope_theta=500_000.0,
        rope_scaling=RopeScaling(
            kind="llama3",
            factor=32.0,
            original_max_positions=8192,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
        ),
        tied_embeddings=True,
        dtype="bfloat16",
    )


def test_both_names_of_rotary_settings_are_read():
    old = config_of(LLAMA, "old")
    assert config_of({**BARE, "rope_parameters": NEW_ROPE}, "new") == old
    assert config_of({**BARE, "rope_theta": 500000.0}, "plain").rope_scaling is None


def test_what_is_written_keeps_harmless_entries_and_reads_back():
    config = config_of(LLAMA, "")
    entries = write_entries(config, reward=False, source=LLAMA)
    assert config_of(entries, "") == config
    gone = {"transformers_version"}
    assert {name: entries[name] for name in LLAMA if name not in gone | {"torch_dtype"}} == {
        name: value for name, value in LLAMA.items() if name not in gone | {"torch_dtype"}
    }
    assert entries["torch_dtype"] == "float32"


def test_a_model_without_a_source_gets_the_first_family_that_computes_it():
    sizes = {
        "vocab_size": 9,
        "d_model": 8,
        "num_layers": 1,
        "num_heads": 2,
        "num_kv_heads": 1,
        "head_dim": 4,
        "d_ff": 8,
    }
    kinds = {"llama": {}, "qwen2": {"qkv_bias": True}, "mistral": {"sliding_window": 4}}
    for kind, settings in kinds.items():
        config = TransformerConfig(**sizes, **settings)
        assert write_entries(config, reward=False)["model_type"] == kind
    odd = TransformerConfig(**sizes, norm="layer", embed_scale=True)
    with pytest.raises(ValueError, match=r"no model of llama or .* computes this"):
        write_entries(odd, reward=False)


def test_a_source_of_another_family_is_refused():
    config = config_of({**LLAMA, "attention_bias": False}, "")
    with pytest.raises(ValueError, match="no model of qwen2 computes this"):
        write_entries(config, reward=False, source={"model_type": "qwen2"})


BAD = {
    "unknown family": ({"model_type": "mamba"}, "model_type = 'mamba': supported are llama, "),
    "no family": ({"model_type": None}, "model_type = None"),
    "unknown class": (
        {"architectures": ["LlamaForMaskedLM"]},
        "architectures = 'LlamaForMaskedLM'",
    ),
    "unknown entry": ({"logit_scale": 0.5}, "logit_scale = 0.5"),
    "quantised": ({"quantization_config": {"bits": 4}}, "quantization_config"),
    "activation": ({"hidden_act": "relu"}, "hidden_act = 'relu': expected one of silu"),
    "tensor parallel": ({"pretraining_tp": 2}, "pretraining_tp = 2"),
    "rope type": ({"rope_scaling": {"rope_type": "longrope"}}, "rope_type = 'longrope'"),
    "rope number": ({"rope_scaling": {"type": "linear", "beta": 1}}, r"rope_scaling.beta = 1"),
    "part of a head": ({"rope_scaling": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
    "no size": ({"hidden_size": None}, "hidden_size"),
    "wrong type": ({"vocab_size": "many"}, "vocab_size must be of type int, got 'many'"),
    "heads": ({"num_key_value_heads": 5}, "num_kv_heads"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD.keys())
def test_an_entry_that_is_not_computed_is_refused_by_name(tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_config(write(tmp_path, LLAMA | change))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_config_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_config(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="expected a JSON object, got list"):
        read_config(tmp_path)


SCALINGS = {
    "linear": ({"rope_type": "linear", "factor": 2.0}, RopeScaling(kind="linear", factor=2.0)),
    "dynamic": (
        {"type": "dynamic", "factor": 2.0},
        RopeScaling(kind="dynamic", factor=2.0, original_max_positions=131072),
    ),
    "yarn": (
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
        RopeScaling(kind="yarn", factor=4.0, original_max_positions=32768),
    ),
    "yarn of DeepSeek": (
        # (0.1 * 1 * log 4 + 1) / (0.1 * 0.5 * log 4 + 1) = 1.138629 / 1.069315
        {"rope_type": "yarn", "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 0.5},
        RopeScaling(
            kind="yarn",
            factor=4.0,
            original_max_positions=131072,
            attention_factor=1.1386294361119891 / 1.0693147180559945,
        ),
    ),
}


@pytest.mark.parametrize(("given", "wanted"), SCALINGS.values(), ids=SCALINGS.keys())
def test_rope_scaling_is_read_and_written(given, wanted):
    config = config_of({**LLAMA, "rope_scaling": given}, "")
    assert config.rope_scaling == wanted
    assert config_of(write_entries(config, reward=False), "") == config
