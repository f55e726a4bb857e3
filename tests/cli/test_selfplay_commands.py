"""Preference games from the command line, with rewards and with a judge of two answers."""

import json

import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.selfplay import GAMES, named_game
from rlhf_jax.recipes import read_completions
from rlhf_jax.training import UserError, read_metrics

JUDGES = """
def vowels(prompts, answers):
    return [a.count('a') / 4 for a in answers]

def longer(prompts, first, second):
    '''The longer answer wins; no verdict on different answers that begin alike.'''
    pairs = zip(first, second)
    return [
        0.5 if a == b else None if a[:1] == b[:1] else float(len(a) > len(b)) for a, b in pairs
    ]

def silent(prompts, first, second):
    return [None] * len(first)
"""
FEW = ("--steps", "2", "--batch-size", "8", "--answer-length", "3", "--completions-every", "1")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module of rewards and judges, found in the current folder."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_judges.py").write_text(JUDGES)


def play(*words):
    return main([str(word) for word in words])


def rows_of(out, stage):
    return [row for row in read_metrics(out) if row["stage"] == stage]


@pytest.mark.long
def test_nash_md_samples_checks_guards_and_shows_like_the_other_online_commands(
    tmp_path, model, files, mine
):
    out = tmp_path / "nash"
    words = ("nash-md", "--model", model, "--prompts", files / "prompts.txt", "--out", out, *FEW)
    given = ("--reward", "my_judges:vowels", "--temperature", "0.5", "--top-k", "3")
    assert play(*words, *given, "--method-options", "mixture", "0.5") == 0
    rows = rows_of(out, "nash-md")
    assert all(0 <= row["sampler/gap"] < 1e-3 and row["sampler/tokens"] > 0 for row in rows)
    assert {"answers/length", "kl/ref", "prefs/mean", "judge/comparisons"} <= set(rows[0])
    table = read_completions(out / "stages" / "nash-md")
    assert {row["step"] for row in table} == {1, 2}
    assert all(0 <= row["score"] <= 1 and row["scores"]["comparisons"] >= 1 for row in table)
    # Three likeliest tokens at temperature 1/2: fewer different answers than 260 tokens give.
    assert len({row["answer"][:1] for row in table}) <= 3
    assert "refresh" not in (out / "completions.html").read_text()
    assert "reward" in json.loads((out / "summary.json").read_text())["numbers"]


@pytest.mark.long
@pytest.mark.parametrize("name", ["inpo", "spo"])
def test_a_judge_of_two_answers_trains_without_a_reward(tmp_path, model, files, mine, name):
    out = tmp_path / name
    words = (name, "--model", model, "--prompts", files / "prompts.txt", "--out", out, *FEW)
    assert play(*words, "--judge", "my_judges:longer") == 0
    assert np.isfinite([row["grad_norm"] for row in rows_of(out, name)]).all()
    found = json.loads((out / "summary.json").read_text())["numbers"]
    assert found["win rate over the start"]["before"] == 0.5
    assert 0 <= found["win rate over the start"]["after"] <= 1  # one prompt has no interval
    assert "reward" not in found


@pytest.mark.long
def test_a_judge_labels_the_pairs_of_online_dpo(tmp_path, model, files, mine):
    out = tmp_path / "pairs"
    words = ("online-dpo", "--model", model, "--prompts", files / "prompts.txt", "--out", out, *FEW)
    assert play(*words, "--judge", "my_judges:longer", "--reward", "my_judges:vowels") == 0
    rows = rows_of(out, "online-dpo")
    assert {"pairs/decided", "named/vowels"} <= set(rows[0])
    # A win rate over the other answer is 0 or 1, or nothing: the two of a pair sum to 1.
    scores = [row["score"] for row in read_completions(out / "stages" / "online-dpo")]
    pairs = list(zip(scores[::2], scores[1::2], strict=True))
    assert {None if a is None else a + b for a, b in pairs} <= {None, 1.0}
    assert 1.0 in {a + b for a, b in pairs if a is not None}


@pytest.mark.long
def test_online_dpo_pairs_what_is_least_known(tmp_path, model, files, mine):
    out = tmp_path / "explored"
    words = ("online-dpo", "--model", model, "--prompts", files / "prompts.txt", "--out", out, *FEW)
    words = (*words, "--judge", "my_judges:longer", "--samples", "4", "--explore", "1.0")
    assert play(*words) == 0
    rows = rows_of(out, "online-dpo")
    assert 0 < np.mean([row["pairs/decided"] for row in rows]) < 1
    assert np.isfinite([row["grad_norm"] for row in rows]).all()


def test_settings_of_a_game_replace_its_usual_ones_and_are_checked():
    assert named_game("mnpo", {"history": 3.0}).settings == {"eta": 1.0, "history": 3, "steps": 4}
    for name, settings, message in (
        ("nash", {}, "did you mean nash-m"),
        ("spo", {"steps": 2.0}, "has no setting steps; it has samples 4"),
        ("inpo", {"steps": 1.5}, "steps must be a whole number >= 1, got 1.5"),
    ):
        with pytest.raises(UserError, match=message):
            named_game(name, settings)
    assert {"nash-md", "nash-mp", "inpo", "egpo", "spo", "mnpo"} <= set(GAMES)


def test_what_cannot_be_judged_is_refused_in_one_line(tmp_path, model, files, mine, capsys):
    words = ("--model", model, "--prompts", files / "prompts.txt", "--out", tmp_path / "out", *FEW)
    for command, given, message in (
        ("spo", (), "rlhf spo needs --reward or --judge"),
        ("spo", ("--judge", "nothing"), "judge 'nothing': expected module:function"),
        ("spo", ("--judge", "my_judges:vowels"), "must take (prompts, first, second)"),
        ("spo", ("--judge", "http://localhost:1/v1"), "name the model behind the address"),
    ):
        assert play(command, *words, *given) == 2
        found = capsys.readouterr().err
        assert message in found
        assert len(found.splitlines()) == 1


@pytest.mark.long
def test_a_judge_without_a_verdict_ends_the_run_in_one_line(tmp_path, model, files, mine, capsys):
    words = ("spo", "--model", model, "--prompts", files / "prompts.txt", *FEW)
    assert play(*words, "--out", tmp_path / "out", "--judge", "my_judges:silent") == 2
    assert "no verdict on any of" in capsys.readouterr().err.splitlines()[-1]
