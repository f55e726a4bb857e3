"""`rlhf reward --kind judge`, `--reward verdict`, `--judge binary:FOLDER`, `--pairwise`."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from rlhf_jax.cli import judging, main, measures
from rlhf_jax.cli.judging import PROMPTS, folder_judge
from rlhf_jax.cli.rewards import named_compare, named_reward
from rlhf_jax.recipes import LanguageLab, judges, text_task
from rlhf_jax.training import UserError

ANSWERS = ("<answer>A</answer>", "<answer>B</answer>")


def run(*words):
    return main([str(word) for word in words])


def test_the_rule_is_a_reward_by_name():
    weight, name, reward, column = named_reward("2*verdict")
    assert (weight, name, column) == (2.0, "verdict", "label")
    assert reward([""] * 2, ANSWERS, label=["A", "A"]) == [1.0, 0.0]
    assert named_reward("verdict:who")[3] == "who"


def test_without_any_verdict_a_run_ends_without_a_win_rate(monkeypatch, capsys):
    """After hours of training an error would lose the model."""
    said = SimpleNamespace(texts=[["x", "y"], ["z", "z"]])
    monkeypatch.setattr(measures, "measure", lambda *given, **options: said)
    lab = LanguageLab(**(dict.fromkeys(LanguageLab._fields) | {"seed": 0}))
    task = text_task(["p", "q"], lambda prompts, answers: {}, objective="score", heldout=1)

    def compare(prompts, first, second):
        return [None] * len(first)

    given = (lab, task, compare, {}, np.arange(2), {"trained": True})
    assert measures.wins_over(*given, total=4) == {}
    assert "note: the judge gave no verdict on any of 4 pairs" in capsys.readouterr().out
    before, after = {"win rate over the start": 0.5, "reward": 1.0}, {"reward": 2.0}
    assert measures.compared(before, after) == {"reward": {"before": 1.0, "after": 2.0}}


def test_a_judge_that_is_no_folder_is_named(tmp_path):
    assert folder_judge("module:function") is None
    assert named_compare(None) is None
    with pytest.raises(UserError, match=r"expected binary:FOLDER of a language model"):
        folder_judge(f"binary:{tmp_path / 'none'}")
    with pytest.raises(UserError, match=r"no pairwise judge; of a language model write binary:"):
        named_compare(str(tmp_path))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--buckets", "2"), "error: --buckets is not for --kind judge"),
        (("--lora-rank", "2"), "--lora-rank is not for --kind judge"),
        (("--judgements", "0"), "--judgements must be in [1, inf)"),
        (("--verdicts", "graded"), "graded verdicts need a margin above 0"),
    ],
)
def test_bad_options_and_data_are_named(tmp_path, model, files, capsys, words, message):
    given = ("reward", "--kind", "judge", "--model", model, "--data", files / "pairs.jsonl")
    given += ("--heldout", "0", "--out", tmp_path / "out")
    assert run(*given, *words) == 2
    assert message in capsys.readouterr().err


def test_pairwise_needs_a_judge(tmp_path, model, files, capsys):
    words = ("--model", model, "--prompts", files / "prompts.txt", "--out", tmp_path / "out")
    assert run("grpo", *words, "--pairwise", "--reward", "regex:a") == 2
    assert "--pairwise is for rlhf grpo with --judge" in capsys.readouterr().err


@pytest.fixture
def writing(monkeypatch):
    """Every model writes A, then B, then nothing of use: its weights are random."""

    def traces(lab, params, rows, *, samples, sampling=None):
        texts = [*ANSWERS, "?"]
        return [[f"hm {n} {texts[(n + k) % 3]}" for k in range(samples)] for n in range(len(rows))]

    for module in (judging, judges):
        monkeypatch.setattr(module, "sample_traces", traces)
    folder_judge.cache_clear()
    yield
    folder_judge.cache_clear()


@pytest.mark.long
def test_a_judge_is_trained_measured_and_used(tmp_path, model, files, capsys, writing):
    out, data = tmp_path / "judge", files / "pairs.jsonl"
    sizes = ("--prompt-length", "600", "--answer-length", "32")
    words = ("reward", "--kind", "judge", "--model", model, "--data", data, *sizes)
    words += ("--heldout", "0.3", "--steps", "2", "--batch-size", "8", "--judgements", "3")
    assert run(*words, "--out", out) == 0
    numbers = json.loads((out / "summary.json").read_text())["numbers"]
    # Of three judgements one is right, one wrong and one has no verdict.
    assert "judgements: kept 8, pairs 8, without 0, unread 8, wrong 8" in capsys.readouterr().out
    assert np.ravel(numbers["without a verdict"]["before"])[0] == 0.25  # one of four pairs
    rows = [json.loads(line) for line in (out / "model" / PROMPTS).read_text().splitlines()]
    assert len(rows) == 8
    assert {row["label"] for row in rows} == {"A", "B"}
    judge, found = out / "model", tmp_path / "numbers.json"
    words = ("eval", "--model", judge, "--verdicts", "binary", "--data", data, *sizes)
    assert run(*words, "--out", found) == 0
    measured = json.loads(found.read_text())
    assert measured["without a verdict"][0] == pytest.approx(1 / 3)
    strict, flexible = (measured[f"accuracy, {name}"][0] for name in ("strict", "flexible"))
    assert flexible - strict == pytest.approx(1 / 6)
    # The same verdict in both orders is that of a place.
    assert np.ravel(measured["accuracy, both orders"])[0] == 0.5
    words = ("grpo", "--model", judge, "--prompts", judge / PROMPTS, "--reward", "verdict", *sizes)
    assert run(*words, "--steps", "1", "--batch-size", "8", "--out", tmp_path / "rl") == 0
    words = ("grpo", "--model", model, "--prompts", files / "prompts.txt", "--answer-length", "4")
    words += ("--judge", f"binary:{judge}", "--pairwise", "--samples", "2", "--batch-size", "8")
    assert run(*words, "--steps", "1", "--out", tmp_path / "policy") == 0
