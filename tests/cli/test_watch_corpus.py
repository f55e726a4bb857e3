"""`--watch-corpus`: the loss on other texts before, along and after a training."""

import json

import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.training import read_metrics

MODULE = """
def letters(prompts, answers):
    return [sum(map(ord, a)) % 7 / 7 for a in answers]
"""


def run(*words):
    return main([str(word) for word in words])


def numbers(folder):
    return json.loads((folder / "summary.json").read_text())["numbers"]


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("\n\n".join(f"once upon a time {i}" for i in range(6)))
    return path


@pytest.mark.long
def test_the_corpus_of_sft_is_that_of_another_training(tmp_path, model, files, corpus):
    """Texts that are trained on get likelier; the watched ones are measured as held-out ones are,
    and the same model gives them the same loss in both roles."""
    given = ("sft", "--model", model, "--steps", "3", "--learning-rate", "0.01")
    out = tmp_path / "watched"
    data = ("--data", files / "text.txt", "--heldout-data", files / "text.txt")
    assert run(*given, *data, "--watch-corpus", corpus, "--out", out) == 0
    found = numbers(out)
    assert found["loss"]["after"][0] < found["loss"]["before"][0]
    assert found["corpus loss"]["after"][0] != found["corpus loss"]["before"][0]
    rows = [row for row in read_metrics(out) if row["stage"] == "sft"]
    assert [row["step"] for row in rows if "heldout/corpus loss" in row] == [1, 2, 3]
    as_held = ("--data", files / "text.txt", "--heldout-data", corpus)
    assert run(*given, *as_held, "--out", tmp_path / "held") == 0
    before = numbers(tmp_path / "held")["loss"]["before"]
    np.testing.assert_allclose(before, found["corpus loss"]["before"], rtol=1e-5)
    np.testing.assert_allclose(np.exp(before), found["corpus perplexity"]["before"], rtol=1e-5)


@pytest.mark.long
def test_methods_of_pairs_and_of_fresh_answers_watch_too(
    tmp_path, monkeypatch, model, files, corpus
):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "watch_rewards.py").write_text(MODULE)
    fresh = ("--prompts", files / "prompts.txt", "--reward", "watch_rewards:letters")
    fresh += ("--answer-length", "24", "--samples", "2")  # texts are cut to that, too
    commands = {"preference": ("--data", files / "pairs.jsonl"), "grpo": fresh}
    found = {}
    for command, given in commands.items():
        shared = ("--model", model, "--steps", "2", "--batch-size", "8", "--watch-corpus", corpus)
        shared += ("--learning-rate", "0.01")
        assert run(command, *given, *shared, "--out", tmp_path / command) == 0
        found[command] = numbers(tmp_path / command)["corpus loss"]
    # One model before, two after.
    np.testing.assert_allclose(found["grpo"]["before"], found["preference"]["before"], rtol=1e-5)
    assert found["grpo"]["after"] != found["preference"]["after"]


def test_a_corpus_that_is_not_there_is_named(tmp_path, model, files, capsys):
    given = ("sft", "--model", model, "--data", files / "text.txt", "--out", tmp_path / "out")
    assert run(*given, "--watch-corpus", tmp_path / "none.txt") == 2
    assert "none.txt" in capsys.readouterr().err
