"""Errands: the right calls are right, and each part of a call is marked by itself."""

from collections import Counter

import pytest

from rlhf_jax.envs import shop
from rlhf_jax.envs.shop.errands import (
    MAX_ERRAND,
    CallMarks,
    Errand,
    errand,
    errand_answer,
    examples,
    score_errand,
)

TASK = Errand("", (("price", "nova"), ("quiet", "luma")))


@pytest.fixture(scope="module")
def tasks():
    return [errand(2, index) for index in range(600)]


def test_errand_is_a_function_of_its_arguments(tasks):
    assert [errand(2, index) for index in (5, 599)] == [tasks[5], tasks[599]]
    assert errand(3, 5) != tasks[5]
    lengths = Counter(task.difficulty for task in tasks)
    assert set(lengths) == {1, 2, 3, 4, 6, MAX_ERRAND}
    assert {errand(2, index, (3,)).difficulty for index in range(50)} == {3}


def test_right_calls_are_done(tasks):
    for task in tasks:
        found = score_errand(task, errand_answer(task))
        assert found.done
        assert all(all(marks) for marks in found.calls)
        assert len(found.calls) == task.difficulty
        assert not score_errand(task, f"{errand_answer(task)} call price nova .").done


def test_marks_by_hand():
    marks = {
        "call price nova . call quiet luma .": ((1, 1, 1), (1, 1, 1)),
        "call stars nova . call quiet nova .": ((1, 0, 1), (1, 1, 0)),
        "price nova . call quiet luma .": ((0, 0, 0), (1, 1, 1)),
        "call price nova .": ((1, 1, 1), (0, 0, 0)),
        "": ((0, 0, 0), (0, 0, 0)),
    }
    for text, want in marks.items():
        found = score_errand(TASK, text)
        assert found.calls == tuple(CallMarks(*map(bool, each)) for each in want)
        assert found.done is (text == "call price nova . call quiet luma .")


@pytest.mark.long
def test_the_text_names_what_each_call_asks(tasks):
    for task in tasks:
        wishes = task.text.removeprefix("errand : please find out ").split(" , then ")
        for wish, (attribute, name) in zip(wishes, task.steps, strict=True):
            assert name in wish.split()
            named = set(wish.split()) & set(shop.words()) & {"dollars", "price", "costs"}
            assert bool(named) is (attribute == "price")


@pytest.mark.parametrize("lengths", [(), (0,), (1, 9)])
def test_lengths_out_of_range_are_refused(lengths):
    with pytest.raises(ValueError, match="lengths must be between 1 and 8"):
        errand(0, 0, lengths)


def test_words_and_length(tasks):
    vocabulary = set(shop.words())
    for text in [f"{task.text} {errand_answer(task)}" for task in tasks] + examples(1, 5):
        assert set(text.split()) <= vocabulary
        assert " ".join(text.split()) == text
        assert len(text.split()) <= 384
