"""Segments of texts, marked spans, and pairs by coverage."""

import numpy as np
import pytest

from rlhf_jax.data.spans import (
    MarkedSpan,
    check_spans,
    coverage,
    coverage_pairs,
    matched_sentences,
    reached_ends,
    segment_labels,
    sentences,
    subsentences,
    token_ends,
)

TEXT = "The red one is in stock today, and the blue one comes next week. Ask again!"


def parts(text, segments):
    return [text[start:end] for start, end in segments]


def test_sentences_keep_numbers_whole_and_lose_no_word():
    assert parts(TEXT, sentences(TEXT)) == [
        "The red one is in stock today, and the blue one comes next week.",
        "Ask again!",
    ]
    assert parts("At 3.5 m it ends", sentences("At 3.5 m it ends")) == ["At 3.5 m it ends"]
    assert sentences("") == sentences("  \n") == []
    for text in (TEXT, " a.  b?! c\n d. ", "no end"):
        assert " ".join(parts(text, sentences(text))).split() == text.split()


def test_subsentences_have_five_words_on_both_sides():
    assert parts(TEXT, subsentences(TEXT)) == [
        "The red one is in stock today,",
        "and the blue one comes next week.",
        "Ask again!",
    ]
    # Four words before the comma; four after it.
    for text in (
        "one two three four, five six seven eight nine",
        "one two three four five, six seven eight nine",
    ):
        assert parts(text, subsentences(text)) == [text]
    assert len(subsentences("one two three four, five six seven eight nine", least=4)) == 2


def test_a_short_part_joins_the_one_before():
    text = "a b c d e, f g; h i j k l"
    # After "e," five words and seven follow; "f g;" is two words, so it waits for the rest.
    assert parts(text, subsentences(text)) == ["a b c d e,", "f g; h i j k l"]


SEGMENTS = [(0, 10), (10, 20), (20, 30)]


def test_a_segment_is_labelled_by_any_span_that_meets_it():
    spans = [MarkedSpan(8, 11, "irrelevant"), MarkedSpan(20, 21, "false")]
    assert segment_labels(SEGMENTS, spans, ["irrelevant"]) == [False, False, True]
    assert segment_labels(SEGMENTS, spans, ["false"]) == [True, True, False]
    # Without a factual error, what has another one is left out.
    assert segment_labels(SEGMENTS, spans, ["false"], unless=["irrelevant"]) == [None, None, False]
    assert segment_labels(SEGMENTS, spans, ["false", "irrelevant"]) == [False, False, False]
    # A span that ends where a segment begins does not meet it.
    assert segment_labels(SEGMENTS, [MarkedSpan(0, 10, "false")], ["false"]) == [False, True, True]


def test_overlapping_spans_say_no_more_than_one():
    both = [MarkedSpan(0, 5, "false"), MarkedSpan(3, 8, "false"), MarkedSpan(2, 4, "irrelevant")]
    assert segment_labels(SEGMENTS, both, ["false"], unless=["irrelevant"]) == [False, True, True]


@pytest.mark.parametrize("span", [(-1, 3), (3, 3), (5, 4), (0, 11)])
def test_a_span_outside_the_answer_is_named(span):
    with pytest.raises(ValueError, match=f"got {span[0]} to {span[1]} \\(false\\)"):
        check_spans("ten chars.", [MarkedSpan(*span, "false")])
    check_spans("ten chars.", [MarkedSpan(0, 10, "false")])


def test_ends_are_the_last_tokens_of_segments():
    segments = subsentences(TEXT)
    assert token_ends(TEXT, segments, lambda text: len(text.split()), length=20) == [6, 13, 15]
    # Cut at ten tokens: both later segments end at the last one.
    assert token_ends(TEXT, segments, lambda text: len(text.split()), length=10) == [6, 9, 9]


def test_ends_in_a_drawn_answer_are_the_tokens_that_reach_them():
    # Tokens of 3, 1, 4 and 2 characters, and a stop token: texts of 3, 4, 8, 10 and 10.
    lengths = [3, 4, 8, 10, 10]
    segments = [(0, 3), (3, 5), (6, 10), (0, 11)]
    found = reached_ends(segments, lambda count: lengths[count - 1], length=5)
    assert found == [0, 2, 3, 4]
    assert reached_ends(segments[:1], lambda count: 0, length=1) == [0]
    with pytest.raises(ValueError, match="length must be"):
        reached_ends(segments, len, length=0)


def test_nearly_equal_sentences_match():
    passages = ["The tower is 330 metres tall.", "It was built in 1889.", "Paris is in France."]
    assert matched_sentences(["the tower is 330 metres tall", "Berlin"], passages) == {0}
    assert matched_sentences([], passages) == set()
    with pytest.raises(ValueError, match="ratio must be"):
        matched_sentences(["a"], passages, ratio=0.0)


def test_coverage_and_the_six_pairs_of_four_answers():
    assert coverage({0, 2, 5}, {0, 1, 2, 3}) == 0.5
    assert np.isnan(coverage({1}, set()))
    assert coverage_pairs([0.5, 1.0, 0.5, 0.0]) == [
        (0, 1, -1), (0, 2, 0), (0, 3, 1), (1, 2, 1), (1, 3, 1), (2, 3, 1),
    ]  # fmt: skip
    assert coverage_pairs([0.5, float("nan"), 1.0]) == [(0, 2, -1)]
