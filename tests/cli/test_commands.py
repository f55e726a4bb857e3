"""Commands in this process, on a model of two thousand parameters."""

import json
import math

import jax
import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.commands import COMMANDS, manual
from rlhf_jax.hf import load_model
from rlhf_jax.recipes import read_completions
from rlhf_jax.training import read_metrics

VOWELS = "def vowels(prompts, answers):\n    return [a.count('a') / 4 for a in answers]\n"
FEW = ("--steps", "2", "--batch-size", "8")  # the tests have eight devices


def run(*words):
    return main([str(word) for word in words])


def numbers(out):
    return json.loads((out / "summary.json").read_text())["numbers"]


@pytest.mark.long
def test_sft_on_a_text_file_lowers_the_heldout_loss_and_leaves_all_results(
    tmp_path, model, files, capsys
):
    out = tmp_path / "sft"
    words = (
        "sft",
        "--model",
        model,
        "--data",
        files / "text.txt",
        "--heldout",
        "0.25",
        "--out",
        out,
    )
    assert run(*words, "--steps", "8", "--batch-size", "8", "--learning-rate", "0.1") == 0
    loss = numbers(out)["loss"]
    assert loss["after"][0] < loss["before"][0]
    assert {"model", "metrics.jsonl", "report.html", "config.json", "summary.json"} <= {
        path.name for path in out.iterdir()
    }
    rows = [row for row in read_metrics(out) if row["stage"] == "sft"]
    assert len(rows) == 8
    assert rows[0]["tokens"] > 0
    assert "heldout/loss" in rows[-1]
    # The model that was written is the one that was measured.
    assert run("eval", "--model", out / "model", "--data", files / "text.txt") == 0
    assert "perplexity" in capsys.readouterr().out


@pytest.mark.long
def test_a_run_is_resumed_refused_and_repeated_from_its_config(tmp_path, model, files, capsys):
    out = tmp_path / "one"
    words = ("dpo", "--model", model, "--data", files / "pairs.jsonl", *FEW)
    assert run(*words, "--out", out) == 0
    assert run(*words, "--out", out) == 2
    assert "add --resume" in capsys.readouterr().err
    assert run(*words, "--out", out, "--resume") == 0
    other = tmp_path / "two"
    assert run("run", out / "config.json", "--out", other) == 0
    weights = [(each / "model" / "model.safetensors").read_bytes() for each in (out, other)]
    assert weights[0] == weights[1]
    # log 2 at the start, where the policy is the reference.
    rows = [row for row in read_metrics(out) if row["stage"] == "dpo"]
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)


@pytest.mark.long
def test_a_reward_model_is_trained_beside_baselines_and_read_as_a_reward(tmp_path, model, files):
    out, pairs, held = tmp_path / "reward", files / "pairs.jsonl", tmp_path / "held.jsonl"
    rows = [{"prompt": f"{i}??", "chosen": f"a{i}", "rejected": "b"} for i in range(20, 25)]
    held.write_text("\n".join(map(json.dumps, rows)))
    words = ("reward", "--model", model, "--data", pairs, "--heldout-data", held, "--out", out)
    options = ("--steps", "20", "--batch-size", "8", "--learning-rate", "0.05")
    # The prompts have four tokens with their bos, the answers up to four with their eos.
    assert run(*words, *options, "--prompt-length", "2", "--answer-length", "2") == 0
    found = numbers(out)
    for name in ("accuracy", "n-grams: accuracy", "n-grams of the cut answers: accuracy"):
        assert found[name]["after"][0] == 1.0
    assert found["length: accuracy"]["after"] == found["longer is better"]["after"]
    assert found["accuracy minus n-grams"]["after"] == [0.0, 0.0, 0.0]
    assert "Reliability of n-grams" in (out / "report.html").read_text()
    # The folder knows how many tokens the model was trained to read.
    words = ("eval", "--model", out / "model", "--data", held, "--out", tmp_path / "numbers.json")
    assert run(*words) == 0
    again = json.loads((tmp_path / "numbers.json").read_text())
    for name, value in again.items():
        assert found[name]["after"] == pytest.approx(value, abs=1e-5)
    online = tmp_path / "best"
    words = ("best-of-n", "--model", model, "--prompts", files / "prompts.txt", "--samples", "2")
    assert (
        run(*words, "--reward", out / "model", "--answer-length", "3", "--out", online, *FEW) == 0
    )


@pytest.mark.long
def test_selected_answers_are_learned_by_any_ranking_and_with_a_prior(
    tmp_path, model, files, monkeypatch, capsys
):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_choice.py").write_text(VOWELS)
    given = ("--model", model, "--prompts", files / "prompts.txt", "--answer-length", "3")
    given = (*given, "--steps", "2", "--batch-size", "32", "--reward", "my_choice:vowels")
    for name, words in {
        "global": ("best-of-n", "--samples", "4", "--ranking", "global", "--kl", "0.1"),
        "prior": ("superhf", "--samples", "4", "--divergence", "reverse", "--minibatches", "2"),
    }.items():
        out = tmp_path / name
        assert run(*words, *given, "--out", out) == 0
        rows = [row for row in read_metrics(out) if row["stage"] == words[0]]
        assert {"groups/kept", "scores/best", "kl/ref"} <= set(rows[0])
        assert np.isfinite([row["loss"] for row in rows]).all()
        assert 0 <= numbers(out)["similarity across prompts"]["after"] < 1
    assert "groups/tied" in rows[0]
    capsys.readouterr()
    assert run("best-of-n", *given, "--samples", "3", "--ranking", "global", "--out", out) == 2
    assert "must be a multiple of --samples" in capsys.readouterr().err


@pytest.mark.long
def test_grpo_learns_from_a_python_reward(tmp_path, model, files, monkeypatch):
    out = tmp_path / "grpo"
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_rewards.py").write_text(VOWELS)
    words = ("grpo", "--model", model, "--prompts", files / "prompts.txt", "--out", out)
    options = ("--answer-length", "4", "--samples", "4", "--completions-every", "1")
    assert run(*words, *options, *FEW, "--reward", "my_rewards:vowels") == 0
    rows = [row for row in read_metrics(out) if row["stage"] == "grpo"]
    assert all(row["sampler/gap"] < 1e-3 for row in rows)
    assert {"kl/ref", "scores/mean", "named/vowels"} <= set(rows[0])
    assert len(read_completions(out / "stages" / "grpo")) == 2 * 8 * 4
    assert "refresh" not in (out / "completions.html").read_text()
    assert {"reward", "distinct openings", "base perplexity"} <= set(numbers(out))


@pytest.mark.long
def test_adapters_are_merged_into_the_model_that_is_written(tmp_path, model, files, capsys):
    out = tmp_path / "lora"
    words = ("dpo", "--model", model, "--data", files / "pairs.jsonl", "--lora-rank", "2")
    assert run(*words, "--out", out, *FEW, "--learning-rate", "0.1") == 0
    # Rank 2 of query 8 x 8, key and value 8 x 4, out 8 x 8: 2 (16 + 12 + 12 + 16) = 112.
    assert "adapters: 112 parameters" in capsys.readouterr().out
    found = [load_model(each).params["trunk"] for each in (model, out / "model")]
    same = jax.tree.map(lambda a, b: bool((a == b).all()), *found)
    assert same["layers"]["mlp"]["up"]
    # The output projection of a new model is zero, so that a first step moves nothing before it.
    assert not same["layers"]["attention"]["out"]


def test_sample_writes_answers_to_each_prompt(tmp_path, model, files):
    out = tmp_path / "answers.jsonl"
    words = ("sample", "--model", model, "--prompts", files / "prompts.txt", "--out", out)
    assert run(*words, "--samples", "2", "--answer-length", "3") == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["prompt"] for row in rows] == [f"{i} " for i in range(6) for _ in range(2)]
    few = tmp_path / "few.jsonl"  # the same answers, three at a time
    words = ("sample", "--model", model, "--prompts", files / "prompts.txt", "--out", few)
    assert run(*words, "--samples", "2", "--answer-length", "3", "--decode-rows", "3") == 0
    assert few.read_text() == out.read_text()


def test_convert_writes_the_weights_in_another_precision(tmp_path, model):
    out = tmp_path / "half"
    assert run("convert", "--model", model, "--out", out, "--dtype", "bfloat16") == 0
    assert json.loads((out / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    sizes = [(each / "model.safetensors").stat().st_size for each in (model, out)]
    assert sizes[1] < 0.8 * sizes[0]


@pytest.mark.long
def test_convert_gives_back_every_byte_of_a_model(tmp_path, model):
    """Through a folder of many files."""
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    assert run("convert", "--model", model, "--out", parts, "--shard-gigabytes", "1e-6") == 0
    assert len(list(parts.glob("*.safetensors"))) > 1
    assert run("convert", "--model", parts, "--out", whole) == 0
    first, last = (
        {path.name: path.read_bytes() for path in each.iterdir()} for each in (model, whole)
    )
    configs = [json.loads(each.pop("config.json")) for each in (first, last)]
    assert configs[0] == configs[1]
    assert first == last


def test_the_manual_names_every_command():
    text = manual()
    assert [name for name in COMMANDS if f"  {name} " not in text] == []
    assert max(map(len, text.splitlines())) <= 100


BAD = {
    "no command": (["sfft"], "rlhf has no command 'sfft': did you mean sft?"),
    "no option": (
        ["sft", "--modell", "x"],
        "rlhf sft has no option --modell: did you mean --model",
    ),
    "missing": (["sft", "--model", "x"], "rlhf sft needs --data and --out"),
    "out of range": (
        ["sft", "--model", "x", "--data", "y", "--out", "z", "--batch-size", "0"],
        "--batch-size must be in [1, inf), got 0",
    ),
    "no number": (
        ["sft", "--model", "x", "--data", "y", "--out", "z", "--steps", "many"],
        "--steps",
    ),
    "no model": (["sft", "--model", "x", "--data", "y", "--out", "z"], "x"),
    "run without a file": (["run"], "usage: rlhf run config.json"),
    "run of no file": (["run", "nothing.json", "--out", "z"], "cannot read nothing.json"),
}


@pytest.mark.parametrize(("words", "message"), BAD.values(), ids=BAD.keys())
def test_bad_usage_is_one_line_and_exit_code_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    found = capsys.readouterr().err
    assert message in found
    assert len(found.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def bad_input(model, files, tmp_path):
    """name -> words and a part of the message."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "chosen": "b"}')
    (tmp_path / "chat.jsonl").write_text(
        json.dumps(
            {
                "chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
                "rejected": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": "c"},
                ],
            }
        )
    )
    (tmp_path / "bad_reward.py").write_text(
        "def broken(prompts, answers):\n    raise KeyError(1)\n"
    )
    pairs, prompts, out = files / "pairs.jsonl", files / "prompts.txt", tmp_path / "out"
    dpo = ["dpo", "--model", model, "--out", out, *FEW]
    grpo = ["grpo", "--model", model, "--prompts", prompts, "--out", out, "--answer-length", "2"]
    return {
        "no config.json": (
            ["sft", "--model", tmp_path / "bare", "--data", pairs],
            "config.json: no such file",
        ),
        "devices": ([*dpo, "--data", pairs, "--batch-size", "4"], "must be a multiple of 8"),
        "no file": ([*dpo, "--data", "none.jsonl"], "none.jsonl"),
        "no rows": ([*dpo, "--data", tmp_path / "empty.jsonl"], "empty.jsonl"),
        "fields": ([*dpo, "--data", tmp_path / "rows.jsonl"], "rejected"),
        "no template": ([*dpo, "--data", tmp_path / "chat.jsonl"], "need a chat template"),
        "no loss": (["preference", *dpo[1:], "--data", pairs, "--loss", "dqo"], "did you mean dpo"),
        "no setting": (
            [*dpo, "--data", pairs, "--loss-options", "gamma", "1"],
            "--loss dpo has no setting gamma; it has beta 0.1",
        ),
        "not empty": (
            [*dpo[:3], "--out", tmp_path / "full", *FEW, "--data", pairs],
            "is not empty and holds no run",
        ),
        "no reward": ([*grpo, "--reward", "nothing"], "reward 'nothing'"),
        "reward raises": ([*grpo, "--reward", "bad_reward:broken"], "KeyError"),
    }


def test_bad_input_is_one_line_and_exit_code_2(model, files, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, (words, message) in bad_input(model, files, tmp_path).items():
        extra = [] if "--out" in words else ["--out", tmp_path / "other"]
        assert run(*words, *extra) == 2, name
        found = capsys.readouterr().err
        assert message in found, name
        assert len(found.splitlines()) == 1, name
    assert (tmp_path / "full" / "letter.txt").read_text() == "mine"


@pytest.mark.long
def test_kto_trains_on_pairs_as_labelled_answers(tmp_path, model, files):
    out = tmp_path / "kto"
    assert run("kto", "--model", model, "--data", files / "pairs.jsonl", "--out", out, *FEW) == 0
    assert np.isfinite([row["loss"] for row in read_metrics(out) if "loss" in row]).all()
    start, end = (jax.tree.leaves(load_model(each).params) for each in (model, out / "model"))
    assert any((a != b).any() for a, b in zip(start, end, strict=True))
