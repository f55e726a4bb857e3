"""METEOR by hand, its alignment, and the similarity of answers to different prompts."""

import math

import pytest

from rlhf_jax.data.meteor import aligned_words, meteor, prompt_similarity


def test_golden_numbers():
    # All 6 match, P = R = 1, in three runs: "the cat", "sat", "on the mat".
    words, reference = (
        ["the", "cat", "sat", "on", "the", "mat"],
        ["on", "the", "mat", "sat", "the", "cat"],
    )
    assert meteor(words, reference) == pytest.approx(1 - 0.5 * (3 / 6) ** 3)
    # m = 2 of 2 and of 3: F = (2/3) / (0.9 + 0.1 * 2/3), one run: 1 - (1/2)^3 / 2.
    assert meteor(["the", "cat"], ["the", "cat", "sat"]) == pytest.approx(
        (2 / 3) / (0.9 + 0.1 * 2 / 3) * (1 - 0.5 / 8)
    )


def test_the_same_text_is_just_below_one():
    # One run of n: 1 - 1 / (2 n^3).
    assert meteor(list("abcd"), list("abcd")) == pytest.approx(1 - 0.5 / 64)


def test_nothing_shared_and_nothing_said_are_zero():
    assert meteor(["a"], ["b"]) == meteor([], ["b"]) == meteor(["a"], []) == 0.0


def test_a_word_is_matched_once_and_to_the_longest_run():
    assert aligned_words(["a", "a", "a"], ["a", "a"]) == [0, 1, -1]
    # The first "a" begins the run "a b" at place 2, not the lone one at place 0.
    assert aligned_words(["a", "b"], ["a", "c", "a", "b"]) == [2, 3]


def test_recall_counts_more_than_precision():
    short, long = ["a", "b"], ["a", "b", "c", "d"]
    assert meteor(long, short) > meteor(short, long)


def test_a_collapsed_policy_is_alike_and_a_varied_one_is_not():
    same = [["Red is nice."] * 2, ["red is nice."], ["red is nice."]]
    varied = [["one two"], ["three four"], ["five six"]]
    assert prompt_similarity(same) == pytest.approx(1 - 0.5 / 27)
    assert prompt_similarity(varied) == 0.0
    assert prompt_similarity(same, seed=1) == prompt_similarity(same, seed=1)


def test_answers_to_one_prompt_are_not_compared():
    assert prompt_similarity([["a b", "a b"], ["c d"]]) == 0.0
    assert math.isnan(prompt_similarity([["a b", "a b"]]))
    assert math.isnan(prompt_similarity([["a"], []]))
    with pytest.raises(ValueError, match="pairs must be in"):
        prompt_similarity([["a"], ["b"]], pairs=0)
