"""Judges that read what came of an answer: what they are shown, and what fails."""

import numpy as np
import pytest

from rlhf_jax.rewards import JudgeError, hindsight_pairs, load_outcomes
from rlhf_jax.rewards.outcomes import with_outcome

PROMPTS = ["a lamp", "a kettle", "a lamp"]
FIRST, SECOND = ["it is bright", "it is quiet", "ask later"], ["no idea", "it hums", "no idea"]


def boasting(prompts, first, second):
    """Prefers "it is", but what was sent back is never better."""
    worth = [[("it is" in a) - 2 * ("sent back" in a) for a in side] for side in (first, second)]
    return [float(a > b) for a, b in zip(*worth, strict=True)]


def sent_back(prompts, answers):
    return ["sent back" if "it is" in answer else "kept" for answer in answers]


def test_an_outcome_turns_the_judgement():
    assert boasting(PROMPTS, FIRST, SECOND) == [1.0, 1.0, 0.0]
    assert hindsight_pairs(boasting, sent_back)(PROMPTS, FIRST, SECOND) == [0.0, 0.0, 0.0]


def test_the_judge_reads_the_outcome_below_the_answer_and_each_is_simulated_once():
    asked, shown = [], []

    def simulate(prompts, answers):
        asked.extend(zip(prompts, answers, strict=True))
        return sent_back(prompts, answers)

    def judge(prompts, first, second):
        shown.extend(zip(prompts, first, second, strict=True))
        return [0.25, 0.5, 0.75]

    assert hindsight_pairs(judge, simulate)(PROMPTS, FIRST, SECOND) == [0.25, 0.5, 0.75]
    sides = [*zip(PROMPTS * 2, FIRST + SECOND, strict=True)]
    assert sorted(asked) == sorted(set(sides))
    assert len(asked) == 5  # "no idea" to "a lamp" stands twice
    assert shown[1] == (
        "a kettle",
        "it is quiet\n\nOutcome: sent back",
        "it hums\n\nOutcome: kept",
    )
    assert with_outcome("it hums", "kept") == shown[1][2]


@pytest.mark.parametrize("unknown", [None, float("nan"), np.float64("nan"), "", "  "])
def test_an_unknown_outcome_is_no_verdict_and_is_not_asked_about(unknown):
    asked = []

    def simulate(prompts, answers):
        return [unknown if answer == "it hums" else "kept" for answer in answers]

    def judge(prompts, first, second):
        asked.extend(prompts)
        return boasting(prompts, first, second)

    assert hindsight_pairs(judge, simulate)(PROMPTS, FIRST, SECOND) == [1.0, None, 0.0]
    assert asked == ["a lamp", "a lamp"]


def test_no_known_outcome_asks_nobody():
    def nobody(prompts, first, second):
        raise AssertionError

    judge = hindsight_pairs(nobody, lambda prompts, answers: [None] * len(answers))
    assert judge(PROMPTS, FIRST, SECOND) == [None] * 3
    assert judge([], [], []) == []


def broken(prompts, answers):
    raise OSError("no route to the shop")


@pytest.mark.parametrize(
    ("simulate", "message"),
    [
        (broken, "of 5 answers, the first to 'a lamp': OSError: no route to the shop"),
        (lambda prompts, answers: ["kept"], "1 outcomes, expected 5, one for each answer"),
        (lambda prompts, answers: [0.5] * 5, r"must be a text, or None .* got 0\.5 .* 'a lamp'"),
        (lambda prompts, answers: [float("inf")] * 5, "must be a text, or None"),
    ],
)
def test_a_simulator_that_fails_is_named_with_its_prompts(simulate, message):
    with pytest.raises(JudgeError, match=message):
        hindsight_pairs(boasting, simulate)(PROMPTS, FIRST, SECOND)


def test_a_judge_of_too_few_verdicts_is_an_error():
    judge = hindsight_pairs(lambda *texts: [1.0], sent_back)
    with pytest.raises(ValueError, match="zip"):
        judge(PROMPTS, FIRST, SECOND)


def test_a_simulator_by_name(tmp_path):
    path = tmp_path / "world.py"
    path.write_text(
        "def after(prompts, answers):\n    return ['kept'] * len(answers)\n\ndef no(a):\n    pass\n"
    )
    assert load_outcomes(f"{path}:after")(["p"], ["a"]) == ["kept"]
    with pytest.raises(ValueError, match=r"must take \(prompts, answers\)"):
        load_outcomes(f"{path}:no")
    with pytest.raises(ValueError, match="no such file"):
        load_outcomes(f"{tmp_path / 'none.py'}:after")
