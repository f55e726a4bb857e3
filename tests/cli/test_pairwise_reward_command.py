"""`rlhf reward --kind pairwise`: a judge from pairs, its numbers, its use as reward and judge."""

import json

import numpy as np
import pytest
from random_params import random_params

from rlhf_jax.cli import main
from rlhf_jax.cli.rewards import named_compare, named_reward
from rlhf_jax.cli.verdicts import (
    VERDICTS,
    bench_scores,
    has_verdicts,
    judge_margins,
    open_verdicts,
    read_verdicts,
    text_margins,
)
from rlhf_jax.data.reward_bench import BenchItem
from rlhf_jax.hf import load_model, save_model
from rlhf_jax.models import make_transformer
from rlhf_jax.training import UserError

HELD = [{"prompt": f"{i}?", "chosen": "aaa", "rejected": "bbb"} for i in range(8, 12)]


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pairs of a over b, prompts with and without an answer to beat, and a benchmark."""
    folder = tmp_path_factory.mktemp("pairwise")
    rows = [{"prompt": f"{i}?", "chosen": "aaa", "rejected": "bbb"} for i in range(8)]
    prompts = [{"prompt": f"{i % 8}?", "answer": "bbb"} for i in range(18)]
    bench = [row | {"subset": "easy", "id": i} for i, row in enumerate(HELD)]
    for name, found in (("train", rows), ("held", HELD), ("prompts", prompts), ("bench", bench)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, found)))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model, data):
    """The folder of a run, from a model with random weights throughout."""
    folder, base = tmp_path_factory.mktemp("judge"), load_model(model)
    first = folder / "first"
    save_model(first, base._replace(params=random_params(make_transformer(base.config).init)))
    words = ("reward", "--kind", "pairwise", "--model", first, "--data", data / "train.jsonl")
    words += ("--heldout-data", data / "held.jsonl", "--steps", "40", "--batch-size", "8")
    words += ("--learning-rate", "0.02", "--verdict-norm", "full", "--consistency", "0.01")
    assert run(*words, "--out", folder / "out") == 0
    return folder / "out"


@pytest.mark.long
def test_a_judge_learns_and_its_folder_has_the_same_numbers(tmp_path, trained, data):
    numbers = json.loads((trained / "summary.json").read_text())["numbers"]
    assert np.ravel(numbers["accuracy"]["after"])[0] == 1.0
    assert np.ravel(numbers["accuracy, one order"]["after"])[0] >= 0.75
    assert np.ravel(numbers["order decides"]["after"])[0] <= 0.25
    assert "accuracy minus n-grams" in numbers
    found = tmp_path / "numbers.json"
    words = ("eval", "--model", trained / "model", "--out")
    assert run(*words, found, "--data", data / "held.jsonl") == 0
    for name, value in json.loads(found.read_text()).items():
        assert numbers[name]["after"] == pytest.approx(value, abs=1e-4)
    bench = tmp_path / "bench.json"
    assert run(*words, bench, "--data", data / "bench.jsonl") == 0
    assert json.loads(bench.read_text())["overall"] == 1.0


@pytest.mark.long
def test_the_judge_pays_answers_for_beating_the_answer_of_their_prompt(tmp_path, trained, data):
    folder = trained / "model"
    assert has_verdicts(folder)
    assert read_verdicts(folder) == ("A", "B")
    opened = open_verdicts(folder)
    given, anchors = (["0?", "1?", "2?"], ["aaa", "bbb", ""]), ["bbb", "bbb", "bbb"]
    margins = text_margins(opened, *given, anchors)
    assert margins[0] > 0.5
    assert margins[1] == 0.0
    np.testing.assert_allclose(text_margins(opened, given[0], anchors, given[1]), -margins)
    held, bias = judge_margins(opened, HELD, batch_size=2)
    np.testing.assert_allclose(
        held, text_margins(opened, [x["prompt"] for x in HELD], ["aaa"] * 4, ["bbb"] * 4), atol=1e-4
    )
    assert bias.shape == (4,)
    for name, expected in (
        ("anchor_win", 0.5 * np.tanh(0.5 * margins)),
        ("anchor_margin", margins),
        ("anchor_verdict", 0.5 * np.sign(margins)),
    ):
        weight, kind, score, column = named_reward(f"2*{name}:{folder}")
        assert (weight, kind, column) == (2.0, name, "answer")
        paid = np.array(score(*given, answer=anchors), float)
        np.testing.assert_allclose(paid, expected, atol=1e-5)
    compare = named_compare(str(folder))
    assert compare is not None
    wins = np.array(compare(*given, anchors), float)
    np.testing.assert_allclose(wins, 0.5 + 0.5 * np.tanh(0.5 * margins))
    words = ("ppo", "--model", folder, "--prompts", data / "prompts.jsonl", "--answer-length", "4")
    words += ("--reward", f"anchor_win:{folder}", "--steps", "1", "--batch-size", "8")
    assert run(*words, "--passes", "1", "--minibatches", "1", "--out", tmp_path / "ppo") == 0


@pytest.mark.long
def test_three_answers_are_ranked_by_their_mean_margins(trained):
    opened = open_verdicts(trained / "model")
    items = [BenchItem("0?", ("aaa",), ("bbb", "abb"), "Focus", "one")]
    (scores,) = bench_scores(opened, items, ["0?"])
    margins = text_margins(opened, ["0?"] * 3, ["aaa", "aaa", "bbb"], ["bbb", "abb", "abb"])
    expected = [margins[:2].sum(), margins[2] - margins[0], -margins[1:].sum()]
    np.testing.assert_allclose(scores, 0.5 * np.array(expected), atol=1e-5)


@pytest.mark.long
def test_a_prompt_without_an_answer_to_beat_is_named(tmp_path, trained, files, capsys):
    folder = trained / "model"
    words = ("grpo", "--model", folder, "--prompts", files / "prompts.txt", "--steps", "1")
    words += ("--reward", f"anchor_win:{folder}", "--out", tmp_path / "out")
    assert run(*words) == 2
    assert "reads the field 'answer', which prompt 0 lacks" in capsys.readouterr().err


def test_other_folders_are_refused(tmp_path, model):
    with pytest.raises(UserError, match=f"has no file {VERDICTS}: .*rlhf reward --kind pairwise"):
        named_reward(f"anchor_win:{model}")
    (tmp_path / VERDICTS).write_text("{}")
    with pytest.raises(UserError, match="write anchor_win:"):
        named_reward(str(tmp_path))
    with pytest.raises(UserError, match="cannot be read"):
        read_verdicts(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--lora-rank", "2"), "--lora-rank is not for --kind pairwise"),
        (("--repair", "flip"), "--repair is for --kind outcome"),
        (("--consistency", "-1"), "--consistency must be in [0, inf)"),
        (("--verdict-tokens", "yes", "no"), "the verdict 'yes' must be one token, is 3"),
        (("--verdict-tokens", "A", "A"), "the verdicts 'A' and 'A' are the same token"),
    ],
)
def test_bad_options_are_named(tmp_path, model, files, capsys, words, message):
    given = ("reward", "--kind", "pairwise", "--model", model, "--data", files / "pairs.jsonl")
    assert run(*given, "--out", tmp_path / "out", *words) == 2
    assert message in capsys.readouterr().err
