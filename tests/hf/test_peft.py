"""Adapters of `peft`, in and out: the same logits, and what is refused."""

import json

import jax
import numpy as np
import pytest
from random_params import random_params
from tiny_checkpoints import libraries, our_logits, padded, quiet, their_logits, write_checkpoint

from rlhf_jax.hf import load_model, load_reward, read_adapter, save_adapter
from rlhf_jax.models import LoRAConfig, make_lora, make_reward_model, make_transformer
from rlhf_jax.policies.language import language_reward, language_trajectory

SIZE = {
    "vocab_size": 37,
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
}
IDS, MASK = padded([[5, 17, 3, 31, 30], [7, 9], [36, 36, 2]])
KINDS = {
    "lora": {},
    "rslora": {"rank_stabilised": True},
    "dora": {"magnitudes": True, "targets": ("*/query", "*attention/out", "*/down")},
}


def write_model(folder, head="CausalLM", family="Llama"):
    extra = {"num_labels": 1} if head == "SequenceClassification" else {}
    return write_checkpoint(folder, family, head=head, **SIZE, **extra, pad_token_id=0)


def ours(model, **options):
    """An adapter of every attention and MLP weight and of lm_head, moved from its start."""
    chosen = {"rank": 3, "alpha": 5.0, "targets": ("*/attention/*", "*/mlp/*", "unembed")}
    make = make_reward_model if "head" in model.params else make_transformer
    lora = make_lora(LoRAConfig(**chosen | options), make(model.config).axes())
    return lora, random_params(lambda key: lora.init(key, model.params))


@pytest.fixture
def folder(tmp_path):
    """A model, and an adapter of its queries."""
    write_model(tmp_path / "model")
    model = load_model(tmp_path / "model")
    save_adapter(tmp_path / "adapter", model, *ours(model, targets=("*/query",)))
    return tmp_path


@pytest.mark.long
def test_an_adapter_comes_back_bit_for_bit(tmp_path):
    write_model(tmp_path / "model")
    model = load_model(tmp_path / "model")
    for name, options in KINDS.items():
        lora, adapter = ours(model, **options)
        save_adapter(tmp_path / name, model, lora, adapter, base="tiny")
        found, params = read_adapter(tmp_path / name, model)
        assert found.sides == lora.sides
        assert found.config.scale == lora.config.scale
        jax.tree.map(np.testing.assert_array_equal, params, adapter)
    entries = json.loads((tmp_path / "dora" / "adapter_config.json").read_text())
    assert entries["target_modules"] == ["down_proj", "o_proj", "q_proj"]
    assert entries["base_model_name_or_path"] == "tiny"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_peft_loads_ours_and_we_load_theirs(tmp_path, kind):
    torch, _ = libraries()
    with quiet():
        peft = pytest.importorskip("peft")
    write_model(tmp_path / "model")
    model = load_model(tmp_path / "model")
    lora, adapter = ours(model, **KINDS[kind])
    save_adapter(tmp_path / "ours", model, lora, adapter)
    with quiet():
        theirs = peft.PeftModel.from_pretrained(write_model(tmp_path / "again"), tmp_path / "ours")
    found = our_logits(model.config, lora.merge(model.params, adapter), IDS, MASK)
    for each in (theirs, theirs.merge_and_unload()):
        assert np.abs(found - their_logits(each.eval(), IDS, MASK))[MASK].max() < 2e-5
    options = {"use_rslora": kind == "rslora", "use_dora": kind == "dora", "lora_dropout": 0.1}
    modules = ["q_proj", "v_proj", "gate_proj"] + ["lm_head"] * (kind != "dora")
    with quiet():
        config = peft.LoraConfig(r=3, lora_alpha=7, target_modules=modules, **options)
        theirs = peft.get_peft_model(write_model(tmp_path / "third"), config).eval()
        with torch.no_grad():
            for name, weight in theirs.named_parameters():
                if "lora_" in name:
                    weight.copy_(weight + 0.2 * torch.randn_like(weight))
        theirs.save_pretrained(tmp_path / "theirs")
    lora, adapter = read_adapter(tmp_path / "theirs", model)
    found = our_logits(model.config, lora.merge(model.params, adapter), IDS, MASK)
    assert np.abs(found - their_logits(theirs, IDS, MASK))[MASK].max() < 2e-5


@pytest.mark.slow
def test_a_reward_model_with_its_head_goes_to_peft(tmp_path):
    torch, _ = libraries()
    with quiet():
        peft = pytest.importorskip("peft")
    write_model(tmp_path / "model", "SequenceClassification")
    model = load_reward(tmp_path / "model")
    lora, adapter = ours(model, targets=("*/query",), trained=("head/weight",))
    save_adapter(tmp_path / "ours", model, lora, adapter)
    entries = json.loads((tmp_path / "ours" / "adapter_config.json").read_text())
    assert (entries["task_type"], entries["modules_to_save"]) == ("SEQ_CLS", ["score"])
    with quiet():
        base = write_model(tmp_path / "again", "SequenceClassification")
        theirs = peft.PeftModel.from_pretrained(base, tmp_path / "ours").eval()
        ids = torch.tensor([[5, 17, 3, 31]])
        with torch.no_grad():
            wanted = theirs(ids, attention_mask=torch.ones_like(ids)).logits.item()
    full = np.ones((1, 2), bool)
    trajectory = language_trajectory(np.array([[5, 17]]), full, np.array([[3, 31]]), full)
    scores = language_reward(make_reward_model(model.config)).scores
    assert float(scores(lora.merge(model.params, adapter), trajectory)[0]) == pytest.approx(
        wanted, abs=2e-5
    )
    found, params = read_adapter(tmp_path / "ours", model)
    jax.tree.map(np.testing.assert_array_equal, params, adapter)
    assert found.config.trained == ("head/weight",)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("peft_type", "LOHA"),
        ("bias", "all"),
        ("init_lora_weights", "pissa"),
        ("rank_pattern", {"q_proj": 4}),
        ("layers_to_transform", 0),
        ("lora_bias", True),
        ("unheard_of", 1),
        ("r", "8"),
    ],
)
def test_an_entry_that_is_not_supported_is_named(folder, entry, value):
    path = folder / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {entry: value}))
    with pytest.raises(ValueError, match=f"adapter_config.json: {entry} = "):
        read_adapter(folder / "adapter", load_model(folder / "model"))


def test_entries_of_training_alone_are_no_obstacle(folder):
    path = folder / "adapter" / "adapter_config.json"
    more = {
        "lora_dropout": 0.1,
        "layers_to_transform": None,
        "loftq_config": {},
        "eva_config": None,
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    lora, _ = read_adapter(folder / "adapter", load_model(folder / "model"))
    assert list(lora.sides) == ["trunk/layers/attention/query"]


def test_tensors_of_another_model_are_named(folder):
    write_checkpoint(folder / "deep", "Llama", **SIZE | {"num_hidden_layers": 3})
    write_checkpoint(folder / "flat", "Llama", **SIZE | {"num_hidden_layers": 1})
    write_checkpoint(folder / "wide", "Llama", **SIZE | {"hidden_size": 32})
    for name, message in (
        ("deep", r"layers\.2\.self_attn\.q_proj\.lora_A\.weight is missing"),
        ("flat", r"layers\.1\.self_attn\.q_proj\.lora_A\.weight has no place in this model"),
        ("wide", r"q_proj\.lora_A\.weight has shape \(3, 16\), .* \(3, 32\)"),
    ):
        with pytest.raises(ValueError, match=message):
            read_adapter(folder / "adapter", load_model(folder / name))


def test_a_pickle_is_refused(folder):
    (folder / "adapter" / "adapter_model.safetensors").rename(
        folder / "adapter" / "adapter_model.bin"
    )
    with pytest.raises(ValueError, match=r"no adapter_model\.safetensors.*pickle"):
        read_adapter(folder / "adapter", load_model(folder / "model"))


@pytest.mark.long
def test_what_peft_has_no_place_for_is_named(folder):
    model = load_model(folder / "model")
    for options, message in (
        ({"targets": ("*embed",)}, r"no like adapter of 'trunk\.embed'"),
        ({"targets": ("unembed",), "magnitudes": True}, "no like adapter of 'unembed'"),
    ):
        with pytest.raises(ValueError, match=message):
            save_adapter(folder / "other", model, *ours(model, **options))
    with pytest.raises(ValueError, match="has files already"):
        save_adapter(folder / "adapter", model, *ours(model))
