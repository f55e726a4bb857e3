"""`rlhf p3o`: a run with a reward that has gaps, and options that it refuses."""

import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.training import read_metrics

MODULE = """
def patchy(prompts, answers):
    '''None, NaN, or a number; the answers to "2 " are all worth the same.'''
    found = [None, float("nan"), 1.0, 2.0, 3.0, 4.0, 5.0]
    return [
        7.0 if prompt == "2 " else found[sum(map(ord, answer)) % 7]
        for prompt, answer in zip(prompts, answers)
    ]

def nothing(prompts, answers):
    return [None for _ in answers]
"""
FEW = ("--batch-size", "16", "--answer-length", "3", "--steps", "2")


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture
def words(tmp_path, monkeypatch, model):
    """The command on eight prompts and rewards in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "patchy_rewards.py").write_text(MODULE)
    (tmp_path / "prompts.txt").write_text("\n".join(f"{i} " for i in range(8)))
    return "p3o", "--model", model, "--prompts", tmp_path / "prompts.txt", *FEW


@pytest.mark.long
@pytest.mark.parametrize(
    "options",
    [
        ("--samples", "3", "--passes", "2", "--minibatches", "2", "--weight-clip-eps", "0.5"),
        ("--clip", "separate", "--clip-eps", "inf", "--micro-batches", "2"),
    ],
)
def test_a_run_leaves_out_answers_without_a_score(tmp_path, words, options):
    out = tmp_path / "out"
    assert run(*words, "--out", out, "--reward", "patchy_rewards:patchy", *options) == 0
    rows = [row for row in read_metrics(out) if row["stage"] == "p3o"]
    assert len(rows) == 2
    assert np.isfinite([row["loss"] for row in rows]).all()
    assert all(0 < row["scores/finite"] <= 1 for row in rows)
    assert all(0 <= row["groups/informative"] < 1 for row in rows)
    logged = {"pairs/scored", "pairs/agreement", "ratios/joint_clip", "ratios/separate_clip"}
    assert logged <= set(rows[0])
    assert (out / "model").is_dir()


@pytest.mark.long
def test_no_score_at_all_is_refused_before_training(tmp_path, words, capsys):
    out = tmp_path / "out"
    assert run(*words, "--out", out, "--reward", "patchy_rewards:nothing") == 2
    assert "the reward has no number for any of" in capsys.readouterr().err
    assert not [row for row in read_metrics(out) if row["stage"] == "p3o"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--samples", "1"), "samples must be in [2, inf), got 1"),
        (("--clip-eps", "0"), "clip-eps must be in (0, inf]"),
        (("--kl", "-1"), "kl must be in [0, inf)"),
        (("--minibatches", "3"), "the 16 prompts of a step must split evenly into 3 --minibatches"),
        (("--clip", "separate", "--weight-clip-eps", "1"), "--weight-clip-eps is for --clip joint"),
    ],
)
def test_options_it_cannot_use_are_named(tmp_path, words, capsys, options, message):
    given = (*words, "--out", tmp_path / "out", "--reward", "patchy_rewards:patchy", *options)
    assert run(*given) == 2
    assert message in capsys.readouterr().err
