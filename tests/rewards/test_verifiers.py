"""Verifiers: what counts as the same answer, and what counts as none."""

import re
from fractions import Fraction

import pytest

from rlhf_jax.rewards import exact_reward, math_reward, regex_reward
from rlhf_jax.rewards.verifiers import exact_match, exact_number, extract_code, extract_result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{1}, no: \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{3} and then \boxed{4", "3"),  # the last one never closes
        ("6 x 7 = 42\n#### 42\nthanks", "42"),
        ("#### 1\n#### 2", "2"),
        ("####", ""),
        ("just 42", None),
    ],
)
def test_the_marked_result_is_found(text, result):
    assert extract_result(text) == result


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("It costs $1,000.00.", "1000"),
        ("first 3, then 42", "42"),
        (r"\boxed{.5}", "1/2"),
        ("#### -7", "\N{MINUS SIGN}7"),
        ("5-2", "2"),  # a difference, not a negative number
        ("50%", "50"),
        ("#### 72", "some working\n#### 72"),
        (" paris. ", "Paris"),
        (r"\boxed{New  York}", "new york"),
        ("\N{FULLWIDTH DIGIT FOUR}2", "42"),
    ],
)
def test_equal_answers_match(answer, reference):
    assert exact_match(answer, reference)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("42, not 41", "42"),  # the last number counts
        ("", "42"),
        ("no number", "42"),
        (r"\boxed{41} 42", "42"),  # the marked result counts
        ("It is Paris", "Paris"),
        ("x42", "42"),
        ("1/0", "0"),
    ],
)
def test_other_answers_do_not(answer, reference):
    assert not exact_match(answer, reference)


def test_numbers_are_exact():
    assert exact_number("1,234.5") == Fraction(2469, 2)
    assert exact_number("0.1") == Fraction(1, 10)
    assert [exact_number(text) for text in ("1/0", "1e999999999", "1,2", "", "9" * 9999)] == [
        None
    ] * 5


def test_exact_reward_reads_its_column():
    score = exact_reward("solution")
    assert score(["a", "b"], ["#### 4", "5"], solution=[4, "6"], answer=["0", "0"]) == [1.0, 0.0]


def test_the_last_fenced_block_is_the_code():
    assert extract_code("First\n```python\nx = 1\n```\nbetter:\n```\nx = 2\n```") == "x = 2\n"
    assert extract_code("```py\nx = 3\n") == "x = 3\n"  # cut off
    assert extract_code("x = 4") == "x = 4"


def test_a_regular_expression_is_searched_for():
    pytest.importorskip("regex")
    score = regex_reward(r"(?i)^the dog\b.*happ(y|ily)")
    answers = ["The dog lives happily.", "A dog, happy", "the dogs are happy"]
    assert score(["p"] * 3, answers, other=[1, 2, 3]) == [1.0, 0.0, 0.0]


def test_an_expression_that_backtracks_without_end_is_cut():
    pytest.importorskip("regex")
    assert regex_reward(r"(a|aa)+$", seconds=0.05)(["p"], ["a" * 60 + "b"]) == [0.0]


def test_a_bad_expression_is_named():
    pytest.importorskip("regex")
    with pytest.raises(ValueError, match=re.escape("regular expression '(': missing )")):
        regex_reward("(")


@pytest.mark.long
def test_mathematics_is_compared_by_value_and_a_hanging_answer_is_wrong():
    pytest.importorskip("math_verify")
    score = math_reward(seconds=2.0)
    pairs = [
        (r"\frac{1}{2}", r"so \boxed{0.5}", 1.0),
        (r"\frac{1}{2}", r"so \boxed{2}", 0.0),
        ("2\\sqrt{3}", r"it is $\sqrt{12}$", 1.0),
        ("5", r"\boxed{9^{9^{9^{9}}}}", 0.0),  # the process is killed
        ("#### 1,000", "that is 1000", 1.0),  # a new one answers
        ("Paris", r"\boxed{Paris}", 1.0),
        ("5", "", 0.0),
    ]
    references, answers, expected = zip(*pairs, strict=True)
    assert score(["p"] * len(pairs), answers, answer=references) == list(expected)
