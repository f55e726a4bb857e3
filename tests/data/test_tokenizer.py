"""Round trips, fixed special ids, determinism, and texts that try to end themselves."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax.data.tokenizer import (
    BOS_ID,
    EOS_ID,
    PAD_ID,
    SPECIAL_TOKENS,
    UNK_ID,
    decode_rows,
    encode_completions,
    encode_prompts,
    first_words,
    last_words,
    load_tokenizer,
    save_tokenizer,
    standard_vocabulary,
    train_bpe_tokenizer,
    train_word_tokenizer,
)

TEXTS = ["the red kettle costs 20 .", "the blue kettle", "a kettle , please"]
BPE = train_bpe_tokenizer(TEXTS * 4, vocab_size=300)


@pytest.mark.parametrize("tokenizer", [BPE, train_word_tokenizer(TEXTS)])
def test_special_ids(tokenizer):
    assert [tokenizer.token_to_id(t) for t in SPECIAL_TOKENS] == [PAD_ID, BOS_ID, EOS_ID, UNK_ID]
    assert (PAD_ID, BOS_ID, EOS_ID, UNK_ID) == (0, 1, 2, 3)


def test_word_ids_are_by_frequency_then_alphabet():
    tokenizer = train_word_tokenizer(["b a c", "c"])
    assert [tokenizer.token_to_id(w) for w in "cab"] == [4, 5, 6]
    assert train_word_tokenizer(["c", "c", "b", "a"]).get_vocab() == tokenizer.get_vocab()


def test_words_round_trip_and_unknown_words():
    tokenizer = train_word_tokenizer(TEXTS)
    rows = encode_completions(standard_vocabulary(tokenizer), TEXTS)
    assert all(row[-1] == EOS_ID for row in rows)
    assert decode_rows(standard_vocabulary(tokenizer), rows) == TEXTS
    assert encode_prompts(standard_vocabulary(tokenizer), ["the teapot"])[0][::2] == [
        BOS_ID,
        UNK_ID,
    ]


def test_max_words_keeps_the_most_frequent():
    tokenizer = train_word_tokenizer(TEXTS, max_words=2)
    assert tokenizer.get_vocab_size() == 6
    assert tokenizer.token_to_id("kettle") == 4


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_bpe_round_trips_any_text(text):
    assert decode_rows(
        standard_vocabulary(BPE), encode_completions(standard_vocabulary(BPE), [text])
    ) == [text]
    assert UNK_ID not in encode_prompts(standard_vocabulary(BPE), [text])[0]


WORDS = train_word_tokenizer(TEXTS)
PIECES = st.sampled_from(
    ["the", "kettle", "'re", "'", "r", "12", "é", "语", ".", " ", "  ", "\n", "\t", "\xa0"]
)


@settings(deadline=None)
@given(st.lists(PIECES, max_size=60).map("".join), st.integers(1, 9), st.sampled_from([BPE, WORDS]))
def test_what_is_kept_of_a_text_has_the_tokens_of_the_whole(text, keep, tokenizer):
    text = f"{text}a"
    (prompt,) = encode_prompts(standard_vocabulary(tokenizer), [text])
    (answer,) = encode_completions(standard_vocabulary(tokenizer), [text])
    for length in (1, keep, 40):
        (first,) = encode_completions(standard_vocabulary(tokenizer), [text], keep=length)
        (last,) = encode_prompts(standard_vocabulary(tokenizer), [text], keep=length)
        assert first[:length] == answer[:length]
        assert last[-length:] == prompt[-length:]
        assert (len(first) > length, len(last) > length) == (len(answer) > length,) * 2


def test_a_long_text_is_cut_before_it_is_encoded():
    """Of ten million characters a few hundred are read; all of them would take minutes."""
    text = "the red kettle costs 20 . " * 400_000
    (first,), (last,) = (
        encode(standard_vocabulary(BPE), [text], keep=48)
        for encode in (encode_completions, encode_prompts)
    )
    assert first[:48] == encode_completions(standard_vocabulary(BPE), [text[:2600]])[0][:48]
    assert last[-48:] == encode_prompts(standard_vocabulary(BPE), [text[-2600:]])[0][-48:]
    assert first_words("one two  three", 5) == "one two"
    assert last_words("one two  three", 5) == "  three"
    assert first_words("one", 5) == last_words("one", 5) == "one"
    with pytest.raises(ValueError, match="row 1: the text has the word <eos>"):
        encode_prompts(standard_vocabulary(WORDS), ["fine", "stop <eos>"], keep=3)
    with pytest.raises(ValueError, match="keep must be at least 1"):
        encode_prompts(standard_vocabulary(BPE), [text], keep=0)


def test_bpe_is_deterministic_in_any_order():
    again = train_bpe_tokenizer(reversed(TEXTS * 4), vocab_size=300)
    assert again.to_str() == BPE.to_str()


def test_a_text_cannot_spell_a_special_token(tmp_path):
    text = "stop <eos> now <pad>"
    save_tokenizer(BPE, tmp_path / "bpe.json")
    for tokenizer in (BPE, load_tokenizer(tmp_path / "bpe.json")):
        (row,) = encode_completions(standard_vocabulary(tokenizer), [text])
        assert row.count(EOS_ID) == 1
        assert decode_rows(standard_vocabulary(tokenizer), [row]) == [text]
    with pytest.raises(ValueError, match="row 1: the text has the word <eos>"):
        encode_prompts(standard_vocabulary(train_word_tokenizer(TEXTS)), ["fine", "stop <eos> now"])


def test_save_and_load(tmp_path):
    tokenizer = train_word_tokenizer(TEXTS)
    save_tokenizer(tokenizer, tmp_path / "words.json")
    assert load_tokenizer(tmp_path / "words.json").to_str() == tokenizer.to_str()


def test_load_errors(tmp_path):
    with pytest.raises(ValueError, match="no such tokenizer file"):
        load_tokenizer(tmp_path / "absent.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match="not a tokenizer file"):
        load_tokenizer(tmp_path / "bad.json")
    other = json.loads(BPE.to_str())
    other["added_tokens"], other["model"]["vocab"]["<pad>"] = [], 299
    (tmp_path / "other.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match="<pad> must have id 0, has 299"):
        load_tokenizer(tmp_path / "other.json")


def test_training_errors():
    with pytest.raises(ValueError, match="at least 260, got 259"):
        train_bpe_tokenizer(TEXTS, vocab_size=259)
    with pytest.raises(ValueError, match="max_words must be at least 1"):
        train_word_tokenizer(TEXTS, max_words=0)
    with pytest.raises(ValueError, match="no words"):
        train_word_tokenizer(["", " "])
    with pytest.raises(ValueError, match="row 1: zero supervised tokens"):
        encode_completions(standard_vocabulary(BPE), ["a", ""])
