"""`--stop`: strings that end an answer, of `rlhf sample` and of methods on fresh answers."""

import json
from itertools import pairwise

import pytest

from rlhf_jax.cli import main

MODULE = """
import json
from pathlib import Path

def seen(prompts, answers):
    with Path("seen.jsonl").open("a") as file:
        file.writelines(json.dumps(answer) + "\\n" for answer in answers)
    return [float(len(answer)) for answer in answers]
"""
STOPS = tuple("abcdefghijklmnopqrstuvwxyz")


def run(*words):
    return main([str(word) for word in words])


@pytest.mark.long
def test_samples_end_before_a_stop_string(tmp_path, model, files):
    """The same draws: each answer is the beginning of the one without stops."""
    answers = []
    for name, stop in (("whole", ()), ("cut", ("--stop", *STOPS))):
        out = tmp_path / f"{name}.jsonl"
        given = ("--model", model, "--prompts", files / "prompts.txt", "--samples", "4")
        assert run("sample", *given, "--answer-length", "12", *stop, "--out", out) == 0
        answers.append([json.loads(line)["answer"] for line in out.read_text().splitlines()])
    whole, cut = answers
    assert whole != cut
    for one, other in zip(whole, cut, strict=True):
        ends = [at for at, letter in enumerate(one) if letter in STOPS]
        assert other == one[: ends[0] if ends else None]


@pytest.mark.long
def test_a_reward_sees_nothing_behind_a_stop_string(tmp_path, monkeypatch, model, files, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "stop_rewards.py").write_text(MODULE)
    given = ("--model", model, "--prompts", files / "prompts.txt", "--batch-size", "8")
    given += ("--reward", "stop_rewards:seen", "--answer-length", "12", "--steps", "2")
    assert run("grpo", *given, "--samples", "2", "--stop", *STOPS, "--out", tmp_path / "out") == 0
    answers = [json.loads(line) for line in (tmp_path / "seen.jsonl").read_text().splitlines()]
    assert len(answers) > 30
    assert not any(letter in answer for answer in answers for letter in STOPS)
    assert any(len(a) != len(b) for a, b in pairwise(answers))


@pytest.mark.parametrize(
    ("command", "stop", "message"),
    [
        ("grpo", "", "stop must be strings that are not empty"),
        ("nash-md", "a", "self-play excludes --stop: whole answers are drawn"),
    ],
)
def test_stops_it_cannot_use_are_named(tmp_path, model, files, capsys, command, stop, message):
    given = ("--model", model, "--prompts", files / "prompts.txt", "--reward", "exact")
    assert run(command, *given, "--stop", stop, "--out", tmp_path / "out") == 2
    assert message in capsys.readouterr().err
