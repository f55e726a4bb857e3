"""`rlhf reward --robust`: environments of the pairs, losses on tiny runs, and what is refused."""

import json
from functools import partial

import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.options import Robust
from rlhf_jax.cli.robust import environment_quality, robust_recipe
from rlhf_jax.data.formats.reading import read_rows
from rlhf_jax.training import UserError

NAMES = ("vrex", "irm", "mmd", "group_dro", "length")


def rows(**more):
    return [
        {"prompt": f"{i}?", "chosen": f"a{i % 3}", "rejected": "b", "environment": "ny"[i % 2]}
        | more
        for i in range(16)
    ]


def write(path, records):
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def run(*words):
    return main([str(word) for word in words])


def command(tmp_path, model, data, *more):
    words = ("reward", "--model", model, "--data", data, "--out", tmp_path / "out", *more)
    return run(*words, "--batch-size", 8, "--heldout", "0.25")


def test_the_field_is_read_and_may_be_a_number(tmp_path):
    found = read_rows(write(tmp_path / "p.jsonl", rows(environment=3)), kind="pairs")
    assert {pair.environment for pair in found.records} == {3}
    assert "environment" not in found.unused
    other = read_rows(write(tmp_path / "q.jsonl", rows(environment=[1])), kind="pairs")
    assert {pair.environment for pair in other.records} == {None}


def test_columns_and_recipes():
    records = rows()
    for name in NAMES:
        columns, recipe = robust_recipe(records, Robust(robust=name, robust_eta=0.3))
        assert isinstance(recipe, partial)
        if name == "length":
            np.testing.assert_array_equal(columns["features"], np.ones(16))
        else:
            np.testing.assert_array_equal(columns["environments"], np.arange(16) % 2)
        if name == "group_dro":
            assert recipe.keywords == {"count": 2, "eta": 0.3}
        else:
            assert recipe.keywords["risk"].keywords["penalty"] == 10.0


def test_the_worst_environment_by_hand():
    # right 1, 0, 1, 1 of n, y, n, y: y has one half
    found = environment_quality(np.array([1.0, -1.0, 2.0, 3.0]), rows()[:4])
    assert found["accuracy, worst environment"][0] == 0.5
    assert environment_quality(np.ones(2), [{"prompt": "a"}, {"prompt": "b"}]) == {}


@pytest.mark.long
@pytest.mark.parametrize("name", ["vrex", "group_dro", "length"])
def test_a_tiny_run(tmp_path, model, name, capsys):
    data = write(tmp_path / "p.jsonl", rows())
    assert command(tmp_path, model, data, "--robust", name, "--steps", 2) == 0
    assert ("environments: n 4, y 8" in capsys.readouterr().out) or name == "length"
    numbers = json.loads((tmp_path / "out" / "summary.json").read_text())["numbers"]
    assert "accuracy, worst environment" in numbers
    log = (tmp_path / "out" / "metrics.jsonl").read_text()
    assert ("environments/worst" in log) == (name == "group_dro")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"environment": None}, "16 of 16 pairs have no environment"),
        ({"environment": "one"}, "all 16 pairs are in the environment 'one'"),
    ],
)
def test_pairs_without_two_environments_are_refused(more, message):
    with pytest.raises(UserError, match=message):
        robust_recipe(rows(**more), Robust(robust="irm"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kind", "ensemble"], "--robust is a loss of whole batches of pairs: leave --kind out"),
        (["--repair", "flip"], "--robust is a loss of whole batches of pairs: leave --repair out"),
        (
            ["--contrast", "simcse"],
            "--robust is a loss of whole batches of pairs: leave --contrast out",
        ),
        (
            ["--micro-batches", "2"],
            "--robust is a loss of whole batches of pairs: leave --micro-batches",
        ),
        (["--robust-penalty", "-1"], "robust-penalty must be in"),
    ],
)
def test_what_it_does_not_go_with(tmp_path, model, capsys, words, message):
    assert command(tmp_path, model, "x", "--robust", "vrex", *words) == 2
    assert message in capsys.readouterr().err
