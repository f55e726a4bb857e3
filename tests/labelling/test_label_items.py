"""What is judged, from the files that people have."""

import re

import pytest
from labelled_rows import write_rows

from rlhf_jax.labelling import read_items
from rlhf_jax.labelling.items import shown_answer, shown_prompt
from rlhf_jax.labelling.order import answer_order, row_order

USER = {"role": "user", "content": "2+2?"}
CALL = [{"role": "assistant", "content": "", "tool_calls": [{"type": "function"}]}]


def texts(path, rows, kind="pairs"):
    """(prompt, answers) of each item."""
    items = read_items(write_rows(path, rows), kind).by_key.values()
    return [(item.prompt, item.answers) for item in items]


@pytest.mark.parametrize(
    "rows",
    [
        [{"prompt": "2+2?", "answers": ["4", "5"], "models": ["x", "y"]}],
        [{"prompt": "2+2?", "answers": [{"text": "5", "model": "x"}, {"text": "4"}]}],
        [{"question": "2+2?", "response_a": "4", "response_b": "5"}],
        [{"instruction": "2+2?", "output_1": "4", "output_2": "5"}],
        [{"prompt": "2+2?", "chosen": "4", "rejected": "5"}],
        [{"prompt": "2+2?", "answers": ["5", "4"], "scores": [0, 1]}],
        [{"prompt": "2+2?", "answer": "4"}, {"prompt": "2+2?", "answer": "5"}],  # rlhf sample
        [{"prompt": "2+2?", "completion": x, "label": x == "4"} for x in "45"],
    ],
    ids=["lists", "objects", "a and b", "1 and 2", "pairs", "rankings", "samples", "labelled"],
)
def test_any_file_with_two_answers_is_the_same_item(tmp_path, rows):
    assert texts(tmp_path / "data.jsonl", rows) == [("2+2?", ("4", "5"))]


def test_an_item_has_the_same_key_in_any_order_and_is_shown_once(tmp_path):
    first = {"prompt": "2+2?", "answers": ["4", "5", " "]}
    other = {"prompt": "2+2?", "answers": ["5", "4", "4"]}
    (item,) = read_items(
        write_rows(tmp_path / "data.jsonl", [first, other]), "pairs"
    ).by_key.values()
    (same,) = read_items(write_rows(tmp_path / "data.jsonl", [other]), "pairs").by_key.values()
    assert item == same


def test_the_note_counts_what_was_read_and_left_out(tmp_path):
    rows = [{"prompt": "2+2?", "chosen": "4", "rejected": x, "model": "x"} for x in ("5", "4 ")]
    found = read_items(write_rows(tmp_path / "data.jsonl", rows), "pairs")
    assert found.note == (
        "pairs: 1 pairs of 2 rows, 1 equal answers; unused columns: model; 1 items of pairs"
    )


def test_three_answers_are_three_pairs_one_rating_and_three_texts_to_mark(tmp_path):
    path = tmp_path / "data.jsonl"
    rows = [{"prompt": "2+2?", "answers": ["4", "5"]}, {"prompt": "2+2?", "answers": ["6", "4"]}]
    assert [answers for _, answers in texts(path, rows, "pairs")] == [("4", "5"), ("4", "6")]
    assert [answers for _, answers in texts(path, rows, "ratings")] == [("4", "5", "6")]
    assert [answers for _, answers in texts(path, rows, "spans")] == [("4",), ("5",), ("6",)]
    rows = [{"prompt": "2+2?", "answers": ["4", "5", "6"]}]
    assert len(texts(path, rows, "pairs")) == 3


def test_dialogues_are_shown_by_turns():
    assert shown_prompt("\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: 2+2?\n\nAssistant:") == [
        {"role": "user", "text": "Hi"},
        {"role": "assistant", "text": "Hello."},
        {"role": "user", "text": "2+2?"},
    ]
    assert shown_prompt((USER,)) == [{"role": "user", "text": "2+2?"}]
    both = (*CALL, {"role": "tool", "content": "4"})
    assert shown_answer(both).startswith("assistant:\n[")
    assert shown_answer(both).endswith("tool:\n4")


def test_answers_to_messages_are_messages_and_texts_to_rate(tmp_path):
    rows = [{"prompt": [USER], "answers": ["4", "5"]}]
    four, five = ([{"role": "assistant", "content": text}] for text in "45")
    ((prompt, answers),) = texts(tmp_path / "data.jsonl", rows)
    assert [*map(list, (prompt, *answers))] == [[USER], four, five]
    ((_, answers),) = texts(tmp_path / "data.jsonl", rows, "ratings")
    assert answers == ("4", "5")
    with pytest.raises(ValueError, match="tool calls has no text to rate"):
        texts(tmp_path / "data.jsonl", [{"prompt": [USER], "answers": [CALL, "5"]}], "spans")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "2+2?"}, "expected pairs or prompts with answers"),
        ({"text": "A document."}, "texts without a prompt"),
        ({"prompt": "2+2?", "answers": ["4"]}, "nothing to judge (1 rows); pairs need rows as"),
        ({"prompt": "2+2?", "answers": []}, "row 1: no answers"),
        ({"prompt": "2+2?", "answers": [4, 5]}, "row 1: field answers: expected text, found a"),
        ({"prompt": " ", "answers": ["4", "5"]}, "row 1: field prompt is empty"),
        ({"prompt": "2+2?", "answer_a": "4", "answer_b": None}, "row 1: field answers"),
    ],
)
def test_a_file_without_answers_to_compare_is_refused(tmp_path, row, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        texts(tmp_path / "data.jsonl", [row])


def test_the_order_is_of_the_seed_and_the_annotator_and_new_rows_do_not_change_it(tmp_path):
    rows = [{"prompt": f"{i}?", "answers": ["a", "b"]} for i in range(40)]
    items = read_items(write_rows(tmp_path / "data.jsonl", rows), "pairs").by_key
    fewer = read_items(write_rows(tmp_path / "data.jsonl", rows[20:]), "pairs").by_key
    ann = row_order(items.values(), seed=0, annotator="ann")
    assert ann != row_order(items.values(), seed=0, annotator="bob")
    assert ann != row_order(items.values(), seed=1, annotator="ann")
    known = [item for item in ann if item.key in fewer]
    assert known == row_order(fewer.values(), seed=0, annotator="ann")
    # 40 fair coins: fewer than 8 or more than 32 heads once in 10,000.
    swapped = sum(answer_order(item, seed=0, annotator="ann") == [1, 0] for item in ann)
    assert 8 <= swapped <= 32
