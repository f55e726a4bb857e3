"""Folders as wholes: the tokenizer, the stop ids and the files that a saved model keeps."""

import json

import jax
import numpy as np
import pytest
from tiny_checkpoints import libraries, load_theirs, our_answers, padded, quiet, their_answers

from rlhf_jax.data.tokenizer import encode_prompts, standard_vocabulary, train_bpe_tokenizer
from rlhf_jax.hf import Pretrained, load_model, save_model
from rlhf_jax.models import TransformerConfig, make_transformer

TEXTS = ["once upon a time there was a dog", "the dog and the cat"]
VOCABULARY = standard_vocabulary(train_bpe_tokenizer(TEXTS, vocab_size=280))
CONFIG = TransformerConfig(
    vocab_size=VOCABULARY.size + 3,  # padded, as many published tables are
    d_model=16,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    d_ff=24,
)
PARAMS = jax.tree.map(lambda x: x + 0.1, make_transformer(CONFIG).init(jax.random.key(0)))
OWN = Pretrained(CONFIG, PARAMS, VOCABULARY)


def ids_of(vocabulary):
    return vocabulary.pad_id, vocabulary.bos_id, vocabulary.stop_ids


def test_a_model_trained_here_keeps_its_tokenizer(tmp_path):
    save_model(tmp_path / "model", OWN)
    found = load_model(tmp_path / "model")
    assert ids_of(found.vocabulary) == ids_of(VOCABULARY)
    assert encode_prompts(found.vocabulary, TEXTS) == encode_prompts(VOCABULARY, TEXTS)
    assert found.chat is None


def test_files_of_the_source_are_kept(tmp_path):
    source = tmp_path / "source"
    save_model(source, OWN)
    (source / "generation_config.json").write_text('{"eos_token_id": [2, 5], "top_k": 7}')
    (source / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    (source / "additional_chat_templates").mkdir()
    (source / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    (source / "README.md").write_text("of the source")
    model = load_model(source)
    assert model.vocabulary is not None
    assert model.vocabulary.stop_ids == (2, 5)
    assert model.chat is not None
    assert sorted(model.chat.sources) == ["default", "tool_use"]
    save_model(tmp_path / "saved", model)
    names = [*model.files, "additional_chat_templates/tool_use.jinja"]
    for name in names:
        if name != "config.json":
            assert (tmp_path / "saved" / name).read_bytes() == (source / name).read_bytes()
    assert not (tmp_path / "saved" / "README.md").exists()
    assert ids_of(load_model(tmp_path / "saved").vocabulary) == ids_of(model.vocabulary)
    entries = [
        json.loads((tmp_path / name / "config.json").read_text()) for name in ("source", "saved")
    ]
    assert entries[0] == entries[1]


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(tmp_path):
    config = TransformerConfig(**{**vars(CONFIG), "vocab_size": VOCABULARY.size - 1})
    params = make_transformer(config).init(jax.random.key(0))
    save_model(tmp_path / "model", Pretrained(config, params, VOCABULARY))
    last = VOCABULARY.size - 1
    with pytest.raises(ValueError, match=f"the tokenizer has id {last}, the model {last} ids"):
        load_model(tmp_path / "model")


@pytest.mark.slow
def test_transformers_reads_what_was_trained_here(tmp_path):
    _, transformers = libraries()
    save_model(tmp_path / "model", OWN)
    with quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    rows = [tokenizer(text).input_ids for text in TEXTS]
    assert rows == encode_prompts(VOCABULARY, TEXTS)
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 2)
    ids, mask = padded(rows)
    theirs = load_theirs(tmp_path / "model")
    options = {"length": 8, "stop_ids": (2,)}
    assert our_answers(CONFIG, PARAMS, ids, mask, **options) == their_answers(
        theirs, ids, mask, **options
    )
    assert theirs.generation_config.eos_token_id == [2]
    np.testing.assert_array_equal(
        theirs.model.embed_tokens.weight.detach().numpy(), PARAMS["trunk"]["embed"]
    )
