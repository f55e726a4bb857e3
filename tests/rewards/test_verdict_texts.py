"""Verdicts in text: what is read, what is not, and the questions that ask for them."""

import numpy as np
import pytest

from rlhf_jax.rewards import BINARY, GRADED, QUESTIONS, verdict_in, verdicts_in
from rlhf_jax.rewards.verdicts import JudgeQuestion, asked_text, check_question, label_value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("B is shorter. <answer>A</answer>", -1.0),
        ("<answer>\n B \n</answer>", 1.0),
        ("<answer>A</answer> No: <answer>B</answer>", 1.0),
        ("<answer>A or B, so B</answer>", 1.0),
        ("<answer>answer B.</answer>", None),
        ("<answer>**B**</answer>", 1.0),
        ("<answer>Bad</answer>", None),
        ("<answer></answer>", None),
        ("<answer>A", None),
        ("A", None),
        ("", None),
        ("<answer>A</answer><answer>neither</answer>", None),
    ],
)
def test_binary_verdicts(text, expected):
    assert verdict_in(text, BINARY) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<answer>-3</answer>", -3.0),
        ("<answer>2</answer>", 2.0),
        ("<answer>first -2, then 1</answer>", 1.0),
        ("<answer>0</answer>", None),
        ("<answer>4</answer>", None),
        ("<answer>13</answer>", None),
        ("<answer>1.5</answer>", None),
        ("<answer>2</answer", None),
    ],
)
def test_graded_verdicts(text, expected):
    assert verdict_in(text, GRADED) == expected


def test_what_has_no_verdict_is_nan_and_keeps_its_place():
    found = verdicts_in(["<answer>B</answer>", "?", "<answer>A</answer>"], BINARY)
    np.testing.assert_array_equal(found, [1.0, np.nan, -1.0])


def test_labels_are_symbols_or_numbers():
    assert label_value("A", BINARY) == -1.0
    assert label_value(" -2", GRADED) == -2.0
    assert label_value(3, GRADED) == 3.0
    for label, scale in ((0, GRADED), ("C", BINARY), (2, BINARY), (None, GRADED), (True, BINARY)):
        with pytest.raises(ValueError, match="a judge's label must be one of"):
            label_value(label, scale)


def test_scales_are_symmetric():
    for scale in (BINARY, GRADED):
        values = sorted(scale.values.values())
        assert values == sorted(-z for z in values)
        assert 0.0 not in values
        assert scale.largest == values[-1]
        assert scale.symbols[scale.largest] == {1.0: "B", 3.0: "3"}[scale.largest]


def test_a_question_shows_both_answers_and_braces_in_them():
    text = asked_text(QUESTIONS["binary"], "say {x}", "{prompt}", "{}")
    assert text.index("say {x}") < text.index("{prompt}") < text.index("{}")
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes?"}]
    assert "user: hello\n\nassistant: yes?" in asked_text(QUESTIONS["graded"], turns, "a", "b")
    for question in QUESTIONS.values():
        check_question(question)
    for text in ("{prompt} {first}", "{prompt} {first} {second} {third}"):
        with pytest.raises(ValueError, match="must have prompt, first and second, got"):
            check_question(JudgeQuestion(text, BINARY))


def test_a_question_is_not_read_as_its_own_verdict():
    """The judge's text alone is read; of a question echoed whole it would be the last block."""
    assert verdict_in(asked_text(QUESTIONS["binary"], "p", "a", "b"), BINARY) == 1.0
