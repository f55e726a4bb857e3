"""`rlhf reward --kind ratings`: files, errors, heads and their use as rewards with directions."""

import json
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from rlhf_jax.cli import main
from rlhf_jax.cli.ratings import (
    RATING_WEIGHTS,
    correlation,
    has_ratings,
    rating_baselines,
    rating_files,
    rating_place,
    rating_quality,
    read_ratings,
    with_rating_heads,
)
from rlhf_jax.cli.reward_folders import open_ratings, open_reward, rating_score
from rlhf_jax.cli.rewards import absolute_scorer, named_reward
from rlhf_jax.hf import load_model, save_model
from rlhf_jax.recipes import RatingUnits
from rlhf_jax.training import UserError

UNITS = RatingUnits(("a", "long"), np.array([0.5, 2.0]), np.array([0.5, 1.0]))


def run(*words):
    return main([str(word) for word in words])


def write(path, *rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Ratings in the columns of HelpSteer2: whether an answer has an a, and how long it is."""
    path = tmp_path_factory.mktemp("ratings") / "rated.jsonl"
    rows = [
        {
            "prompt": f"{n}?",
            "response": text,
            "helpfulness": 3,
            "a": int("a" in text),
            "long": len(text),
        }
        for n in range(4)
        for text in ("a", "b", "aa", "bb")
    ]
    return write(path, *rows)


def test_columns_are_read_and_what_lacks_them_is_dropped(tmp_path, capsys):
    rows = [
        {"prompt": "1?", "answer": "a", "helpful": 4, "short": 2.5},
        {"prompt": "2?", "answer": "b", "helpful": None, "short": 1},
        {"prompt": "3?", "answer": "c", "other": 1},
        {"prompt": "4?", "answer": "  ", "helpful": 1},
    ]
    read = partial(read_ratings, chat=None, names=("helpful", "short"))
    found = read(write(tmp_path / "rows.jsonl", *rows))
    assert [row["ratings"] for row in found] == [{"helpful": 4, "short": 2.5}, {"short": 1}]
    assert found[0]["answer"] == "a"
    printed = capsys.readouterr().out
    assert "2 of 4 rows without a rating or an answer dropped" in printed
    assert "helpful" not in printed.partition("unused")[2]
    for bad, message in (
        ({"prompt": "1?", "answer": "a", "helpful": True}, "row 1: field helpful: expected a"),
        ({"prompt": "1?", "answer": "a", "helpful": "4"}, "row 1: field helpful: expected a fin"),
        ({"prompt": "1?", "helpful": 1}, "row 1: expected the text of an answer"),
        ({"prompt": "1?", "answer": "a"}, "no row has a rating of helpful, short"),
    ):
        with pytest.raises(UserError, match=message):
            read(write(tmp_path / "bad.jsonl", bad))
    with pytest.raises(UserError, match="--kind ratings needs --ratings NAME"):
        read_ratings(tmp_path / "rows.jsonl", None, names=())


@pytest.mark.long
def test_ratings_are_learned_measured_and_paid_by_direction(tmp_path, model, files, data):
    out = tmp_path / "rated"
    words = ("reward", "--kind", "ratings", "--ratings", "a", "long", "--model", model)
    sizes = ("--steps", "80", "--batch-size", "8", "--learning-rate", "0.02")
    assert run(*words, "--data", data, "--heldout-data", data, *sizes, "--out", out) == 0
    numbers = json.loads((out / "summary.json").read_text())["numbers"]
    # The rows are those of the training, so that their mean has an error of one variance.
    assert numbers["a: squared error of the mean"]["after"][0] == pytest.approx(1.0)
    assert numbers["a: squared error"]["after"][0] < 0.2
    assert numbers["long: correlation"]["after"] > 0.9
    folder = out / "model"
    assert run("eval", "--model", folder, "--data", data, "--out", tmp_path / "numbers.json") == 0
    for name, value in json.loads((tmp_path / "numbers.json").read_text()).items():
        assert numbers[name]["after"] == pytest.approx(value, abs=1e-3)
    weight, name, score, column = named_reward(f"0.5*rating:long,{folder}")
    assert (weight, name, column) == (0.5, "long", None)
    short, long = map(float, score(["1?", "1?"], ["b", "bb"]))
    assert short < 0 < long
    rewards = (f"rating:a,{folder}", f"rating:long,{folder}")
    few = ("--batch-size", "8", "--samples", "2", "--answer-length", "3", "--steps", "1")
    words = ("best-of-n", "--model", model, "--prompts", files / "prompts.txt", *few)
    asked = ("--directions", "a", "long", "--direction-count", "3", "--out", tmp_path / "dpa")
    assert run(*words, "--reward", *rewards, *asked) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model):
    """Two heads on the model's trunk."""
    path, base = tmp_path_factory.mktemp("heads") / "model", load_model(model)
    weights = jnp.stack([jnp.linspace(-1.0, 1.0, 8), jnp.linspace(0.5, -1.0, 8)])
    params = {"trunk": base.params["trunk"]}
    params["head"] = {"weight": weights, "bias": jnp.array([0.1, -0.2])}
    mean = {"weight": weights.mean(0), "bias": jnp.zeros(())}
    files = {**base.files, **rating_files(UNITS, params)}
    save_model(path, base._replace(params={**params, "head": mean}, files=files))
    return path


def test_a_folder_has_its_heads_and_their_units(folder, model):
    assert has_ratings(folder)
    assert not has_ratings(model)
    lab, params, units = open_ratings(folder)
    assert units.names == UNITS.names
    np.testing.assert_array_equal(units.deviations, UNITS.deviations)
    np.testing.assert_allclose(params["head"]["bias"], [0.1, -0.2], rtol=1e-6)
    assert rating_place(units, "long", folder) == 1
    record = {"prompt": "0?", "answer": "ab", "ratings": {"a": 1.0}}
    short = lab._replace(prompt_length=4, answer_length=4)
    numbers = rating_quality(short, units, [record], params, batch_size=1)
    assert list(numbers) == ["a: squared error"]  # one answer has no correlation
    # (1 - 0.5) / 0.5 = 1 from the mean.
    assert rating_baselines(units, [record]) == {"a: squared error of the mean": 1.0}
    assert rating_quality(short, units, [], params, batch_size=1) == {}
    assert rating_baselines(units, []) == {}
    one = float(rating_score("a", folder)(["0?"], ["ab"])[0])
    assert (one - 1.0) ** 2 == pytest.approx(numbers["a: squared error"], abs=1e-3)
    assert correlation(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])) == pytest.approx(1.0)
    assert correlation(np.ones(3), np.arange(3.0)) == 0.0


def test_what_is_no_rating_is_named(folder, model, data, tmp_path, capsys):
    with pytest.raises(UserError, match="no rating 'kind'; its ratings are a, long"):
        rating_score("kind", folder)
    with pytest.raises(UserError, match=r"must be rating:NAME,FOLDER"):
        named_reward("rating:a")
    with pytest.raises(UserError, match=r"write rating:NAME,"):
        open_reward(folder)
    with pytest.raises(UserError, match="it does not score ratings"):
        with_rating_heads({}, model)
    assert absolute_scorer("rating:a,/x/model") == "rating:a,/x/model"
    words = ("reward", "--model", model, "--data", data, "--out", tmp_path / "out")
    refused((*words, "--ratings", "a"), "--ratings is for --kind ratings", capsys)
    kind = ("--kind", "ratings", "--ratings", "a")
    refused((*words, *kind, "--lora-rank", "2"), "--lora-rank is not for", capsys)
    refused((*words, *kind, "--buckets", "2"), "--buckets is not for", capsys)
    refused((*words, "--kind", "ratings"), "needs --ratings NAME", capsys)
    refused((*words, "--kind", "ratings", "--ratings", "helpfulness"), "are 3: there is", capsys)
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in folder.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / RATING_WEIGHTS).write_bytes(b"x")
    with pytest.raises(UserError, match="its heads of ratings cannot be read"):
        open_ratings(broken)
