"""Pairs of a policy's own answers: which are kept, and that they are sampled once."""

import numpy as np
import pytest
from one_word_lab import TASK, one_word_lab, words

from rlhf_jax.recipes import objective_teacher, pairs, sample_pairs
from rlhf_jax.recipes.pairs import open_pairs, times_before
from rlhf_jax.training import UserError, open_run

LAB = one_word_lab()
TAUGHT = TASK._replace(teacher=objective_teacher(TASK))
INDICES = np.arange(6)
FACTS = {"name": "p", "split": "train", "facts": {}, "remedy": "raise the temperature"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "CHUNK", 4)
    with open_run(tmp_path / "run", slug="pairs", config={}) as run:
        yield run


@pytest.mark.long
def test_the_better_word_is_chosen_and_ties_are_left_out(run):
    found = sample_pairs(run, LAB, TAUGHT, words(red=0.5, green=0.5), INDICES, **FACTS)
    rows = [found[i] for i in range(len(found))]
    assert 0 < len(rows) < 6  # answers are equal half of the time
    assert {(row["chosen"], row["rejected"]) for row in rows} == {("red", "green")}
    assert {row["prompt"] for row in rows} <= set(TASK.texts(INDICES))
    again = open_pairs(run.out / "data", "p", "train")
    assert [again[i] for i in range(len(again))] == rows


@pytest.mark.long
def test_no_pair_left_says_which_option_to_change(run):
    with pytest.raises(UserError, match=r"none of the 6 train pairs is left: .* raise the temper"):
        sample_pairs(run, LAB, TAUGHT, words(red=1.0), INDICES, **FACTS)


def test_pairs_need_a_teacher(run):
    with pytest.raises(UserError, match="p: the task has no teacher"):
        sample_pairs(run, LAB, TASK, words(red=1.0), INDICES, **FACTS)


def test_a_prompt_that_is_asked_again_gets_its_next_pair():
    np.testing.assert_array_equal(times_before(np.array([5, 7, 5, 5, 7])), [0, 0, 1, 2, 1])
