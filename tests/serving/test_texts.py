"""Texts of ids as they come: whole characters, nothing of a stop string, and where tokens begin."""

import pytest
from tiny_server import tiny_reads

from rlhf_jax.data.tokenizer import decode_rows, encode_completions
from rlhf_jax.serving.engine import Piece, Token
from rlhf_jax.serving.texts import TextStream, shown_token

VOCABULARY = tiny_reads().vocabulary
TEXT = " x  é語 🙂 end\n"


def pushed(ids, size, stops=(), finish="stop"):
    """The parts of a text that comes `size` tokens at a time."""
    stream, parts = TextStream(VOCABULARY, stops), []
    for start in range(0, len(ids), size):
        part = [Token(i, -1.0, []) for i in ids[start : start + size]]
        last = start + size >= len(ids)
        parts.append(stream.push(Piece(part, finish=finish if last else None)))
        if parts[-1].finish:
            break
    return stream, parts


@pytest.mark.parametrize("size", [1, 3, 100])
def test_the_parts_are_the_text_and_its_tokens(size):
    (ids,) = encode_completions(VOCABULARY, [TEXT])
    stream, parts = pushed(ids, size)
    assert "".join(part.text for part in parts) == stream.text == TEXT
    tokens = [token for part in parts for token in part.tokens]
    assert [token.id for token in tokens] == ids == stream.ids
    assert not any("\ufffd" in part.text for part in parts)
    # Every character of ASCII is one token of bytes.
    assert [token.at for token in tokens][:4] == [0, 1, 2, 3]


def test_half_a_character_at_the_end_is_a_replacement_mark():
    (ids,) = encode_completions(VOCABULARY, ["a語"])
    stream, parts = pushed(ids[:-2], 1, finish="length")
    assert stream.text == decode_rows(VOCABULARY, [ids[:-2]])[0] == "a\ufffd"
    assert (parts[-1].text, parts[-1].finish) == ("\ufffd", "length")


def test_an_answer_ends_before_the_first_stop_string():
    (ids,) = encode_completions(VOCABULARY, ["one two three"])
    for size in (1, 4, 100):
        stream, parts = pushed(ids, size, stops=["three", "two", "wo th"])
        assert "".join(part.text for part in parts) == stream.text == "one "
        assert parts[-1].finish == "stop"
        assert [token.id for part in parts for token in part.tokens] == ids[:4]
        # Up to the token that makes the stop string whole.
        assert stream.ids == ids[:7]


def test_the_beginning_of_a_stop_string_waits():
    (ids,) = encode_completions(VOCABULARY, ["abcabd"])
    stream, parts = pushed(ids, 1, stops=["abd"], finish="length")
    assert [part.text for part in parts] == ["", "", "abc", "", "", ""]
    assert (stream.text, parts[-1].finish) == ("abc", "stop")
    _, parts = pushed(ids[:2], 1, stops=["abd"], finish="length")
    assert [part.text for part in parts] == ["", "ab"]


def test_tokens_alone_have_a_text():
    assert [shown_token(VOCABULARY, i) for i in (1, 2)] == ["<bos>", "<eos>"]
    (ids,) = encode_completions(VOCABULARY, [" a"])
    assert [shown_token(VOCABULARY, i) for i in ids[:2]] == [" ", "a"]
