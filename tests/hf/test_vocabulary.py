"""Tokenizers of others: their special ids, texts that spell them, and spaces between texts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from foreign_tokenizers import byte_level, config, sentencepiece, unigram, write_folder
from tokenizers import processors

from rlhf_jax.data.tokenizer import decode_rows, encode_completions, encode_prompts
from rlhf_jax.hf.vocabulary import read_vocabulary

STORIES = Path(__file__).parents[2].parent / "shared" / "models" / "stories260k"
SPECIAL = ["<|begin|>", "<|end|>", "<|turn|>"]
ENDS = config(bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders by name; the tokenizers are trained once."""
    root = tmp_path_factory.mktemp("tokenizers")
    llama3 = byte_level(SPECIAL, bos="<|begin|>")
    llama3_config = config(bos_token="<|begin|>", eos_token="<|turn|>")
    ends = {"eos_token_id": [llama3.token_to_id("<|end|>"), llama3.token_to_id("<|turn|>")]}
    qwen = byte_level(SPECIAL, bos=None, words=("<think>",))
    qwen_config = config(eos_token="<|turn|>", pad_token="<|end|>", add_bos_token=False)
    return {
        "llama3": write_folder(
            root / "llama3", llama3, tokenizer_config=llama3_config, generation_config=ends
        ),
        "qwen": write_folder(root / "qwen", qwen, tokenizer_config=qwen_config),
        "legacy": write_folder(
            root / "legacy", sentencepiece([], legacy=True), tokenizer_config=ENDS
        ),
        "mistral": write_folder(
            root / "mistral", sentencepiece([], legacy=False), tokenizer_config=ENDS
        ),
        "unigram": write_folder(
            root / "unigram",
            unigram(),
            tokenizer_config=config(eos_token="</s>", pad_token="<pad>", unk_token="<unk>"),
        ),
    }


NAMES = ["llama3", "qwen", "legacy", "mistral", "unigram"]


def test_special_ids_come_from_the_folder(folders):
    found = {name: read_vocabulary(folder) for name, folder in folders.items()}
    begin, end, turn = (found["llama3"].tokenizer.token_to_id(token) for token in SPECIAL)
    assert found["llama3"].bos_id == begin
    assert found["llama3"].stop_ids == (turn, end)  # the tokenizer's own first
    assert found["llama3"].pad_id == turn  # no pad token: a stop
    assert (found["qwen"].bos_id, found["qwen"].stop_ids, found["qwen"].pad_id) == (
        None,
        (found["qwen"].tokenizer.token_to_id("<|turn|>"),),
        found["qwen"].tokenizer.token_to_id("<|end|>"),
    )
    assert (found["legacy"].bos_id, found["legacy"].stop_ids, found["legacy"].pad_id) == (
        1,
        (2,),
        2,
    )
    assert (found["unigram"].bos_id, found["unigram"].stop_ids) == (None, (1,))
    assert found["unigram"].pad_id == 0


@pytest.mark.parametrize("name", NAMES)
def test_prompt_and_answer_join_to_the_text(folders, name):
    vocabulary = read_vocabulary(folders[name])
    for prompt, answer in (("Once upon", " a time"), ("Once u", "pon a"), ("a", "\n\n b é語 ")):
        (before,) = encode_prompts(vocabulary, [prompt])
        (after,) = encode_completions(vocabulary, [answer])
        assert decode_rows(vocabulary, [after]) == [answer]
        assert after[-1] == vocabulary.stop_ids[0]
        whole = vocabulary.tokenizer.decode(before + after, skip_special_tokens=True)
        assert whole == prompt + answer


@pytest.mark.parametrize("name", NAMES)
def test_a_long_answer_is_decoded_up_to_any_stop(folders, name):
    vocabulary = read_vocabulary(folders[name])
    (ids,) = encode_completions(vocabulary, [" there was"])
    for stop in vocabulary.stop_ids:
        row = [*ids[:-1], stop, *ids]
        assert decode_rows(vocabulary, [row, ids[:-1]]) == [" there was"] * 2


@pytest.mark.parametrize("name", ["llama3", "qwen", "legacy", "mistral"])
def test_a_text_cannot_spell_a_special_token_of_a_folder(folders, name):
    vocabulary = read_vocabulary(folders[name])
    added = vocabulary.tokenizer.get_added_tokens_decoder()
    words = [token.content for token in added.values() if token.special]
    text = "stop " + "now".join(words)
    (prompt,) = encode_prompts(vocabulary, [text])
    (answer,) = encode_completions(vocabulary, [text])
    special = {i for i, token in added.items() if token.special}
    assert special.isdisjoint(prompt[vocabulary.bos_id is not None :])
    assert special.isdisjoint(answer[:-1])
    assert decode_rows(vocabulary, [answer]) == [text]


def test_a_special_token_that_is_a_piece_of_texts_is_refused(folders):
    with pytest.raises(ValueError, match="row 1: the text has the word </s>, which is reserved"):
        encode_prompts(read_vocabulary(folders["unigram"]), ["fine", "a</s>"])


def test_a_word_of_the_tokenizer_that_is_not_special_is_one_token(folders):
    vocabulary = read_vocabulary(folders["qwen"])
    (ids,) = encode_completions(vocabulary, ["<think>red"])
    assert ids[0] == vocabulary.tokenizer.token_to_id("<think>")


@pytest.mark.parametrize("name", NAMES)
def test_a_cut_text_has_the_tokens_of_the_whole_text(folders, name):
    vocabulary = read_vocabulary(folders[name])
    text = " She said: red, blue.\n\nOne day" * 40
    (prompt,), (answer,) = (f(vocabulary, [text]) for f in (encode_prompts, encode_completions))
    for keep in (1, 7, 40):
        assert encode_prompts(vocabulary, [text], keep=keep)[0][-keep:] == prompt[-keep:]
        assert encode_completions(vocabulary, [text], keep=keep)[0][:keep] == answer[:keep]


def test_the_post_processor_alone_says_what_comes_first(folders, tmp_path):
    tokenizer = sentencepiece([], legacy=True)
    settings = ENDS | {"add_bos_token": False}
    assert read_vocabulary(write_folder(tmp_path, tokenizer, tokenizer_config=settings)).bos_id == 1
    tokenizer.post_processor = None
    settings = ENDS | {"add_bos_token": True}
    assert (
        read_vocabulary(write_folder(tmp_path, tokenizer, tokenizer_config=settings)).bos_id is None
    )


def test_special_tokens_map_and_config_are_read_where_others_are_silent(tmp_path):
    folder = write_folder(
        tmp_path,
        sentencepiece([], legacy=True),
        special_tokens_map={"eos_token": {"content": "</s>"}, "pad_token": "[PAD]"},
        config={"eos_token_id": 2},
    )
    vocabulary = read_vocabulary(folder)
    assert vocabulary.stop_ids == (2,)
    assert vocabulary.pad_id == 2  # [PAD] has no id
    folder = write_folder(tmp_path, vocabulary.tokenizer, generation_config={"eos_token_id": 1})
    assert read_vocabulary(folder).stop_ids == (1,)


def test_truncation_of_the_file_is_not_used(tmp_path):
    tokenizer = sentencepiece([], legacy=True)
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    vocabulary = read_vocabulary(write_folder(tmp_path, tokenizer, tokenizer_config=ENDS))
    (short,), (long,) = (encode_prompts(vocabulary, [text]) for text in ("red", "red ball"))
    assert len(short) < len(long) < 9


def test_folders_that_cannot_be_read_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"tokenizer\.json: no such file"):
        read_vocabulary(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json: not a tokenizer"):
        read_vocabulary(tmp_path)
    tokenizer = sentencepiece([], legacy=True)
    for files, message in (
        ({"tokenizer_config": config()}, "no token ends an answer"),
        ({"generation_config": {"eos_token_id": [2, 999]}}, "eos_token_id 999 is not in the tok"),
        ({"tokenizer_config": []}, r"tokenizer_config\.json: expected a JSON object"),
    ):
        folder = write_folder(tmp_path / message[:8], tokenizer, **files)
        with pytest.raises(ValueError, match=message):
            read_vocabulary(folder)
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer_config\.json: not JSON"):
        read_vocabulary(folder)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    folder = write_folder(tmp_path / "both", tokenizer, tokenizer_config=ENDS)
    with pytest.raises(ValueError, match="one token before it and none after"):
        read_vocabulary(folder)


def test_size_counts_ids_that_no_token_has(tmp_path):
    tokenizer = sentencepiece([], legacy=True)
    state = json.loads(tokenizer.to_str())
    last, most = max(state["model"]["vocab"].items(), key=lambda item: item[1])
    state["model"]["vocab"][last] = most + 5
    folder = write_folder(tmp_path, tokenizer, tokenizer_config=ENDS)
    (folder / "tokenizer.json").write_text(json.dumps(state))
    vocabulary = read_vocabulary(folder)
    assert vocabulary.size == most + 6
    assert replace(vocabulary, pad_id=0).size == vocabulary.size


@pytest.mark.skipif(not STORIES.is_dir(), reason="needs ../shared/models")
def test_the_tokenizer_of_stories260k():
    vocabulary = read_vocabulary(STORIES)
    assert (vocabulary.bos_id, vocabulary.stop_ids, vocabulary.size) == (1, (2, 1), 512)
    assert encode_prompts(vocabulary, ["Once upon a time"]) == [[1, 403, 407, 261, 378]]


@pytest.mark.slow
def test_prompts_have_the_ids_of_transformers(folders, tmp_path):
    transformers = pytest.importorskip("transformers")
    texts = [
        "Once upon a time",
        " red",
        "red ",
        "a  b",
        "é語🙂",
        "x\n\n\ny.\n",
        "'s <think> 12",
        "",
    ]
    legacy = read_vocabulary(folders["legacy"]).tokenizer
    for added in (True, False):
        settings = ENDS | {"add_bos_token": added}
        folders[f"bos {added}"] = write_folder(
            tmp_path / f"bos{added}", legacy, tokenizer_config=settings
        )
    rebuilt = ENDS | {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": True}
    folders["rebuilt"] = write_folder(tmp_path / "rebuilt", legacy, tokenizer_config=rebuilt)
    for name, folder in folders.items():
        vocabulary = read_vocabulary(folder)
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        for text in (text for text in texts if name != "rebuilt" or text.strip() == text != ""):
            assert encode_prompts(vocabulary, [text]) == [theirs(text).input_ids], (name, text)
        for text in texts:
            (ids,) = encode_prompts(vocabulary, [text])
            assert vocabulary.tokenizer.decode(ids) == theirs.decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
