"""Rows that cannot be used: one line with file, row, what was found and an example."""

import json
from pathlib import Path

import pytest

from rlhf_jax.data.formats import read_rows

USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}
SYSTEM, TOOL = {"role": "system", "content": "Be kind."}, {"role": "tool", "content": "x"}
PAIR = {"prompt": "p", "chosen": "good", "rejected": "bad"}
TURNS = {"prompt": [USER], "chosen": [ANSWER], "rejected": [{**ANSWER, "content": "Go."}]}
WHOLE = {"chosen": [USER, ANSWER], "rejected": [USER, {**ANSWER, "content": "Go."}]}
SFT, KTO = {"messages": [USER, ANSWER]}, {"prompt": "p", "completion": "a", "label": True}
STEPS = {"prompt": "p", "completions": ["a", "b"], "labels": [True, False]}
PRM = {
    "question": {"problem": "p"},
    "label": {"steps": [{"completions": [{"text": "a", "rating": 1}], "chosen_completion": 0}]},
}
SHEPHERD = {"input": "p Step 1: a ки", "label": "p Step 1: a +"}
RANKS = {"prompt": "p", "answers": ["a", "b"], "scores": [1.0, 2.0]}
NECTAR = {"prompt": "p", "answers": [{"answer": "a", "rank": 1}, {"answer": "b", "rank": 2}]}
FARM = {"instruction": "i", "output_1": "a", "output_2": "b", "preference": 1}
STEER = {"context": [USER], "response1": "a", "response2": "b", "overall_preference": 1}
AZURE = {
    "input": {"messages": [USER]},
    "preferred_output": [ANSWER],
    "non_preferred_output": [{**ANSWER, "content": "Go."}],
}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# name -> (a good first row, the second row, what is said of it)
ROWS = {
    "missing field": (PAIR, {"prompt": "p", "chosen": "a"}, "field rejected is missing; every row"),
    "a null answer": (PAIR, {**PAIR, "chosen": None}, "field chosen: expected text, found null"),
    "a number": (PAIR, {**PAIR, "rejected": 3}, "field rejected: expected text, found a number"),
    "text and messages": (WHOLE, {**WHOLE, "chosen": "text"}, "chosen is text but rejected is mes"),
    "empty prompt": (PAIR, {**PAIR, "prompt": " "}, "field prompt is empty; fill it in"),
    "half a surrogate": (PAIR, {**PAIR, "chosen": "\ud800"}, "field chosen: half a surrogate pair"),
    "base64": (PAIR, {**PAIR, "chosen": "x" * 100_001}, "100001 characters without white space"),
    "an image": (PAIR, {**PAIR, "image": "x.png"}, "field image belongs to the question"),
    "mixed formats": (PAIR, SFT, "the row has the columns of format messages: split the file"),
    "score is text": (
        PAIR,
        {**PAIR, "score_chosen": "8", "score_rejected": 2},
        "field score_chosen: expected a finite number, found text",
    ),
    "a score of 400 digits": (
        PAIR,
        {**PAIR, "score_chosen": 10**400, "score_rejected": 2},
        "field score_chosen: expected a finite number, found a number of more than 300 digits",
    ),
    "columns as objects": (
        PAIR,
        {"prompt": {"0": "p"}, "chosen": {}, "rejected": {}},
        "found an o",
    ),
    "another spelling": (PAIR, {"Prompt": "p", **PAIR}, "field Prompt belongs to the question"),
    "no messages": (TURNS, {**TURNS, "prompt": []}, "field prompt: expected text, found a list"),
    "unknown role": (
        TURNS,
        {**TURNS, "prompt": [{**USER, "role": "boss"}]},
        "field prompt, message 1: role 'boss'; the roles are system, user, assistant, tool",
    ),
    "no role": (SFT, {"messages": [USER, {"content": "x"}]}, "message 2: no role; the roles are"),
    "no content": (SFT, {"messages": [USER, {"role": "assistant"}]}, "message 2: expected content"),
    "content is a number": (
        SFT,
        {"messages": [{**USER, "content": 3}, ANSWER]},
        "message 1: expected content as text, found a number",
    ),
    "content is an image": (
        SFT,
        {"messages": [{**USER, "content": [{"type": "image_url"}]}, ANSWER]},
        "message 1: content of type 'image_url'; only text can be read",
    ),
    "a message is text": (SFT, {"messages": [USER, "Hello"]}, "message 2: expected an object with"),
    "late system": (SFT, {"messages": [USER, ANSWER, SYSTEM]}, "message 3 has role system, which"),
    "two users": (SFT, {"messages": [USER, USER, ANSWER]}, "messages 1 and 2 are both user; join"),
    "tool first": (SFT, {"messages": [USER, TOOL, ANSWER]}, "message 2 is a tool's, after user"),
    "no assistant": (SFT, {"messages": [USER]}, "an answer begins and ends with the assistant"),
    "no user": (SFT, {"messages": [SYSTEM, ANSWER]}, "no user message before the answer"),
    "empty dialogue": (SFT, {"messages": []}, "expected messages .* found an empty list"),
    "answer by the user": (TURNS, {**TURNS, "chosen": [USER]}, "chosen: an answer begins and ends"),
    "nothing shared": (
        WHOLE,
        {**WHOLE, "rejected": [{**USER, "content": "Bye"}, ANSWER]},
        "chosen: no user message before the answer",
    ),
    "another prompt": (PAIR, {**WHOLE, "prompt": "x"}, "the same messages, but not with the promp"),
    "system twice": (
        SFT,
        {"messages": [SYSTEM, USER, ANSWER], "system": "Be brief."},
        "field system, but the messages begin with a system message too",
    ),
    "tools as text": (SFT, {**SFT, "tools": "search"}, "field tools: expected JSON"),
    "input is text": (AZURE, {**AZURE, "input": "Hi"}, "field input: expected an object, found t"),
    "label is text": (
        KTO,
        {**KTO, "label": "good"},
        "field label: expected true or false, found t",
    ),
    "label is 2": (KTO, {**KTO, "label": 2}, "field label: expected true or false, found 2"),
    "label of 400 digits": (
        KTO,
        {**KTO, "label": 10**400},
        "expected true or false, found 10{19};",
    ),
    "labels too few": (STEPS, {**STEPS, "labels": [True]}, "1 labels for 2 completions"),
    "step label": (STEPS, {**STEPS, "labels": [True, -1]}, r"labels\[1\]: expected true, false or"),
    "steps as text": (STEPS, {**STEPS, "completions": "a"}, "expected a list, found text"),
    "no problem": (PRM, {**PRM, "question": {}}, "field problem is missing"),
    "no steps": (PRM, {**PRM, "label": {}}, "field steps is missing"),
    "rating 2": (
        PRM,
        {**PRM, "label": {"steps": [{"completions": [{"text": "a", "rating": 2}]}]}},
        r"field label.steps\[0\].completions\[0\]: expected ratings -1, 0 or 1, found 2",
    ),
    "no such completion": (
        PRM,
        {**PRM, "label": {"steps": [{"completions": [], "chosen_completion": 1}]}},
        "chosen_completion: expected null or a number below 0, found 1",
    ),
    "marks of another text": (
        SHEPHERD,
        {**SHEPHERD, "label": "p Step 1: b +"},
        r"the text of input with \+ or - after step 1",
    ),
    "no first step": (SHEPHERD, {"input": "a ки", "label": "a +"}, "a problem, then steps"),
    "an unlabelled end": (
        SHEPHERD,
        {"input": "p Step 1: a ки b", "label": "p Step 1: a + b"},
        "no label",
    ),
    "scores too many": (RANKS, {**RANKS, "scores": [1, 2, 3]}, "3 numbers for 2 answers"),
    "a score is null": (RANKS, {**RANKS, "scores": [1, None]}, r"scores\[1\]: expected a finite"),
    "rank is missing": (
        NECTAR,
        {**NECTAR, "answers": [{"answer": "a"}]},
        r"in answers\[0\], field",
    ),
    "preference 3": (FARM, {**FARM, "preference": 3}, "expected 1 or 2, or 0 for a tie, found 3"),
    "preference null": (
        STEER,
        {**STEER, "overall_preference": None},
        "a finite number, found null",
    ),
    "history": (
        {"instruction": "i", "output": "o"},
        {"instruction": "i", "output": "o", "history": [["a"]]},
        r"field history: expected pairs \[user, assistant\]",
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_a_broken_row_is_named(tmp_path, case):
    good, bad, message = ROWS[case]
    path = write(tmp_path / "rows.jsonl", good, bad)
    with pytest.raises(ValueError, match=rf"rows\.jsonl, row 2: .*{message}") as error:
        read_rows(path)
    assert "\n" not in str(error.value)
    assert "; a row of format " in str(error.value)


def test_a_refusal_says_what_was_found_and_the_nearest_format(tmp_path):
    path = write(tmp_path / "rows.jsonl", {"instruction": "i", "output_1": "a", "output_2": "b"})
    with pytest.raises(ValueError, match=r"rows\.jsonl, row 1") as error:
        read_rows(path, kind="pairs")
    assert str(error.value).partition(": ")[2] == (
        "no format of pairs has these columns: instruction (text), output_1 (text), output_2 "
        "(text); they are prompts (format prompts); the nearest format is alpaca_preference, a "
        "row is "
        '{"instruction": "Add.", "input": "2+2", "output_1": "4", "output_2": "5", "preference": 1}'
        "; rename the columns"
    )


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"Prompt": "p", "Chosen": "a", "rejected ": "b"}, "the nearest format is pairs, a row is"),
        ({"a": 1, "b": 2}, "the nearest format is text, a row is"),
        ({"": "p"}, r"has these columns:  \(text\); the nearest"),
        ({"a\nb": "p"}, r"has these columns: a\\nb \(text\); the nearest"),
        ({"k" * 5000: 1}, r"has these columns: k{60} \(a number\); the nearest"),
        ({f"k{i}": 1 for i in range(999)}, r"k19 \(a number\) and 979 more; the nearest"),
        ({"data": [PAIR]}, "the rows are in field data; write that list alone"),
    ],
)
def test_unknown_columns_are_one_line_with_the_nearest_format(tmp_path, row, said):
    with pytest.raises(ValueError, match=rf"rows\.jsonl, row 1: .*{said}") as error:
        read_rows(write(tmp_path / "rows.jsonl", row))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


def test_columns_of_parquet_with_other_types(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    for rows, said in (
        (
            [{"prompt": b"p", "chosen": b"a", "rejected": b"b"}],
            "field prompt: expected text, found b",
        ),
        ([{**KTO, "label": float("nan")}], "field label: expected true or false, found nan"),
        ([{**PAIR, "score_chosen": float("nan"), "score_rejected": 1.0}], "found NaN or infinity"),
        ([{**PAIR, "chosen": None}], "field chosen: expected text, found null"),
    ):
        parquet.write_table(arrow.Table.from_pylist(rows), path)
        with pytest.raises(ValueError, match=rf"rows\.parquet, row 1: .*{said}"):
            read_rows(path)
    parquet.write_table(arrow.table({}), path)
    with pytest.raises(ValueError, match=r"rows\.parquet: no records \(0 rows\)"):
        read_rows(path)


def test_a_file_of_another_kind_is_named(tmp_path):
    path = write(tmp_path / "rows.jsonl", SFT)
    message = r"no format of pairs has these columns: messages \(a list of objects\); "
    with pytest.raises(ValueError, match=f"{message}they are answers \\(format messages\\)"):
        read_rows(path, kind="pairs")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], r"no records \(0 rows\)"),
        ([{**PAIR, "chosen": "bad"}], r"no pairs \(1 rows, 1 equal answers\)"),
        ([{**PAIR, "chosen": " "}], r"no pairs \(1 rows, 1 blank answers\)"),
        ([{**FARM, "preference": 0}], r"no pairs \(1 rows, 1 ties\)"),
        ([{**RANKS, "scores": [1, 1]}], r"no rankings \(1 rows, 1 ties\)"),
        (
            [{"prompt": "p", "answers": [{"answer": "a", "rank": 1}]}],
            r"no rankings \(1 rows, 1 rankings of one answer\)",
        ),
        ([{**STEPS, "completions": [], "labels": []}], r"no steps \(1 rows, 1 blank steps\)"),
        ([{"text": "\n"}], r"no answers \(1 rows, 1 blank answers\)"),
    ],
)
def test_a_file_without_anything_to_learn_from_is_refused(tmp_path, rows, said):
    with pytest.raises(ValueError, match=rf"rows\.jsonl: {said}; give a file with at least one"):
        read_rows(write(tmp_path / "rows.jsonl", *rows))


def test_one_row_is_enough(tmp_path):
    assert len(read_rows(write(tmp_path / "rows.jsonl", PAIR)).records) == 1


def test_columns_of_null_are_no_values(tmp_path):
    """Arrow and Parquet give every row all columns, and every message all keys."""
    keys = {"tool_calls": None, "name": None}
    row = {"messages": [{**USER, **keys}, {**ANSWER, **keys}], "system": None, "tools": None}
    (record,) = read_rows(write(tmp_path / "rows.jsonl", row)).records
    assert (record.prompt, record.answer, record.tools) == ((USER,), (ANSWER,), ())


def test_a_chosen_answer_with_the_lower_score_is_counted(tmp_path):
    row = {**PAIR, "score_chosen": 1.0, "score_rejected": 4.0}
    found = read_rows(write(tmp_path / "rows.jsonl", row))
    assert found.records[0].margin == -3.0
    assert found.counts == {"chosen scored lower, kept": 1}


def test_no_text_is_quoted(tmp_path):
    path = write(tmp_path / "rows.jsonl", {**PAIR, "prompt": "secret", "extra": "secret"}, {})
    with pytest.raises(ValueError, match="no columns") as error:
        read_rows(Path(path))
    assert "secret" not in str(error.value)
