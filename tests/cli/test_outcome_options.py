"""`--outcomes`: what came of an answer is read by the judge, and never by the policy."""

import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.online_options import Scoring
from rlhf_jax.cli.rewards import scoring_compare
from rlhf_jax.recipes import read_completions

MODULE = """
SEEN = []

def after(prompts, answers):
    return ["good" if len(a) % 2 else "bad" for a in answers]

def judge(prompts, first, second):
    SEEN.extend([*first, *second])
    return [0.5 + 0.5 * (("good" in a) - ("good" in b)) for a, b in zip(first, second)]

def down(prompts, answers):
    raise OSError("the shop is closed")

def one(answers):
    return answers
"""
FEW = ("--batch-size", "8", "--answer-length", "3", "--completions-every", "1", "--steps", "2")


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture
def words(tmp_path, monkeypatch, model, files):
    """A command up to its judge, with a module of it in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_outcomes.py").write_text(MODULE)
    return ("--model", model, "--prompts", files / "prompts.txt", "--out", tmp_path / "run", *FEW)


@pytest.mark.long
@pytest.mark.parametrize("command", ["online-dpo", "ppo"])
def test_answers_with_better_outcomes_win(tmp_path, words, command):
    given = ("--judge", "my_outcomes.py:judge", "--outcomes", "my_outcomes.py:after")
    more = ("--minibatches", "1") if command == "ppo" else ()
    assert run(command, *words, *given, "--samples", "2", *more) == 0
    table = read_completions(tmp_path / "run" / "stages" / command)
    assert table
    for row in table:
        assert "Outcome" not in row["prompt"] + row["answer"]
    by_prompt = {}
    for row in table:
        by_prompt.setdefault((row["step"], row["prompt"]), []).append(row)
    for rows in by_prompt.values():
        good = [len(row["answer"]) % 2 for row in rows]
        if len(rows) == 2 and sum(good) == 1:
            assert [row["score"] for row in rows] == [float(x) for x in good]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--outcomes", "my_outcomes.py:after"), "--outcomes are for a judge to read"),
        (
            ("--judge", "my_outcomes.py:judge", "--outcomes", "my_outcomes.py:one"),
            "must take (prompts, answers)",
        ),
        (("--judge", "my_outcomes.py:judge", "--outcomes", "nothing.py:a"), "no such file"),
    ],
)
def test_what_cannot_be_simulated_is_named(words, capsys, given, message):
    assert run("online-dpo", *words, "--reward", "regex:a", *given) == 2
    assert message in capsys.readouterr().err


@pytest.mark.long
def test_a_simulator_that_raises_stops_the_run_with_its_prompt(words, capsys):
    given = ("--judge", "my_outcomes.py:judge", "--outcomes", "my_outcomes.py:down")
    assert run("online-dpo", *words, *given) == 2
    said = capsys.readouterr().err
    assert "simulating the outcomes of" in said
    assert "OSError: the shop is closed" in said


def test_without_outcomes_it_is_the_judge(tmp_path):
    (tmp_path / "my_outcomes.py").write_text(MODULE)
    judge = f"{tmp_path / 'my_outcomes.py'}:judge"
    prompts = tmp_path / "prompts.txt"
    assert scoring_compare(Scoring(prompts=prompts)) is None
    answers = ["p", "p"], ["aaa", "aa"], ["bb", "bbb"]
    plain = scoring_compare(Scoring(prompts=prompts, judge=judge))
    assert plain is not None
    assert plain(*answers) == [0.5, 0.5]
    told = scoring_compare(
        Scoring(prompts=prompts, judge=judge, outcomes=judge.replace(":judge", ":after"))
    )
    assert told is not None
    assert told(*answers) == [1.0, 0.0]
