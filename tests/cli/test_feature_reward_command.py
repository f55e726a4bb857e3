"""`rlhf reward --kind features`: named features of texts, numbers, and use as a reward."""

import json

import jax
import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.features import (
    FEATURES,
    FeatureModel,
    feature_files,
    feature_margins,
    feature_quality,
    feature_rater,
    feature_reward,
    has_features,
    mean_margins,
    named_features,
    note_dead,
    open_rater,
    rate_records,
    read_feature_model,
)
from rlhf_jax.cli.reward_folders import open_reward
from rlhf_jax.cli.rewards import absolute_scorer, named_reward
from rlhf_jax.rewards import Feature
from rlhf_jax.training import UserError

RATERS = """
def words(prompts, answers):
    return [float(len(answer.split())) if answer else None for answer in answers]

def shouts(prompts, answers):
    return [answer.count("!") for answer in answers]
"""


def run(*words):
    return main([str(word) for word in words])


def pair(prompt, chosen, rejected):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Raters, and pairs that are decided by shouts alone, of as many words."""
    folder = tmp_path_factory.mktemp("features")
    (folder / "raters.py").write_text(RATERS)
    sides = ("a b", "a! b", "b a", "b! a")
    for name, numbers in (("train", range(24)), ("held", range(24, 36))):
        rows = [
            {
                "prompt": f"{n}?",
                "chosen": sides[2 * (n % 2)],
                "rejected": sides[2 * (n // 2 % 2) + 1],
            }
            for n in numbers
        ]
        if name == "held":
            rows.append(pair("equal?", "a b", "b a"))
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "prompts.jsonl").write_text(
        "\n".join(json.dumps({"prompt": f"{n}?"}) for n in range(4))
    )
    return folder


def small_model(folder) -> FeatureModel:
    """Words count 2, shouts 1."""
    features = (Feature("words", 0, 10), Feature("shouts", 4, 0))
    scorers = tuple(f"{folder / 'raters.py'}:{feature.name}" for feature in features)
    params = ({"weight": np.array([[2.0], [1.0]], np.float32), "bias": np.zeros(1, np.float32)},)
    return FeatureModel(features, scorers, (), params)


def test_features_have_names_and_scales():
    found = named_features(("words:0:10=a.py:words", "short=b:c", "http:1:10=http://x:1/v1#m=1"))
    assert found == {
        "words": (Feature("words", 0, 10), "a.py:words"),
        "short": (Feature("short", 0, 1), "b:c"),
        "http": (Feature("http", 1, 10), "http://x:1/v1#m=1"),
    }
    for specs, message in [
        ((), "needs --features NAME=SCORER"),
        (("words",), "expected NAME=SCORER or NAME:WORST:BEST=SCORER"),
        (("words:1=a:b",), "expected NAME=SCORER"),
        (("words:a:1=a:b",), "could not convert"),
        (("words:1:1=a:b",), "two different finite numbers"),
        (("=a:b",), "name of a feature must not be empty"),
        (("x=a:b", "x=c:d"), "two features are called 'x'"),
    ]:
        with pytest.raises(UserError, match=message):
            named_features(specs)


def test_scorers_have_whole_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rm").mkdir()
    assert absolute_scorer("raters.py:words") == f"{tmp_path}/raters.py:words"
    assert absolute_scorer("rm") == f"{tmp_path}/rm"
    assert absolute_scorer("sigmoid_of:rm") == f"sigmoid_of:{tmp_path}/rm"
    assert absolute_scorer("worst_of:no.jsonl,rm") == f"worst_of:no.jsonl,{tmp_path}/rm"
    assert absolute_scorer("segments:rm,rm") == f"segments:rm,{tmp_path}/rm"
    assert absolute_scorer("anchor_win:rm") == f"anchor_win:{tmp_path}/rm"
    for spec in ("rm:function", "exact:rm", "http://x/v1#m", "regex:."):
        assert absolute_scorer(spec) == spec


def test_a_folder_has_all_of_the_model(tmp_path, folder):
    model = small_model(folder)
    assert not has_features(tmp_path)
    for name, content in feature_files(model).items():
        (tmp_path / name).write_bytes(content)
    assert has_features(tmp_path)
    found = read_feature_model(tmp_path)
    assert found._replace(params=()) == model._replace(params=())
    np.testing.assert_array_equal(found.params[0]["weight"], model.params[0]["weight"])
    # 2 * 3/10 + 1 * (1 - 4)/(0 - 4) = 1.35, and no rating of an empty answer.
    scores = feature_reward(tmp_path, named_reward)(["?", "?"], ["a b !", ""])
    assert scores == [pytest.approx(1.35), None]
    for spec, name in ((str(tmp_path), tmp_path.name), (f"3*{tmp_path}", tmp_path.name)):
        assert named_reward(spec)[1] == name
    with pytest.raises(UserError, match="no scores of a language model"):
        open_reward(tmp_path)
    wrong = [
        ("{", "cannot be read"),
        ('{"features": [], "layers": []}', "cannot be read"),
        (feature_files(model)[FEATURES].decode().replace("2.0", '"NaN"'), "expected finite"),
    ]
    for text, message in wrong:
        (tmp_path / FEATURES).write_text(text)
        with pytest.raises(UserError, match=message):
            read_feature_model(tmp_path)


def test_sigmoids_of_rewards_are_rewards(folder):
    weight, name, reward, column = named_reward(f"2*sigmoid_of:{folder / 'raters.py'}:words")
    assert (weight, name, column) == (2.0, "words", None)
    # 1 / (1 + e^-2) = 0.8807971
    assert reward(["?", "?"], ["a b", ""]) == [pytest.approx(0.8807971), None]


def test_scorers_that_cannot_be_made_are_named(tmp_path, folder):
    words = f"{folder / 'raters.py'}:words"
    for spec, message in [
        ("nothing", "feature 'x': reward 'nothing': expected"),
        (f"2*{words}", "must have no weight"),
    ]:
        with pytest.raises(UserError, match=message):
            feature_rater({"x": spec}, named_reward)
    rate = feature_rater({"x": "exact:key"}, named_reward)
    assert rate(["?"], ["42"], key=["42"]) == {"x": [1.0]}
    for columns in ({}, {"key": [None]}):
        with pytest.raises(UserError, match="feature 'x' reads the field 'key', which is missing"):
            rate(["?"], ["42"], **columns)
    model = small_model(folder)._replace(scorers=(words, "nothing"))
    with pytest.raises(UserError, match=f"{tmp_path}: feature 'shouts': reward 'nothing'"):
        open_rater(tmp_path, model, named_reward)


def test_pairs_without_ratings_are_counted_and_ties_count_one_half(folder, capsys):
    model = small_model(folder)
    rate = open_rater(folder, model, named_reward)
    pairs = [("a b", "a !"), ("a", ""), ("a", "b"), ("a ! !", "a b")]
    records = [pair(f"{i}", *sides) for i, sides in enumerate(pairs)]
    rated = rate_records(rate, records, model.features)
    assert "1 of 4 pairs lack a rating of an answer and are left out" in capsys.readouterr().out
    assert (rated.rows.tolist(), rated.total) == ([0, 2, 3], 4)
    # 2 w / 10 + (4 - s) / 4: 1.4 - 1.15, equal, 1.1 - 1.4.
    np.testing.assert_allclose(feature_margins(model, rated), [0.25, 0.0, -0.3], atol=1e-6)
    # (0.2 + 1)/2 - (0.2 + 0.75)/2 and (0.3 + 0.5)/2 - (0.2 + 1)/2
    np.testing.assert_allclose(mean_margins(rated), [0.125, 0.0, -0.2], atol=1e-6)
    found = feature_quality(model, rated, records)
    assert np.ravel(found["accuracy"])[0] == pytest.approx(0.5)
    assert found["pairs without all ratings"] == 1.0
    assert (found["weight of words"], found["weight of shouts"]) == (2.0, 1.0)
    note_dead(model, rated)
    assert not capsys.readouterr().out
    note_dead(model._replace(params=jax.tree.map(np.zeros_like, model.params)), rated)
    assert "note: the network has one score for all answers" in capsys.readouterr().out
    long = [pair("?", "a " * 12, "b")]
    with pytest.raises(UserError, match=r"'words' is rated from 0 .* answer 0 has 12"):
        rate_records(rate, long, model.features)


@pytest.mark.long
def test_the_feature_that_decides_is_found_and_its_reward_is_read(tmp_path, model, folder):
    out, raters = tmp_path / "features", folder / "raters.py"
    words = ("reward", "--kind", "features", "--model", model, "--data", folder / "train.jsonl")
    words += ("--heldout-data", folder / "held.jsonl", "--steps", "60", "--learning-rate", "0.3")
    named = (f"words:0:10={raters}:words", f"shouts:4:0={raters}:shouts")
    assert run(*words, "--features", *named, "--out", out) == 0
    numbers = json.loads((out / "summary.json").read_text())["numbers"]
    # Twelve pairs and a tie.
    assert np.ravel(numbers["accuracy"]["after"])[0] == pytest.approx(12.5 / 13)
    assert numbers["weight of shouts"]["after"] > 5 * abs(numbers["weight of words"]["after"])
    assert np.ravel(numbers["accuracy minus mean of features"]["after"])[0] >= 0
    # The folder that was written has the same numbers.
    found = tmp_path / "numbers.json"
    held = folder / "held.jsonl"
    assert run("eval", "--model", out / "model", "--data", held, "--out", found) == 0
    for name, value in json.loads(found.read_text()).items():
        assert numbers[name]["after"] == pytest.approx(value, abs=1e-5)
    score = named_reward(str(out / "model"))[2]
    scores = score(["?"] * 3, ["a b", "a !", ""])
    assert scores[2] is None
    good, bad = np.array(scores[:2], float)
    assert good > bad
    items = [
        {"prompt": "?", "chosen": "a", "rejected": "a !", "subset": "math-prm", "id": 1},
        {"prompt": "?", "chosen": "a !", "rejected": "a", "subset": "math-prm", "id": 2},
    ]
    bench = tmp_path / "bench.jsonl"
    bench.write_text("\n".join(map(json.dumps, items)))
    found = tmp_path / "bench.json"
    assert run("eval", "--model", out / "model", "--data", bench, "--out", found) == 0
    assert json.loads(found.read_text())["overall"] == 0.5
    words = (
        "grpo",
        "--model",
        model,
        "--prompts",
        folder / "prompts.jsonl",
        "--answer-length",
        "4",
    )
    words += ("--steps", "1", "--batch-size", "8", "--reward", f"sigmoid_of:{out / 'model'}")
    assert run(*words, "--out", tmp_path / "grpo") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--buckets", "2"), "error: --buckets is not for --kind features"),
        (("--lora-rank", "2"), "--kind features leaves the model as it is"),
        (("--repair", "flip"), "--repair is for --kind outcome"),
        (("--feature-layers", "0"), "--feature-layers must be in [1, inf)"),
        ((), "--kind features needs --features NAME=SCORER"),
        (("--features", "x=nothing:here"), "feature 'x': reward 'nothing:here': no module"),
        (("--features", "x=RATERS:empty"), "none of the 12 pairs has all ratings"),
        (("--features", "x=RATERS:same"), "all 12 rated pairs have the same features"),
        (("--features", "x=RATERS:large"), "feature 'x' is rated from 0 (worst) to 1 (best)"),
        (("--features", "x=exact"), "feature 'x' reads the field 'answer', which is missing"),
        (("--kind", "outcome", "--features", "x=exact"), "--features is for --kind features"),
    ],
)
def test_bad_options_and_data_are_named(tmp_path, model, files, capsys, words, message):
    raters = tmp_path / "raters.py"
    raters.write_text(
        "def empty(prompts, answers): return [None] * len(answers)\n"
        "def same(prompts, answers): return [1] * len(answers)\n"
        "def large(prompts, answers): return [9] * len(answers)\n"
    )
    given = ("reward", "--kind", "features", "--model", model, "--data", files / "pairs.jsonl")
    given += ("--heldout", "0", "--out", tmp_path / "out")
    assert run(*given, *(word.replace("RATERS", str(raters)) for word in words)) == 2
    assert message in capsys.readouterr().err
