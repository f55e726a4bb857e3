"""`rlhf curate`: pairs kept, flipped and left out, with their counts."""

import json

import numpy as np
import pytest

from rlhf_jax.cli import curation, main

PAIRS = [{"prompt": f"{n}?", "chosen": "a", "rejected": "b", "margin": 2.0} for n in range(4)]
# Kept by both, kept by gold and judge, turned round by all three, left out: nobody agrees.
GOLD, BEST = np.array([0.9, 0.8, 0.1, 0.2]), np.array([0.7, 0.3, 0.2, 0.9])
JUDGE = """
def judge(prompts, first, second):
    wins = {"1?": "a", "2?": "b"}
    return [float(wins[p] == one) for p, one in zip(prompts, first)]

def against(prompts, first, second):
    return [float(one == "b") for one in first]
"""


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture
def given(tmp_path, monkeypatch):
    """A pool, a judge, and two reward models with these confidences."""
    found = {"gold": GOLD, "best": BEST}
    monkeypatch.setattr(curation, "_confidence", lambda folder: lambda pairs: found[folder.name])
    (tmp_path / "judge.py").write_text(JUDGE)
    (tmp_path / "pool.jsonl").write_text("\n".join(map(json.dumps, PAIRS)))
    words = ("curate", "--data", tmp_path / "pool.jsonl", "--gold", "gold", "--best", "best")
    return (*words, "--out", tmp_path / "out.jsonl", "--judge", f"{tmp_path}/judge.py:judge")


def test_pairs_are_kept_flipped_or_left_out(given, tmp_path, capsys):
    assert run(*given) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert rows == [
        PAIRS[0],
        PAIRS[1],
        {"prompt": "2?", "chosen": "b", "rejected": "a"},  # the margin was of another label
    ]
    said = capsys.readouterr().out
    assert "4 pairs: keep 2, flip 1, discard 1, relabel 2, unjudged 0" in said


def test_every_pair_that_is_not_kept_may_be_turned(given, tmp_path, monkeypatch):
    words = (*given[:-1], f"{tmp_path}/judge.py:against", "--flip-discarded")
    assert run(*words) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["chosen"] for row in rows] == ["a", "b", "b", "b"]


def test_bad_input_is_named(given, tmp_path, monkeypatch, capsys):
    assert run(*given, "--samples", "0") == 2
    assert "samples must be in [1, inf)" in capsys.readouterr().err
    nobody = {"gold": np.full(4, 0.6), "best": np.full(4, 0.4)}
    monkeypatch.setattr(curation, "_confidence", lambda folder: lambda pairs: nobody[folder.name])
    assert run(*given[:-1], f"{tmp_path}/judge.py:against") == 2
    assert "no pair is left" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()
    monkeypatch.undo()
    assert run(*given) == 2
    assert "gold" in capsys.readouterr().err  # no such folder


@pytest.mark.long
def test_folders_of_reward_models_are_asked(given, tmp_path, model, monkeypatch):
    monkeypatch.undo()
    words = ("reward", "--model", model, "--data", tmp_path / "pool.jsonl", "--heldout", "0")
    assert run(*words, "--steps", "8", "--batch-size", "8", "--out", tmp_path / "reward") == 0
    folder = tmp_path / "reward" / "model"
    words = ("--gold", folder, "--best", folder)
    assert run(*given[:3], *words, *given[7:]) == 0
    assert (tmp_path / "out.jsonl").read_text().count("\n") >= 1
