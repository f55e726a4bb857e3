"""The commands of docs/stories.md: the rule by hand, and all in a row, shortened."""

import importlib
import json
import re
import shlex
from pathlib import Path

import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.arguments import parse
from rlhf_jax.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "stories.md"
EXAMPLE = ROOT / "examples" / "stories"
STORIES = ROOT.parent / "shared" / "models" / "stories260k"
REWARD = "rewards:dog_and_happy_end"  # `label` puts its folder on the path
FEW = ("--steps", "2", "--batch-size", "8")  # the tests have eight devices


@pytest.fixture
def label(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return importlib.import_module("label")


def run(*words):
    assert main([str(word) for word in words]) == 0


def numbers(out):
    return json.loads((out / "summary.json").read_text())["numbers"]


def test_the_rule_pairs_and_texts_by_hand(label):
    # A dog and a happy last sentence; neither; a dog, and a last whole sentence that is not happy.
    answers = [
        " A dog ran. They were happy. The",
        " He sat.",
        " The puppy ran! It was happy. It sat",
    ]
    answers.append(" A dog was happy. He cried.")
    rows = [{"prompt": "Tom.", "answer": text} for text in answers]
    assert label.dog_and_happy_end(None, answers) == [1.0, 0.0, 1.0, 0.5]
    assert label.label_pairs(rows) == [
        {"prompt": "Tom.", "chosen": answers[0], "rejected": answers[1]},
        {"prompt": "Tom.", "chosen": answers[2], "rejected": answers[1]},
        {"prompt": "Tom.", "chosen": answers[3], "rejected": answers[1]},
    ]
    texts = label.good_texts(rows)
    assert texts[:2] == ["Tom. A dog ran. They were happy.", "Tom. The puppy ran! It was happy."]


def test_every_command_of_the_page_can_be_parsed():
    text = PAGE.read_text().replace("\\\n", " ")
    lines = [shlex.split(line)[1:] for line in re.findall(r"^rlhf .*$", text, re.MULTILINE)]
    assert {words[0] for words in lines} == {"grpo", "sample", "reward", "dpo", "sft", "eval"}
    for name, *words in lines:
        command = COMMANDS[name]
        options = getattr(importlib.import_module(command.module), command.options)
        parse(options, [*command.preset, *words], name)


@pytest.mark.slow
@pytest.mark.skipif(not STORIES.exists(), reason="needs shared/models/stories260k")
def test_the_commands_run_in_a_row_and_transformers_writes_the_same(
    tmp_path, label, capsys, monkeypatch
):
    for name in ("torch", "transformers"):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    prompts, samples = tmp_path / "prompts.txt", tmp_path / "samples.jsonl"
    prompts.write_text("".join((EXAMPLE / "prompts.txt").read_text().splitlines(True)[:16]))
    run(
        *("sample", "--model", STORIES, "--prompts", prompts, "--samples", "4", "--out", samples),
        *("--answer-length", "64"),
    )
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    pairs, texts = tmp_path / "pairs.jsonl", tmp_path / "stories.txt"
    pairs.write_text("".join(json.dumps(pair) + "\n" for pair in label.label_pairs(rows)))
    texts.write_text("\n\n".join(row["prompt"] + row["answer"] for row in rows[:32]))

    answers = ("--prompts", prompts, "--reward", REWARD, "--answer-length", "16", "--samples", "4")
    for name, more in (("grpo", ()), ("lora", ("--lora-rank", "8"))):
        out = tmp_path / "runs" / name
        run("grpo", "--model", STORIES, *answers, *FEW, *more, "--out", out)
        found = numbers(out)
        assert found["KL to base (nats)"]["before"][0] == pytest.approx(0.0, abs=1e-4)
        assert {"reward", "base perplexity", "distinct openings", "distinct 3-grams"} <= set(found)
    # Rank 8 of query, key, value and out in 5 layers: 5 * 8 (128 + 96 + 96 + 128) = 17,920.
    assert "adapters: 17920 parameters, 6.9% of the model's 260032" in capsys.readouterr().out

    for name in ("reward", "dpo"):
        words = ("--model", STORIES, "--data", pairs, "--heldout", "0.3", "--out", tmp_path / name)
        run(name, *words, *FEW)
    run(
        *("sft", "--model", STORIES, "--data", texts, "--heldout", "0.25", "--out", tmp_path / "s"),
        *(*FEW, "--learning-rate", "1e-3"),
    )
    loss = numbers(tmp_path / "s")["loss"]
    assert loss["after"][0] < loss["before"][0]

    capsys.readouterr()
    ours = ("--prompt", "Once upon a time", "--temperature", "0", "--answer-length", "100")
    run("sample", "--model", "runs/grpo/model", *ours)
    text = json.loads(capsys.readouterr().out.splitlines()[-1])["answer"]
    [block] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(compile(block, "docs/stories.md", "exec"), {})
    assert capsys.readouterr().out.strip().endswith(text.strip())
