"""Tasks and records from files; what is wrong in a file is said by its row."""

import doctest
import json
from importlib import import_module

import numpy as np
import pytest

from rlhf_jax.recipes import answer_records, jsonl_task, pair_records, score_answers
from rlhf_jax.training import UserError

ROWS = [{"prompt": f"{n} plus {n}", "sum": str(2 * n)} for n in range(4)]


def written(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def exact(rows, answers):
    return {"exact": [row["sum"] == a for row, a in zip(rows, answers, strict=True)]}


def test_the_example_of_the_module_runs():
    module = import_module("rlhf_jax.recipes.files")
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize(("heldout", "train"), [(1, 3), (0.5, 2), (0.01, 3)])
def test_the_last_rows_are_held_out_by_number_or_share(tmp_path, heldout, train):
    path = written(tmp_path / "prompts.jsonl", ROWS)
    task = jsonl_task(path, exact, objective="exact", heldout=heldout)
    assert task.splits == {"train": range(train), "heldout": range(train, 4)}


def test_a_score_reads_the_whole_row(tmp_path):
    path = written(tmp_path / "prompts.jsonl", ROWS)
    task = jsonl_task(path, exact, objective="exact", heldout=1)
    found = score_answers(task, np.array([3, 1]), ["6", "3"])
    np.testing.assert_array_equal(found["exact"], [1.0, 0.0])


def test_prompts_may_be_messages(tmp_path):
    asked = [{"role": "user", "content": "1 plus 1"}]
    path = written(tmp_path / "prompts.jsonl", [{"prompt": asked, "sum": "2"}] * 2)
    task = jsonl_task(path, exact, objective="exact", heldout=1)
    assert task.texts(np.array([1])) == [asked]
    answered = [*asked, {"role": "assistant", "content": "2"}]
    path = written(tmp_path / "answered.jsonl", [{"prompt": answered, "sum": "2"}])
    with pytest.raises(UserError, match="row 1: field prompt: the last message is the assistant's"):
        jsonl_task(path, exact, objective="exact", heldout=1)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "x"}, r"prompts\.jsonl, row 2: field prompt is missing"),
        ({"prompt": "  "}, r"prompts\.jsonl, row 2: field prompt is empty"),
        ({"prompt": 3}, r"prompts\.jsonl, row 2: field prompt: expected text, found a number"),
        ([1], r"prompts\.jsonl, row 2: expected a JSON object, found a list"),
    ],
)
def test_a_bad_row_is_named_with_its_file(tmp_path, row, message):
    path = written(tmp_path / "prompts.jsonl", [ROWS[0], row])
    with pytest.raises(UserError, match=message):
        jsonl_task(path, exact, objective="exact", heldout=1)


def test_an_empty_or_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"prompts\.jsonl: no rows"):
        jsonl_task(written(tmp_path / "prompts.jsonl", []), exact, objective="exact", heldout=1)
    with pytest.raises(UserError, match=r"absent\.jsonl: no such file"):
        answer_records(tmp_path / "absent.jsonl")


def test_records_of_answers_keep_their_other_fields(tmp_path):
    rows = [{"prompt": "a", "answer": "b", "label": True}]
    assert answer_records(written(tmp_path / "rows.jsonl", rows)) == rows
    path = written(tmp_path / "rows.jsonl", [*rows, {"prompt": "a", "answer": ""}])
    with pytest.raises(UserError, match=r"rows\.jsonl, row 2: field answer is empty"):
        answer_records(path)


def test_records_of_pairs_come_from_every_layout_of_preference_files(tmp_path):
    pair = {"prompt": "a", "chosen": "b", "rejected": "c"}
    assert pair_records(written(tmp_path / "pairs.jsonl", [pair])) == [pair]
    with pytest.raises(UserError, match=r"pairs\.jsonl, row 1: field rejected"):
        pair_records(written(tmp_path / "pairs.jsonl", [pair | {"rejected": 1}]))
