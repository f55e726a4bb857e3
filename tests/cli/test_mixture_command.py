"""`rlhf reward --kind mixture`, its folder, and `--groups` of rewards."""

import json
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from opposite_users import opposite_pairs

from rlhf_jax.algos.mixture_reward import MixtureParams
from rlhf_jax.cli import main
from rlhf_jax.cli.mixtures import (
    ARRAYS,
    GROUPS,
    MixtureModel,
    finished_mixture,
    group_number,
    group_scores,
    has_mixture,
    member_margins,
    mixture_files,
    read_mixture,
    split_group,
)
from rlhf_jax.cli.rewards import named_reward
from rlhf_jax.cli.users import Units
from rlhf_jax.ops.ensembles import MemberScale
from rlhf_jax.recipes.users import EmbeddedPairs
from rlhf_jax.training import UserError, read_metrics

MODULE = """
def letters(prompts, answers):
    return [sum(map(ord, a)) % 7 / 7 for a in answers]

def short(prompts, answers):
    return [1 - len(a) / 10 for a in answers]

def longer(prompts, first, second):
    return [0.5 + 0.5 * (len(a) > len(b)) for a, b in zip(first, second)]
"""


def run(*words):
    return main([str(word) for word in words])


def small_model() -> MixtureModel:
    """Two groups with opposite rewards of vectors of two numbers; ann in 0, 7 in 1."""
    units = Units(np.array([1.0, 0.0]), np.array([2.0, 1.0]))
    scale = MemberScale(np.array([0.5, -0.5]), np.array([2.0, 4.0]))
    weights = np.array([[1.0, 0.0], [-1.0, 0.0]])
    return MixtureModel(weights, units, scale, ("ann", 7), np.array([0, 1]))


def test_a_folder_has_all_of_the_model(tmp_path):
    model = small_model()
    for name, content in mixture_files(model).items():
        (tmp_path / name).write_bytes(content)
    assert has_mixture(tmp_path)
    found = read_mixture(tmp_path)
    assert found.users == model.users
    np.testing.assert_array_equal(found.weights, model.weights)
    np.testing.assert_array_equal(found.members, model.members)
    for one, other in zip((*found.units, *found.scale), (*model.units, *model.scale), strict=True):
        np.testing.assert_array_equal(one, other)
    (tmp_path / ARRAYS).write_bytes(b"")
    with pytest.raises(UserError, match="its rewards of groups cannot be read"):
        read_mixture(tmp_path)
    with pytest.raises(UserError, match=f"no file {GROUPS}.*rlhf reward --kind mixture makes"):
        read_mixture(tmp_path / "other")


def test_scores_have_the_zero_and_unit_of_their_group():
    # (3 - 1) / 2 = 1: (1 - 0.5) / 2 and (-1 + 0.5) / 4
    found = group_scores(small_model(), np.array([[3.0, 9.0]]))
    np.testing.assert_allclose(found, [[0.25, -0.125]])


def test_margins_are_those_of_the_users_own_group_first():
    vectors = np.array([[[2.0, 0], [0.0, 0]]] * 3)
    rows, margins = member_margins(small_model(), EmbeddedPairs(vectors, (7, "eve", "ann")))
    assert rows.tolist() == [0, 2]
    np.testing.assert_allclose(margins, [[-2.0, 2.0], [2.0, -2.0]])
    with pytest.raises(UserError, match="no held-out pair is of a trained user"):
        member_margins(small_model(), EmbeddedPairs(vectors, ("eve",) * 3))


def test_a_finished_mixture_is_the_best_restart_with_its_users():
    """Ann prefers the larger number, 7 the smaller one; only the second restart says so."""
    vectors = np.array([[1.0, 0.0], [2.0, 1.0], [0.0, 1.0], [1.0, 2.0]])[..., None]
    train = EmbeddedPairs(vectors, ("ann", "ann", 7, 7))
    params = MixtureParams(jnp.array([[[0.0], [0.0]], [[3.0], [-3.0]]]), jnp.zeros((2, 2)))
    found = finished_mixture(Units(np.zeros(1), np.ones(1)), train, params, hard=False)
    np.testing.assert_array_equal(found.weights, [[3.0], [-3.0]])
    assert found.users == ("ann", 7)
    np.testing.assert_array_equal(found.members, [0, 1])
    scores = group_scores(found, vectors.reshape(-1, 1))
    np.testing.assert_allclose(scores.mean(0), 0.0, atol=1e-6)
    np.testing.assert_allclose(scores[:, 0], -scores[:, 1], atol=1e-6)


def test_a_group_is_named_by_its_number():
    assert split_group("1,a/folder") == ("1", Path("a/folder"))
    assert group_number(small_model(), "1") == 1
    for text in ("2", "-1", "x"):
        with pytest.raises(UserError, match=f"'{text}' must be the number of a group, from 0 to 1"):
            group_number(small_model(), text)
    with pytest.raises(UserError, match="must be group_score:NUMBER,FOLDER"):
        split_group("folder")


@pytest.mark.long
def test_opposite_groups_are_found_and_their_rewards_are_read(tmp_path, mixing):
    held = opposite_pairs(range(8), (8, 9)) + opposite_pairs((20,), (5,))
    for name, rows in (("train", opposite_pairs(range(8), range(5))), ("held", held)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "mixture"
    words = ("reward", "--kind", "mixture", "--model", mixing, "--data", tmp_path / "train.jsonl")
    words += ("--heldout-data", tmp_path / "held.jsonl", "--steps", "60", "--batch-size", "8")
    assert run(*words, "--learning-rate", "0.1", "--out", out) == 0
    numbers = json.loads((out / "summary.json").read_text())["numbers"]
    assert numbers["accuracy"]["after"] == [1.0, 1.0, 1.0]
    assert np.ravel(numbers["accuracy, other groups"]["after"])[0] == 0.0
    assert numbers["share of the smallest group"]["after"] == 0.5
    assert numbers["pairs of users whose group is not known"]["after"] == 1.0
    found = tmp_path / "numbers.json"
    words = ("eval", "--model", out / "model", "--data", tmp_path / "held.jsonl", "--out", found)
    assert run(*words) == 0
    for name, value in json.loads(found.read_text()).items():
        assert numbers[name]["after"] == pytest.approx(value, abs=1e-4)
    scores = []
    for group in (0, 1):
        spec = f"2*group_score:{group},{out / 'model'}"
        weight, name, score, column = named_reward(spec)
        assert (weight, name, column) == (2.0, f"group_{group}", None)
        scores.append(np.array(score(["0?"] * 2, ["aaa", "bbb"]), float))
    assert np.sign(scores[0][0] - scores[0][1]) == -np.sign(scores[1][0] - scores[1][1]) != 0
    np.testing.assert_allclose(np.abs(scores), 1.0, atol=0.5)  # standard scores of two kinds
    with pytest.raises(UserError, match="write group_score:NUMBER,"):
        named_reward(str(out / "model"))
    (tmp_path / "prompts.txt").write_text("0?\n1?\n2?\n3?")
    words = ("grpo", "--model", mixing, "--prompts", tmp_path / "prompts.txt", "--steps", "1")
    words += ("--reward", *(f"group_score:{u},{out / 'model'}" for u in (0, 1)))
    words += ("--groups", "worst", "--answer-length", "4", "--batch-size", "8")
    assert run(*words, "--out", tmp_path / "grpo") == 0
    row = next(row for row in read_metrics(tmp_path / "grpo") if row["stage"] == "grpo")
    lowest = min(row["named/group_0"], row["named/group_1"])
    assert row["scores/mean"] == pytest.approx(lowest, abs=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--buckets", "2"), "error: --buckets is not for --kind mixture"),
        (("--lora-rank", "2"), "--kind mixture leaves the model as it is"),
        (("--user-groups", "1"), "--user-groups must be in [2, inf)"),
        (("--group-restarts", "0"), "--group-restarts must be in [1, inf)"),
        ((), "12 of 12 pairs have no user"),
    ],
)
def test_bad_options_and_data_are_named(tmp_path, model, files, capsys, words, message):
    given = ("reward", "--kind", "mixture", "--model", model, "--data", files / "pairs.jsonl")
    given += ("--heldout", "0", "--out", tmp_path / "out")
    assert run(*given, *words) == 2
    assert message in capsys.readouterr().err


def test_too_few_users_for_their_groups_are_named(tmp_path, model, capsys):
    data = tmp_path / "pairs.jsonl"
    data.write_text("\n".join(map(json.dumps, opposite_pairs(range(3), range(4)))))
    given = ("reward", "--kind", "mixture", "--model", model, "--data", data, "--heldout", "0")
    assert run(*given, "--out", tmp_path / "out") == 2
    assert "--user-groups 2 needs two users for each group, got 3" in capsys.readouterr().err


@pytest.fixture
def words(tmp_path, monkeypatch, model, files):
    """A command up to its rewards, with a module of them in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_groups.py").write_text(MODULE)
    few = ("--batch-size", "8", "--answer-length", "3", "--steps", "1")
    return ("--model", model, "--prompts", files / "prompts.txt", "--out", tmp_path / "run", *few)


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "options"),
    [("ppo", ("--groups", "soft", "--group-temperature", "0.5")), ("grpo", ("--groups", "answer"))],
)
def test_answers_are_worth_what_the_rule_says(tmp_path, words, command, options):
    rewards = ("--reward", "my_groups:letters", "my_groups:short")
    assert run(command, *words, *rewards, *options) == 0
    row = next(row for row in read_metrics(tmp_path / "run") if row["stage"] == command)
    means = [row["named/letters"], row["named/short"]]
    if command == "ppo":
        weights = np.exp(-np.array(means) / 0.5)
        expected = weights @ means / weights.sum()
        assert row["scores/mean"] == pytest.approx(expected, abs=1e-4)
    else:
        assert row["scores/mean"] < min(means)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--reward", "my_groups:short"), "--groups worst needs a --reward of each group, two"),
        (("--judge", "my_groups:longer"), "--groups excludes --judge"),
        (("--directions", "a", "b"), "--groups excludes --directions"),
        (("--group-temperature", "0"), r"group.temperature must be in \(0, inf\)"),
    ],
)
def test_what_is_no_group_is_refused(words, capsys, options, message):
    rewards = ("--reward", "my_groups:letters", "my_groups:short", "--groups", "worst")
    assert run("grpo", *words, *rewards, *options) == 2
    assert re.search(message, capsys.readouterr().err)
