"""Policies ranked by people: rows for the page, and the judgements back to programs."""

import json

import numpy as np
import pytest

from rlhf_jax.data.formats import read_rows
from rlhf_jax.labelling import read_items
from rlhf_jax.recipes import compared_answers, ranked_programs, write_compared_answers

SAID = [{"x?": ["one"], "y?": ["three"]}, {"x?": ["two"], "y?": ["four"]}, {"x?": ["one"]}]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pair(chosen, rejected, prompt="x?"):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def test_only_prompts_that_all_answered_are_compared(tmp_path):
    assert compared_answers(SAID) == [{"prompt": "x?", "answers": ["one", "two", "one"]}]
    path = tmp_path / "compare.jsonl"
    assert write_compared_answers(path, SAID[:2]) == 2
    assert len(read_items(path, "pairs").by_key) == 2
    assert len(read_items(path, "ratings").by_key) == 2


@pytest.mark.parametrize(
    ("said", "message"),
    [(SAID[:1], "two policies or more, got 1"), ([{"x": ["a"]}, {"y": ["b"]}], "no prompt was")],
)
def test_what_cannot_be_compared_is_refused(said, message):
    with pytest.raises(ValueError, match=message):
        compared_answers(said)


def test_wins_by_hand(tmp_path):
    said = [{"x?": ["a"]}, {"x?": ["b"]}, {"x?": ["c"]}]
    rows = [pair("b", "a"), pair("b", "c"), pair("c", "a"), pair("a", "c")]
    found = ranked_programs(write(tmp_path / "labels.jsonl", rows), said)
    np.testing.assert_allclose(found.shares, [1 / 3, 1.0, 1 / 3])
    assert (found.best, found.worst, found.queries) == (1, 2, 4)


def test_a_text_that_several_said_counts_for_each_and_never_against_itself(tmp_path):
    rows = [pair("one", "two"), pair("three", "four", "y?")]
    found = ranked_programs(write(tmp_path / "labels.jsonl", rows), SAID)
    np.testing.assert_allclose(found.shares, [1.0, 0.0, 1.0])
    assert found.queries == 2
    # Whoever said both texts of a pair neither wins nor loses by it.
    both = [{"x?": ["one", "two"]}, {"x?": ["two"]}, {"x?": ["one"]}]
    with pytest.raises(ValueError, match="no judgement about program 1"):
        ranked_programs(tmp_path / "labels.jsonl", both)


def test_ratings_become_pairs(tmp_path):
    said = [{"x?": ["a"]}, {"x?": ["b"]}, {"x?": ["c"]}]
    rows = [{"prompt": "x?", "answers": ["a", "b", "c"], "ratings": [2.0, 5.0, 1.0]}]
    path = write(tmp_path / "labels.jsonl", rows)
    assert read_rows(path).kind == "rankings"
    found = ranked_programs(path, said)
    assert (found.best, found.worst) == (1, 2)


def test_a_program_that_nobody_judged_is_named(tmp_path):
    path = write(tmp_path / "labels.jsonl", [pair("one", "two")])
    with pytest.raises(ValueError, match="no judgement about program 2"):
        ranked_programs(path, [{"x?": ["one"]}, {"x?": ["other"]}, {"x?": ["two"]}])
