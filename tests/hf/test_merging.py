"""Means of models and sums of changes, by hand; adapters as `peft` merges them; what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_checkpoints import libraries, our_logits, padded, quiet, their_logits, write_checkpoint
from tokenizers import Tokenizer

from rlhf_jax.cli import main
from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.hf import Pretrained, add_changes, load_any, load_model, mean_model, save_model
from rlhf_jax.models import TransformerConfig, make_reward_model, make_transformer

SIZE = {"d_model": 4, "num_layers": 1, "num_heads": 1, "num_kv_heads": 1, "head_dim": 4, "d_ff": 4}
WORDS = ("one two", "two one three")


def write(folder, value, *, words=None, make=make_transformer, **size):
    """A model with every weight equal to `value`."""
    config = TransformerConfig(vocab_size=9, **SIZE | size)
    shapes = jax.eval_shape(make(config).init, jax.random.key(0))
    params = jax.tree.map(lambda x: jnp.full(x.shape, value, x.dtype), shapes)
    if "head" in params:
        params["head"]["bias"] = jnp.zeros(())
    vocabulary = None if words is None else standard_vocabulary(train_word_tokenizer([words]))
    save_model(folder, Pretrained(config, params, vocabulary))
    return folder


def values(model):
    """The values that its weights have."""
    return {float(x) for leaf in jax.tree.leaves(model.params) for x in np.unique(leaf)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return [write(root / name, value) for name, value in zip("abc", (1.0, 2.0, 4.0), strict=True)]


def test_a_mean_is_weighted(folders):
    # 0.5 * 1 + 0.25 * 2 + 0.25 * 4 = 2
    assert values(mean_model(folders, [0.5, 0.25, 0.25])) == {2.0}


def test_changes_are_added_to_their_base(folders):
    base, *others = folders
    # 1 + 0.5 (2 - 1) + 2 (4 - 1) = 7.5
    assert values(add_changes(base, others, [0.5, 2.0])) == {7.5}


@pytest.mark.long
def test_a_mean_of_equal_models_is_the_model_bit_for_bit(tmp_path):
    folder = write(tmp_path / "odd", 0.1)
    assert values(mean_model([folder] * 3, [0.3, 0.3, 0.4])) == values(load_model(folder))


def test_weights_that_do_not_fit_are_refused(folders):
    with pytest.raises(ValueError, match=r"must sum to 1, got 0\.9"):
        mean_model(folders[:2], [0.5, 0.4])
    with pytest.raises(ValueError, match="2 models and 3 weights"):
        mean_model(folders[:2], [0.5, 0.25, 0.25])


@pytest.mark.long
def test_models_that_differ_are_refused_by_the_name_of_the_difference(tmp_path, folders):
    cases = {
        "deep": ({"num_layers": 2}, "deep: num_layers is 2, in .*a it is 1"),
        "reward": ({"make": make_reward_model}, "reward: a reward model is True"),
        "biased": ({"qkv_bias": True}, "biased: model_type is qwen2, in .*a it is llama"),
    }
    for name, (options, message) in cases.items():
        other = write(tmp_path / name, 1.0, **options)
        with pytest.raises(ValueError, match=message):
            add_changes(folders[0], [other], [1.0])
    spoken = [write(tmp_path / f"words{i}", 1.0, words=each) for i, each in enumerate(WORDS)]
    with pytest.raises(ValueError, match="words1: the token 'three' has id 5"):
        mean_model(spoken, [0.5, 0.5])


@pytest.mark.long
def test_the_command_keeps_the_tokenizer_and_writes_another_precision(tmp_path, capsys):
    first = write(tmp_path / "first", 1.0, words=WORDS[0], make=make_reward_model)
    other = write(tmp_path / "other", 2.0, words=WORDS[0], make=make_reward_model)
    words = ["merge", "--models", first, other, "--weights", "0.75", "0.25"]
    words = [str(word) for word in words]
    assert main([*words, "--out", str(tmp_path / "mean"), "--dtype", "bfloat16"]) == 0
    found = load_any(tmp_path / "mean", param_dtype="bfloat16")
    # 0.75 * 1 + 0.25 * 2; the bias of a head is 0.
    assert values(found) == {1.25, 0.0}
    files = [
        Tokenizer.from_file(str(each / "tokenizer.json")) for each in (first, tmp_path / "mean")
    ]
    assert files[0].get_vocab() == files[1].get_vocab()
    size = [(each / "model.safetensors").stat().st_size for each in (first, tmp_path / "mean")]
    assert size[1] < size[0]
    for wrong, message in (
        (["merge"], "needs --model and --adapter, or --models"),
        (["merge", "--adapter", str(first)], "--adapter needs --model"),
        ([*words[:2], str(first), str(tmp_path)], "config.json"),
    ):
        assert main([*wrong, "--out", str(tmp_path / "no")]) == 2
        found = capsys.readouterr().err
        assert message in found
        assert len(found.splitlines()) == 1
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_an_adapter_is_merged_as_peft_merges_it(tmp_path):
    torch, _ = libraries()
    with quiet():
        peft = pytest.importorskip("peft")
    size = {"vocab_size": 37, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32}
    base = write_checkpoint(tmp_path / "model", "Llama", **size, **heads)
    with quiet():
        config = peft.LoraConfig(r=3, lora_alpha=7, target_modules=["q_proj", "down_proj"])
        theirs = peft.get_peft_model(base, config).eval()
        with torch.no_grad():
            for name, weight in theirs.named_parameters():
                if "lora_" in name:
                    weight.copy_(weight + 0.2 * torch.randn_like(weight))
        theirs.save_pretrained(tmp_path / "adapter")
        merged = theirs.merge_and_unload()
    words = ["merge", "--model", "model", "--adapter", "adapter", "--out", "merged"]
    paths = [
        word if word.startswith("--") or word == "merge" else tmp_path / word for word in words
    ]
    assert main([str(word) for word in paths]) == 0
    found = load_model(tmp_path / "merged")
    ids, mask = padded([[5, 17, 3, 31, 30], [7, 9], [36, 36, 2]])
    ours = our_logits(found.config, found.params, ids, mask)
    assert np.abs(ours - their_logits(merged, ids, mask))[mask].max() < 2e-5
