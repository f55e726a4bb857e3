"""`--cost` of the online commands, and `rlhf safety` on a file of costs."""

import json

import numpy as np
import pytest
from refusals import files_below, refused

from rlhf_jax.cli import main
from rlhf_jax.cli.limits import Costs, cost_limits, cost_of, cost_specs
from rlhf_jax.recipes import LanguageLab, cost_inflation, text_task
from rlhf_jax.training import read_metrics

MODULE = """
def length(prompts, answers):
    return [float(len(answer)) for answer in answers]

def shouting(prompts, answers):
    return [float(sum(map(str.isupper, answer))) for answer in answers]

def oddity(prompts, answers):
    return [float(sum(map(ord, answer)) % 7) for answer in answers]
"""


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture
def words(tmp_path, monkeypatch, model):
    """The rest of a command on eight prompts, a reward and a cost in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "cost_rewards.py").write_text(MODULE)
    (tmp_path / "prompts.txt").write_text("\n".join(f"{i} " for i in range(8)))
    few = ("--batch-size", "8", "--answer-length", "3", "--steps", "2")
    given = ("--model", model, "--prompts", tmp_path / "prompts.txt", *few)
    return *given, "--out", tmp_path / "out", "--reward", "cost_rewards:length"


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("grpo", ("--samples", "4", "--cost", "cost_rewards:shouting<=0.5")),
        ("ppo", ("--cost", "cost_rewards:oddity<=ref-0.5", "--cost-test", "100")),
        ("rloo", ("--samples", "4", "--cost", "-1*cost_rewards:shouting<=-0.5")),
    ],
)
def test_a_run_weighs_its_cost(tmp_path, words, capsys, command, options):
    assert run(command, *words, *options) == 0
    rows = [row for row in read_metrics(tmp_path / "out") if row["stage"] == command]
    name = options[options.index("--cost") + 1].split("<=")[0]
    assert [row[f"multiplier/{name}"] > 0 for row in rows] == [True, True]
    assert rows[0][f"multiplier/{name}"] != rows[1][f"multiplier/{name}"]
    signed = -1 if command == "rloo" else 1
    assert all(signed * row[f"cost/{name}"] >= 0 for row in rows)
    assert ("the limit is" in capsys.readouterr().out) == (command == "ppo")


def test_specs(tmp_path):
    assert cost_of("a:b<=-1.5") == ("a:b", -1.5, False)
    assert cost_of("a:b<=ref") == ("a:b", 0.0, True)
    assert cost_of("a:b<=ref+0.25") == ("a:b", 0.25, True)
    assert cost_of(f"signed:{tmp_path}<=0") == (str(tmp_path), 0.0, False)
    assert [*cost_specs(Costs(cost=("a:b<=1", f"{tmp_path}/<=ref-1")))] == ["a:b", tmp_path.name]


def test_limits_share_the_delta_of_the_test_that_follows():
    unread = LanguageLab._make([None] * len(LanguageLab._fields))
    task = text_task(["a", "b"], lambda prompts, answers: {}, objective="score", heldout=1)

    def limits(**options):
        return cost_limits(Costs(cost=("a:b<=1", "c:d<=-2"), **options), unread, task, {})

    found = limits(cost_test=100, cost_delta=0.2)
    assert found.thresholds == {"a:b": 1.0, "c:d": -2.0}
    assert found.inflation == cost_inflation(found.buffer, 100, delta=0.1)
    assert limits(cost_delta=0.2).inflation == 0.0


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (("a:b",), "cost must be SCORER<=NUMBER"),
        (("a:b<=much",), "cost must be SCORER<=NUMBER"),
        (("a:b<=nan",), "cost must be SCORER<=NUMBER"),
        (("<=1",), "cost must be SCORER<=NUMBER"),
        (("a:b<=1", "a:b<=2"), "two limits on 'a:b'"),
    ],
)
def test_a_cost_without_a_limit_is_refused(cost, message):
    with pytest.raises(ValueError, match=message):
        Costs(cost=cost)


def test_a_number_is_no_limit_for_a_model_of_comparisons(tmp_path):
    for scorer in (str(tmp_path), f"2*{tmp_path}"):
        with pytest.raises(ValueError, match="have no zero"):
            Costs(cost=(f"{scorer}<=0",))
        assert Costs(cost=(f"{scorer}<=ref-0.5",)).cost


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("grpo", ("--cost", "exact<=1", "--reward", "exact"), "a reward is called 'exact' too"),
        ("nash-md", ("--cost", "cost_rewards:shouting<=1"), "--cost excludes self-play"),
        ("grpo", ("--cost", "cost_rewards:shouting<=1", "--turns", "2"), "--cost excludes --turns"),
        ("grpo", ("--cost", "cost_rewards:shouting<=x"), "cost must be SCORER"),
        ("grpo", ("--cost-rate", "-1"), "cost-rate must be"),
        ("grpo", ("--cost-test", "1"), "cost-test must be 0, or 2"),
    ],
)
def test_options_it_cannot_use_are_named(words, capsys, command, options, message):
    refused((command, *words, *options), message, capsys)


@pytest.mark.long
def test_dapo_draws_anew_and_has_no_cost(words, capsys):
    given = ("dapo", *words, "--samples", "4", "--cost", "cost_rewards:shouting<=1")
    refused(given, "which are drawn once", capsys)


# ---- rlhf safety


@pytest.fixture
def costs(tmp_path):
    """A file of 200 answers with costs near -1."""
    rows = [
        {"prompt": str(i), "harm": x, "rude": bool(x > 0)}
        for i, x in enumerate(np.random.default_rng(0).normal(-1.0, 1.0, 200))
    ]
    path = tmp_path / "costs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_a_safe_model_passes_and_its_record_is_kept(tmp_path, costs, capsys):
    out = tmp_path / "out"
    assert run("safety", "--costs", costs, "--limit", "harm<=0", "--out", out) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "passed"
    assert printed[0].startswith("harm: mean -")
    record = json.loads((out / "safety.json").read_text())
    assert record["looks"][0]["passed"]
    assert record["looks"][0]["delta"] == 0.1


def test_an_unsafe_model_is_no_solution(tmp_path, costs, capsys):
    given = ("--costs", costs, "--limit", "harm<=-1.2", "rude<=0.9", "--out", tmp_path / "out")
    assert run("safety", *given) == 1
    found = capsys.readouterr()
    assert found.err == "error: no solution found: the limit on harm may not hold\n"
    assert "passed" not in found.out
    record = json.loads((tmp_path / "out" / "safety.json").read_text())
    assert not record["looks"][0]["passed"]


def test_a_second_look_is_refused_unless_it_was_planned(tmp_path, costs, capsys):
    given = ("safety", "--costs", costs, "--limit", "harm<=0")
    assert run(*given, "--out", tmp_path / "one") == 0
    before = files_below(tmp_path)
    refused((*given, "--out", tmp_path / "one"), "all planned looks are used", capsys)
    refused((*given, "--out", tmp_path / "one", "--looks", "2"), "a plan cannot change", capsys)
    assert files_below(tmp_path) == before
    for _ in range(2):
        assert run(*given, "--out", tmp_path / "two", "--looks", "2") == 0
    capsys.readouterr()
    refused((*given, "--out", tmp_path / "two", "--looks", "2"), "all planned looks", capsys)
    record = json.loads((tmp_path / "two" / "safety.json").read_text())
    assert [look["delta"] for look in record["looks"]] == [0.05, 0.05]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"plan": {}}'])
def test_a_broken_record_is_named(tmp_path, costs, capsys, text):
    (tmp_path / "safety.json").write_text(text)
    given = ("safety", "--costs", costs, "--limit", "harm<=0", "--out", tmp_path)
    refused(given, "is no record of looks" if text != "{" else "property name", capsys)


def test_several_limits_and_costs_of_yes_and_no(tmp_path, costs, capsys):
    given = ("--costs", costs, "--out", tmp_path / "out", "--bound", "clopper_pearson")
    assert run("safety", *given, "--limit", "rude<=0.5") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "passed"
    both = ("--costs", costs, "--out", tmp_path / "both", "--limit", "harm<=0", "rude<=0.5")
    assert run("safety", *both) == 0
    printed = capsys.readouterr().out
    assert "with probability 0.95" in printed
    assert "note: rude: 200 costs are skewed" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--limit", "harm"), "--limit must be FIELD<=NUMBER"),
        (("--limit", "harm<=0", "harm<=1"), "a field has two limits"),
        (("--limit", "other<=0"), "field other"),
        (("--limit", "prompt<=0"), "field prompt"),
        (("--limit", "harm<=0", "--delta", "0.7"), "delta must be"),
        (("--limit", "harm<=0", "--bound", "hoeffding"), "needs the bounds"),
        (("--limit", "harm<=0", "--bound", "hoeffding", "--cost-range", "0", "1"), "inside the"),
        (("--limit", "harm<=0.5", "--bound", "hoeffding", "--cost-range", "0", "1"), "in bounds"),
        (("--limit", "harm<=0.5", "--bound", "clopper_pearson"), "0 or 1"),
    ],
)
def test_what_cannot_be_tested_is_named(tmp_path, costs, capsys, options, message):
    given = ("safety", "--costs", costs, "--out", tmp_path / "out", *options)
    refused(given, message, capsys)
    assert not (tmp_path / "out").exists()
