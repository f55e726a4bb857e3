"""`rlhf ppo` and `rlhf grpo` with a filter, on a tiny transformer."""

import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.online import named_filter
from rlhf_jax.cli.online_options import Filtering
from rlhf_jax.ops.filtration import best_random_weights, best_worst_weights, power_weights
from rlhf_jax.training import read_metrics

MODULE = """
def patchy(prompts, answers):
    found = [None, float("nan"), 1.0, 2.0, 3.0, 4.0, 5.0]
    return [
        7.0 if prompt == "2 " else found[sum(map(ord, answer)) % 7]
        for prompt, answer in zip(prompts, answers)
    ]
"""
FEW = ("--batch-size", "8", "--answer-length", "3", "--steps", "2")


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture
def words(tmp_path, monkeypatch, model):
    """The rest of a command on eight prompts and a reward in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "filter_rewards.py").write_text(MODULE)
    (tmp_path / "prompts.txt").write_text("\n".join(f"{i} " for i in range(8)))
    given = ("--model", model, "--prompts", tmp_path / "prompts.txt", *FEW)
    return *given, "--out", tmp_path / "out", "--reward", "filter_rewards:patchy"


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("ppo", ("--samples", "4", "--filter", "best-worst", "--whiten-first")),
        ("grpo", ("--samples", "4", "--filter", "power", "--filter-power", "1")),
    ],
)
def test_a_run_learns_from_the_kept_answers(tmp_path, words, command, options):
    assert run(command, *words, *options) == 0
    rows = [row for row in read_metrics(tmp_path / "out") if row["stage"] == command]
    assert len(rows) == 2
    assert np.isfinite([row["loss"] for row in rows]).all()
    assert all(0 < row["filter/kept"] <= 1 for row in rows)
    assert all(row["groups/informative"] < 1 for row in rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--filter", "best"), "--filter compares the answers to a prompt: it needs --samples 2"),
        (("--samples", "0"), "samples must be in [1, inf), got 0"),
        (("--samples", "2", "--filter", "power", "--filter-power", "-1"), "filter-power must be"),
        (("--samples", "2", "--filter", "median"), "filter"),
    ],
)
def test_options_it_cannot_use_are_named(words, capsys, options, message):
    assert run("ppo", *words, *options) == 2
    assert message in capsys.readouterr().err


def test_filters_by_name():
    assert named_filter(Filtering()) is None
    assert named_filter(Filtering(filter="best-random")) is best_random_weights
    assert named_filter(Filtering(filter="best-worst")) is best_worst_weights
    power = named_filter(Filtering(filter="power", filter_power=3.0))
    scores = jnp.array([1.0, 2.0, -3.0])
    assert power is not None
    np.testing.assert_array_equal(power(scores), power_weights(scores, power=3.0))
