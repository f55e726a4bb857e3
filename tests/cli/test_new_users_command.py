"""Users that a reward was not trained on, from a file of comparisons: rewards, numbers, queries."""

import json

import jax
import numpy as np
import pytest
from refusals import refused

from rlhf_jax.algos.user_reward import init_user_model, posterior_of
from rlhf_jax.cli import main
from rlhf_jax.cli.ask import candidate_vectors, users_to_ask
from rlhf_jax.cli.new_users import (
    NOBODY,
    asked_users,
    open_comparisons,
    read_comparisons,
    told_users,
)
from rlhf_jax.cli.reward_folders import open_users, text_vectors
from rlhf_jax.cli.rewards import named_reward
from rlhf_jax.cli.users import Units, UserModel, user_files, user_scores
from rlhf_jax.hf import load_model, save_model
from rlhf_jax.labelling import read_items
from rlhf_jax.recipes.users import UserSizes, context_of, user_networks
from rlhf_jax.training import UserError

SIZES = UserSizes(context=2, targets=1, latent_dim=2, width=4)
WORDS = ("a", "bb", "abc", "ca")


def pair(prompt, chosen, rejected, **more):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


SHOWN = [pair("0?", "a", "bb"), pair("1?", "abc", "bb"), pair("2?", "a", "ca")]
SEVERAL = [row | {"user": user} for row, user in zip(SHOWN, ("eve", "eve", "bo"), strict=True)]
HELD = [pair("5?", "a", "bb"), pair("6?", "bb", "ca"), pair("7?", "abc", "ca")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, mixing):
    """A reward of the users ann and 7, with random networks, and files beside it."""
    path, base = tmp_path_factory.mktemp("users"), load_model(mixing)
    networks, rng = user_networks(8, SIZES), np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: x + rng.normal(size=x.shape).astype(np.float32),
        init_user_model(jax.random.key(0), *networks),
    )
    latents = np.array([[1.0, -1.0], [-1.0, 1.0]], np.float32)
    units = Units(np.full(8, 0.5, np.float32), np.full(8, 2.0, np.float32))
    references = rng.normal(size=(5, 8)).astype(np.float32)
    model = UserModel(SIZES, params, units, ("ann", 7), latents, references)
    save_model(path / "model", base._replace(files={**base.files, **user_files(model)}))
    files = {"shown": SHOWN, "several": SEVERAL, "held": HELD}
    files["mixed"] = [SHOWN[0], SEVERAL[1]]
    files["pool"] = [{"prompt": f"{i}?", "answers": list(WORDS)} for i in range(3)]
    files["bench"] = [row | {"subset": row["prompt"], "id": 1} for row in HELD]
    for name, rows in files.items():
        (path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(scope="module")
def opened(folder):
    return open_users(folder / "model")


def vectors_of_pairs(opened, rows):
    """[n, 2, 8] by the language model, in the units of the reward."""
    prompts = [row["prompt"] for row in rows for _ in range(2)]
    texts = [row[side] for row in rows for side in ("chosen", "rejected")]
    return (text_vectors(*opened[:2], prompts, texts).reshape(len(rows), 2, -1) - 0.5) / 2.0


def posterior(opened, rows):
    """Of one user by all of these comparisons."""
    model = opened[2]
    context = context_of(vectors_of_pairs(opened, rows)[None], np.ones((1, len(rows)), bool))
    return posterior_of(model.networks().encoder, model.params, context)


def test_a_user_is_known_by_all_of_its_comparisons(folder, opened, capsys):
    found = open_comparisons(*opened, folder / "shown.jsonl")
    assert found.users == (NOBODY,)
    expected = posterior(opened, SHOWN)
    np.testing.assert_allclose(found.posterior.means, expected.means, rtol=1e-4, atol=1e-5)
    assert "single comparison" not in capsys.readouterr().out
    found = open_comparisons(*opened, folder / "several.jsonl")
    assert found.users == ("eve", "bo")
    means = [posterior(opened, SHOWN[:2]).means[0], posterior(opened, SHOWN[2:]).means[0]]
    np.testing.assert_allclose(found.posterior.means, means, rtol=1e-4, atol=1e-5)
    assert "several.jsonl: 1 of 2 users have a single comparison" in capsys.readouterr().out
    model = told_users(opened[2], found._replace(users=("eve", "ann")))
    assert model.users == ("ann", 7, "eve")
    np.testing.assert_array_equal(model.latents[0], found.posterior.means[1])
    np.testing.assert_array_equal(model.latents[1], opened[2].latents[1])


def test_some_pairs_without_a_user_are_named(folder, opened):
    assert len(read_comparisons(folder / "mixed.jsonl", None)) == 2
    with pytest.raises(UserError, match="1 of 2 pairs have no user"):
        open_comparisons(*opened, folder / "mixed.jsonl")


def test_answers_are_scored_for_the_user_of_a_file(folder, opened):
    given, model = (["5?", "6?"], ["a", "bb"]), opened[2]
    name = f"user_score:{folder / 'model'},{folder / 'shown.jsonl'}"
    weight, kind, score, column = named_reward(f"2*{name}")
    assert (weight, kind, column) == (2.0, "user_score", None)
    vectors = (text_vectors(*opened[:2], *given)[:, None] - 0.5) / 2.0
    means = np.repeat(np.asarray(posterior(opened, SHOWN).means), 2, 0)
    expected = user_scores(model, vectors, means)[:, 0]
    np.testing.assert_allclose(np.array(score(*given), float), expected, rtol=1e-3, atol=1e-4)
    rates = named_reward(name.replace("user_score", "user_win_rate"))[2](*given)
    assert all(0 < float(rate or 0) < 1 for rate in rates)
    # Of several users the column says who.
    *_, score, column = named_reward(f"user_score:{folder / 'model'},{folder / 'several.jsonl'}")
    assert column == "user"
    both = score(["5?", "5?"], ["a", "a"], user=["eve", "ann"])
    assert both[0] != both[1]
    with pytest.raises(UserError, match="knows no user 'who'; it was trained on 4 users"):
        score(["5?"], ["a"], user=["who"])


def test_eval_measures_a_user_by_its_file_and_a_benchmark_for_it(folder, opened, tmp_path):
    model, shown = folder / "model", folder / "shown.jsonl"
    out = tmp_path / "numbers.json"
    words = ["eval", "--model", model, "--data", folder / "held.jsonl", "--comparisons", shown]
    assert main([*map(str, words), "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    means = np.repeat(np.asarray(posterior(opened, SHOWN).means), 3, 0)
    scores = user_scores(opened[2], vectors_of_pairs(opened, HELD), means)
    hits = (scores[:, 0] > scores[:, 1]).astype(float)
    assert found["accuracy"][0] == pytest.approx(hits.mean())
    assert "pairs that show who a new user is" not in found  # all are measured
    bench = tmp_path / "bench.json"
    words = ["eval", "--model", model, "--data", folder / "bench.jsonl", "--out", bench]
    assert main([*map(str, words), "--reward", f"user_score:{model},{shown}"]) == 0
    numbers = json.loads(bench.read_text())
    assert [numbers[row["prompt"]] for row in HELD] == hits.tolist()
    assert numbers["overall"] == pytest.approx(hits.mean())


def test_a_pair_is_not_explained_by_itself(folder, opened):
    path = folder / "shown.jsonl"
    turned = pair("1?", "bb", "abc")
    with pytest.raises(UserError, match=r"1 of 2 pairs of --data are in .*shown.jsonl too"):
        asked_users(*opened, path, [HELD[0], turned])
    model, rows = asked_users(*opened, path, HELD)
    assert model.users == ("ann", 7, NOBODY)
    assert {row["user"] for row in rows} == {NOBODY}
    # Of another user the same pair is no leak.
    several = folder / "several.jsonl"
    asked_users(*opened, several, [turned | {"user": "bo"}])
    with pytest.raises(UserError, match=r"--data names no user, and .*several.jsonl has 2"):
        asked_users(*opened, several, HELD)


def test_pairs_to_ask_are_written_for_the_page_that_asks(folder, tmp_path, capsys):
    words = ["ask", "--model", folder / "model", "--data", folder / "pool.jsonl", "--number", "3"]
    words += ["--comparisons", folder / "several.jsonl", "--out", tmp_path / "ask.jsonl"]
    assert main(list(map(str, words))) == 0
    rows = [json.loads(line) for line in (tmp_path / "ask.jsonl").read_text().splitlines()]
    assert [row["user"] for row in rows] == ["eve"] * 3 + ["bo"] * 3
    asked = [(row["user"], row["prompt"], tuple(sorted(row["answers"]))) for row in rows]
    assert len(set(asked)) == 6
    judged = {
        (x["user"], x["prompt"], tuple(sorted((x["chosen"], x["rejected"])))) for x in SEVERAL
    }
    assert not judged & set(asked)
    assert all(0 <= row["information"] < np.log(2) + 1e-6 for row in rows)
    assert rows[0]["information"] >= rows[2]["information"] - 1e-6
    # 3 prompts with 6 pairs each.
    said = capsys.readouterr().out
    assert "user 'eve': 3 of 16 pairs" in said
    assert "user 'bo': 3 of 17 pairs" in said
    assert len(read_items(tmp_path / "ask.jsonl", "pairs").by_key) == len({x[1:] for x in asked})


def test_a_user_of_whom_nothing_is_known_may_be_any_of_the_trained_ones(folder, opened):
    (asked,) = users_to_ask(*opened, None)
    assert (asked.user, asked.answered) == (None, frozenset())
    np.testing.assert_array_equal(asked.latents, opened[2].latents)
    (asked,) = users_to_ask(*opened, folder / "shown.jsonl")
    assert (asked.user, len(asked.answered), asked.latents.shape) == (None, 3, (256, 2))
    items = list(read_items(folder / "pool.jsonl", "pairs").by_key.values())[:2]
    found = candidate_vectors(*opened, items)
    rows = [pair(item.prompt, *item.answers) for item in items]
    np.testing.assert_allclose(found, vectors_of_pairs(opened, rows), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ask --model MODEL --data pool.jsonl --number 13", "--number must be in [1, 12]"),
        (
            "ask --model MODEL --data held.jsonl --number 4",
            "--number 4: held.jsonl has 3 of 3 pairs that the user has not judged; give more",
        ),
        ("ask --model OTHER --data pool.jsonl", "it is not a reward of users"),
        (
            "eval --model OTHER --data held.jsonl --comparisons shown.jsonl",
            "--comparisons show who a user is, to a reward of users",
        ),
        (
            "eval --model MODEL --data bench.jsonl --comparisons shown.jsonl --reward exact",
            "--comparisons excludes --reward: write user_score:FOLDER,FILE",
        ),
        ("eval --model MODEL --data held.jsonl", "3 of 3 pairs have no user"),
    ],
)
def test_bad_options_and_data_are_named(
    folder, mixing, tmp_path, monkeypatch, capsys, line, message
):
    monkeypatch.chdir(folder)
    words = line.replace("MODEL", str(folder / "model")).replace("OTHER", str(mixing)).split()
    refused([*words, "--out", str(tmp_path / "out")], message, capsys)
    assert not (tmp_path / "out").exists()
