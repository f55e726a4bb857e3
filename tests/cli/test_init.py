"""New models: sizes, tokenizers, and what is refused."""

import json

import jax
import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.init import Size, new_vocabulary
from rlhf_jax.hf import load_model, random_model


def run(*words):
    return main([str(word) for word in words])


def test_a_new_model_has_a_tokenizer_of_the_texts_and_is_a_llama_of_the_size(
    tmp_path, files, capsys
):
    out = tmp_path / "new"
    words = ("init", "--data", files / "pairs.jsonl", "--vocab-size", "261", "--out", out)
    assert run(*words, "--width", "8", "--layers", "1", "--heads", "2") == 0
    found = load_model(out)
    config = found.config
    assert (config.d_model, config.num_layers, config.head_dim) == (8, 1, 4)
    assert config.d_ff == 24  # 8/3 of 8 is 21.3; a multiple of 8
    # Bytes, four special tokens and one merge, of digits: "10?" and "11?" are prompts.
    assert found.vocabulary is not None
    assert config.vocab_size == found.vocabulary.size == 261
    assert {"10", "11"} & set(found.vocabulary.tokenizer.get_vocab())
    assert json.loads((out / "config.json").read_text())["model_type"] == "llama"
    count = sum(x.size for x in jax.tree.leaves(found.params))
    assert f"{count} parameters, 261 tokens" in capsys.readouterr().out
    assert run(*words, "--width", "8", "--layers", "1", "--heads", "2") == 2
    assert "has files already" in capsys.readouterr().err


def test_a_model_like_another_has_its_shape_its_tokenizer_and_other_weights(tmp_path, model):
    assert run("init", "--like", model, "--seed", "1", "--out", tmp_path / "new") == 0
    old, new = load_model(model), load_model(tmp_path / "new")
    assert new.config == old.config
    assert new.files["tokenizer.json"] == old.files["tokenizer.json"]
    assert not np.allclose(new.params["trunk"]["embed"], old.params["trunk"]["embed"])
    drawn = random_model(model, seed=1).params
    assert jax.tree.all(jax.tree.map(np.array_equal, drawn, new.params))


def test_contents_of_messages_train_the_tokenizer_and_their_roles_do_not(tmp_path):
    message = {"role": "user", "content": "zxzxzx"}
    answers = {
        "chosen": [{"role": "assistant", "content": "zx"}],
        "rejected": [message | {"role": "assistant"}],
    }
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": [message], **answers}) + "\n")
    tokens = set(new_vocabulary(tmp_path / "rows.jsonl", 300).tokenizer.get_vocab())
    assert "zx" in tokens
    assert not {"us", "as"} & tokens


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "rlhf init needs --data FILE for a tokenizer, or --like FOLDER"),
        (["--like", "MODEL", "--width", "8"], "--like has the shape"),
        (["--width", "20"], "--width must be a multiple of twice the heads, 8, got 20"),
        (["--like", "nowhere"], "nowhere/config.json: no such file"),
    ],
)
def test_a_model_that_cannot_be_made_is_refused(words, message, tmp_path, model, capsys):
    words = [str(model) if word == "MODEL" else word for word in words]
    assert run("init", *words, "--out", tmp_path / "new") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_the_default_size_is_valid():
    assert Size().width % (2 * Size().heads) == 0
