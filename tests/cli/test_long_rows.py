"""Rows that are longer than the model's columns: --long-prompts and --long-answers."""

import json
from types import SimpleNamespace

import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.options import Model
from rlhf_jax.cli.session import open_lab, open_model

# Tokens are bytes, after <bos> in prompts and before <eos> in answers: (3, 2), (7, 2), (3, 5).
ROWS = [
    {"prompt": "ab", "answer": "x"},
    {"prompt": "abcdef", "answer": "x"},
    {"prompt": "ab", "answer": "wxyz"},
]
LENGTHS = {"prompt_length": 4, "answer_length": 3}


@pytest.mark.parametrize(
    ("prompts", "answers", "kept", "shape", "note"),
    [
        ("drop", "drop", [0], (3, 2), "2 dropped"),
        ("drop", "truncate_left", [0, 2], (3, 3), "1 dropped, 1 answers cut to 3 tokens"),
        ("truncate_right", "drop", [0, 1], (4, 2), "1 dropped, 1 prompts cut to 4 tokens"),
    ],
)
def test_rows_are_dropped_or_cut_and_counted_in_one_note(
    model, capsys, prompts, answers, kept, shape, note
):
    options = Model(model=model, long_prompts=prompts, long_answers=answers, **LENGTHS)
    given = (SimpleNamespace(model=options), open_model(options))
    lab, (rows,) = open_lab(*given, [("rows.jsonl", ROWS)])
    assert list(rows) == [ROWS[i] for i in kept]
    assert (lab.prompt_length, lab.answer_length) == shape
    assert capsys.readouterr().out == f"note: rows.jsonl: 3 rows, of the too long ones {note}\n"
    # Without answers the lab has columns for the longest.
    lab, (rows,) = open_lab(*given, [("prompts.txt", ROWS[:1])], answers=False)
    assert (rows, lab.answer_length, capsys.readouterr().out) == (ROWS[:1], 3, "")


def test_a_row_that_is_too_long_is_an_error_with_its_file_and_number(model, tmp_path, capsys):
    data, out = tmp_path / "rows.jsonl", tmp_path / "out"
    data.write_text("\n".join(map(json.dumps, ROWS)))
    words = ["sft", "--model", model, "--data", data, "--out", out, "--heldout", "0"]
    words += ["--prompt-length", "4", "--long-prompts", "error", "--batch-size", "8"]
    assert main([str(word) for word in words]) == 2
    found = capsys.readouterr().err
    assert f"{data}: record 1: its prompt has 7 tokens, at most 4 fit" in found
    assert "--long-prompts" in found
    assert not out.exists()
