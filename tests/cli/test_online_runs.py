"""Whole runs on fresh answers: methods, trackers, a run that is stopped, two models compared."""

import json
import sys

import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.recipes import read_completions
from rlhf_jax.training import read_metrics

MODULE = """
import os
import signal
from pathlib import Path

def letters(prompts, answers):
    return [sum(map(ord, a)) % 7 / 7 for a in answers]

def stopping(prompts, answers):
    '''The same; the process gets Ctrl-C in the call whose number is in the file `stop`.'''
    if Path('stop').is_file():
        left = int(Path('stop').read_text()) - 1
        Path('stop').write_text(str(left))
        if left == 0:
            Path('stop').unlink()
            os.kill(os.getpid(), signal.SIGINT)
    return letters(prompts, answers)

def longer(prompts, first, second):
    return [0.5 + 0.5 * ((len(a) > len(b)) - (len(a) < len(b))) for a, b in zip(first, second)]
"""
TRACKER = """
sent = []

class Session:
    def log(self, values, step):
        sent.append((step, values))

def init(project, name, config):
    sent.append((project, name, config["batch_size"]))
    return Session()

def finish():
    sent.append("finished")
"""
FEW = ("--batch-size", "8", "--answer-length", "3", "--completions-every", "1")


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module of rewards in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_runs.py").write_text(MODULE)


@pytest.fixture
def prompts(files):
    return files / "prompts.txt"


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "options", "logged"),
    [
        ("ppo", (), {"loss/value", "kl/old"}),
        ("dapo", ("--samples", "4"), {"groups/filled", "scores/drawn"}),
    ],
)
def test_methods_run_to_a_model_a_report_and_a_table(
    tmp_path, model, prompts, mine, command, options, logged
):
    out = tmp_path / command
    words = (command, "--model", model, "--prompts", prompts, "--out", out, *FEW, *options)
    assert run(*words, "--steps", "2", "--reward", "my_runs:letters") == 0
    rows = [row for row in read_metrics(out) if row["stage"] == command]
    assert len(rows) == 2
    assert logged | {"sampler/gap", "kl/ref", "named/letters"} <= set(rows[0])
    assert np.isfinite([row["loss"] for row in rows]).all()
    assert {row["step"] for row in read_completions(out / "stages" / command)} == {1, 2}
    assert {"model", "report.html", "completions.html"} <= {path.name for path in out.iterdir()}


@pytest.mark.long
def test_trackers_are_sent_each_step_and_are_finished(tmp_path, model, files, mine, monkeypatch):
    for name in ("wandb", "trackio"):
        (tmp_path / f"{name}.py").write_text(TRACKER)
        monkeypatch.delitem(sys.modules, name, raising=False)
    words = ("sft", "--model", model, "--data", files / "text.txt", "--out", tmp_path / "sft")
    assert run(*words, "--batch-size", "8", "--steps", "2", "--log", "wandb", "trackio") == 0
    losses = [row["loss"] for row in read_metrics(tmp_path / "sft") if row["stage"] == "sft"]
    for name in ("wandb", "trackio"):
        sent = sys.modules[name].sent
        assert sent[0] == ("rlhf_jax", "sft", 8)
        assert sent[-1] == "finished"
        steps = [(step, values["sft/loss"]) for step, values in sent[1:-1] if "sft/loss" in values]
        assert steps == list(zip((1, 2), losses, strict=True))
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.long
def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path, model, prompts, mine, capsys):
    words = ("grpo", "--model", model, "--prompts", prompts, *FEW, "--samples", "2")
    given = (*words, "--steps", "3", "--reward", "my_runs:stopping")
    assert run(*given, "--out", tmp_path / "whole") == 0
    # Scored before the training, in step 1, after it, and in step 2.
    (tmp_path / "stop").write_text("4")
    assert run(*given, "--out", tmp_path / "parts") == 130
    assert "To go on: add --resume" in capsys.readouterr().err
    assert not (tmp_path / "parts" / "model").exists()
    assert run(*given, "--out", tmp_path / "parts", "--resume") == 0
    found, wanted = (tmp_path / each for each in ("parts", "whole"))
    assert read_metrics(found) == read_metrics(wanted)
    for name in ("model/model.safetensors", "stages/grpo/completions.jsonl"):
        assert (found / name).read_bytes() == (wanted / name).read_bytes()


@pytest.mark.long
def test_eval_compares_two_models_also_at_equal_lengths(tmp_path, model, prompts, mine):
    """A model against itself: the same draws, so all are ties."""
    words = ("eval", "--model", model, "--prompts", prompts, "--against", model, "--total", "12")
    for given in (("--judge", "my_runs:longer"), ("--reward", "my_runs:letters")):
        out = tmp_path / f"{given[0]}.json"
        assert run(*words, *given, "--answer-length", "3", "--out", out) == 0
        found = json.loads(out.read_text())
        assert found["win rate"][0] == pytest.approx(0.5)
        assert found["win rate at equal lengths"][0] == pytest.approx(0.5, abs=1e-6)
    assert found["reward"][0] > 0


def test_a_judge_in_eval_needs_another_model(model, prompts, mine, capsys):
    assert run("eval", "--model", model, "--prompts", prompts, "--judge", "my_runs:longer") == 2
    assert "give the other, --against DIR" in capsys.readouterr().err


@pytest.mark.long
def test_a_reward_model_is_scored_on_a_benchmark_by_subset(tmp_path, model, files):
    folder = tmp_path / "reward"
    words = ("reward", "--model", model, "--data", files / "pairs.jsonl", "--out", folder)
    assert run(*words, "--batch-size", "8", "--steps", "2") == 0
    ties = {"prompt": "3?", "rejected": ["b"], "subset": "Ties"}
    rows = [
        {"prompt": "1?", "chosen": ["a1"], "rejected": ["b", "c", "d"], "subset": "Math"},
        {"prompt": "2?", "chosen": ["a2"], "rejected": ["b"], "subset": "Math"},
        {**ties, "chosen": ["a", "a1"], "id": "tied:1"},
        {**ties, "chosen": ["a"], "id": "ref:1"},
    ]
    bench, out = tmp_path / "bench.jsonl", tmp_path / "numbers.json"
    bench.write_text("\n".join(map(json.dumps, rows)))
    assert run("eval", "--model", folder / "model", "--data", bench, "--out", out) == 0
    found = json.loads(out.read_text())
    assert list(found) == ["Math", "Ties", "overall"]
    assert 0 <= found["Math"][0] <= 1
    assert found["overall"] == pytest.approx((found["Math"][0] + found["Ties"]) / 2)
