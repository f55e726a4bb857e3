"""`rlhf eval` on RewardBench files: heads of segments, ensembles, implicit rewards, a judge."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from tiny_folder import write_folder

from rlhf_jax.cli import main
from rlhf_jax.cli.ensembles import HEADS
from rlhf_jax.cli.rewards import named_reward
from rlhf_jax.cli.segments import segment_files
from rlhf_jax.data.reward_bench import BenchItem
from rlhf_jax.data.spans import sentences
from rlhf_jax.hf import load_model, save_model
from rlhf_jax.recipes import HeadLabels, judges, whole_answer
from rlhf_jax.recipes.win_rates import bench_credits

# One right answer of two, and of four; the subsets are named by their items.
ITEMS = [
    BenchItem("0?", ("ab",), ("bb",), "Chat", "1"),
    BenchItem("1?", ("b. a.",), ("a. b.",), "Chat", "2"),
    BenchItem("2?", ("aab",), ("b", "ba. b.", "abc"), "Math", "3"),
]
CHAT = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def write_bench(path, items):
    rows = [
        item._asdict() | {"id": item.name}
        if len(item.rejected) > 1
        else item._asdict() | {"chosen": item.chosen[0], "rejected": item.rejected[0]}
        for item in items
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory, mixing):
    """Heads of segments, an ensemble, answers that give it its units, and the benchmark."""
    path, base = tmp_path_factory.mktemp("bench"), load_model(mixing)
    weights = jnp.stack([jnp.linspace(-1.0, 1.0, 8), jnp.linspace(0.5, -1.0, 8) ** 2])
    trunk = {"trunk": base.params["trunk"]}
    mean = {**trunk, "head": {"weight": weights.mean(0), "bias": jnp.zeros(())}}
    heads = {**trunk, "head": {"weight": weights, "bias": jnp.array([0.1, -0.2])}}
    labels = {"clean": HeadLabels(sentences, ("b",)), "whole": HeadLabels(whole_answer, ("b",))}
    files = {**base.files, **segment_files(labels, heads)}
    save_model(path / "spans", base._replace(params=mean, files=files))
    save_model(path / "heads", base._replace(params=mean))
    np.save(path / "heads" / HEADS, np.asarray(weights))
    answers = [{"prompt": f"{i}?", "answer": word} for i, word in enumerate("abcd")]
    (path / "answers.jsonl").write_text("\n".join(map(json.dumps, answers)))
    # A benchmark has one kind of rows: texts here, lists of texts beside it.
    write_bench(path / "one.jsonl", ITEMS[:2])
    write_bench(path / "four.jsonl", ITEMS[2:])
    return path


def evaluated(model, data, out, *options):
    words = ("eval", "--model", model, "--data", data, "--out", out)
    assert main([*map(str, words), *options]) == 0
    return json.loads(out.read_text())


def expected(spec, items):
    """Mean credits of the items by the scores of a reward."""
    score = named_reward(spec)[2]
    rows = []
    for item in items:
        answers = (*item.chosen, *item.rejected)
        rows.append(np.array(score([item.prompt] * len(answers), answers), float))
    return bench_credits(items, rows).mean()


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("spans", "0.5*segments:clean,{}/spans"),
        ("heads", "worst_of:{}/answers.jsonl,{}/heads"),
        ("MIXING", "0.1*implicit:MIXING,MODEL"),
    ],
)
def test_rewards_that_are_named_are_scored_by_subset(folder, model, mixing, tmp_path, name, spec):
    places = {"{}": folder, "MIXING": mixing, "MODEL": model}
    for place, path in places.items():
        spec = spec.replace(place, str(path))
    for file, items in (("one", ITEMS[:2]), ("four", ITEMS[2:])):
        data, out = folder / f"{file}.jsonl", tmp_path / f"{file}.json"
        found = evaluated(
            mixing if name == "MIXING" else folder / name, data, out, "--reward", spec
        )
        assert list(found) == [items[0].subset, "overall"]
        assert found["overall"] == pytest.approx(expected(spec, items))


def test_an_ensemble_by_its_folder_is_the_mean_of_its_heads(folder, tmp_path):
    found = evaluated(folder / "heads", folder / "four.jsonl", tmp_path / "out.json")
    assert found["Math"] == expected(str(folder / "heads"), ITEMS[2:])


def test_a_folder_that_needs_a_name_says_which(folder, capsys):
    words = ["eval", "--model", folder / "spans", "--data", folder / "one.jsonl"]
    message = "one.jsonl is a benchmark of whole answers, for --reward: "
    spans = f"{folder / 'spans'} scores the segments of an answer: write segments:NAME"
    refused(words, message + spans, capsys)


# ---- A judge that thinks.


@pytest.fixture
def asked(monkeypatch):
    """Every judge likes the answer with more a, is silent about c, and keeps what it was asked."""
    seen = []

    def traces(lab, params, rows, *, samples, sampling=None):
        found = []
        for row in rows:
            text = row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][0]["content"]
            first, second = re.findall(r"<answer [AB]>\n(.*?)\n</answer", text, re.DOTALL)
            gap = second.count("a") - first.count("a")
            verdict = "" if "c" in first + second else "B" if gap > 0 else "A"
            found.append([f"hm <answer>{verdict}</answer>"] * samples)
            seen.append((lab.prompt_length, row["prompt"]))
        return found

    monkeypatch.setattr(judges, "sample_traces", traces)
    return seen


JUDGED = [
    BenchItem("0?", ("aa",), ("b",), "Chat", "1"),  # right in both orders
    BenchItem("1?", ("b",), ("a",), "Chat", "2"),  # wrong in both
    BenchItem("2?", ("a",), ("ab",), "Chat", "3"),  # each time the first one: a tie
    BenchItem("3?", ("ac",), ("b",), "Safety", "4"),  # no verdict: a tie
]


@pytest.mark.parametrize("chat", [None, CHAT])
def test_a_judge_that_thinks_is_scored_by_subset(tmp_path, asked, chat, capsys):
    model = write_folder(tmp_path / "judge", chat=chat)
    bench = write_bench(tmp_path / "bench.jsonl", JUDGED)
    options = ("--verdicts", "binary", "--prompt-length", "900")
    found = evaluated(model, bench, tmp_path / "one.json", *options)
    assert list(found) == ["Chat", "Safety", "overall", "without a verdict"]
    assert found["Chat"][0] == pytest.approx((1.0 + 0.0 + 0.5) / 3)
    assert found["Safety"] == 0.5
    assert found["overall"] == pytest.approx((0.5 + 0.5) / 2)
    assert found["without a verdict"] == 2 / 8
    assert len(asked) == 8
    assert isinstance(asked[0][1], str) == (chat is None)
    assert "cut to" not in capsys.readouterr().out  # the lab holds both orders of each question


def test_of_four_answers_the_judge_counts_wins(tmp_path, asked, model):
    """Each beats those with fewer a; answers with as many tie, and c is no verdict."""
    items = [
        BenchItem("0?", ("aaa",), ("a", "aa", "b"), "Math", "1"),
        BenchItem("1?", ("aab",), ("aa", "b", "a"), "Math", "2"),  # two at the top
        BenchItem("2?", ("a",), ("c", "aa", "b"), "Math", "3"),
    ]
    bench = write_bench(tmp_path / "bench.jsonl", items)
    options = ("--verdicts", "binary", "--prompt-length", "900")
    found = evaluated(model, bench, tmp_path / "four.json", *options)
    assert found["Math"][0] == pytest.approx((1.0 + 0.5 + 0.0) / 3)
    assert found["without a verdict"] == 6 / 36
    assert len(asked) == 36


def test_a_reward_model_has_no_verdicts(folder, capsys):
    words = ["eval", "--model", folder / "heads", "--data", folder / "one.jsonl"]
    refused([*words, "--verdicts", "binary"], "this is a reward model", capsys)
