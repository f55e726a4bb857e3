"""`rlhf reward --kind users`: training on pairs with a user, numbers, and use as a reward."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from opposite_users import opposite_pairs

from rlhf_jax.algos.user_reward import init_user_model
from rlhf_jax.cli import main
from rlhf_jax.cli.rewards import named_reward
from rlhf_jax.cli.users import (
    ARRAYS,
    Units,
    UserModel,
    read_user_model,
    served,
    units_of,
    user_files,
    user_quality,
    user_scores,
    user_win_rates,
    with_two_pairs,
)
from rlhf_jax.recipes.users import EmbeddedPairs, UserSizes, user_networks
from rlhf_jax.training import UserError

SIZES = UserSizes(context=2, targets=1, latent_dim=2, width=4)


def run(*words):
    return main([str(word) for word in words])


def small_model() -> UserModel:
    """Two users with opposite latents, vectors of three numbers."""
    networks = user_networks(3, SIZES)
    params = init_user_model(jax.random.key(0), *networks)
    latents = np.array([[1.0, -1.0], [-1.0, 1.0]], np.float32)
    vectors = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    units = Units(np.zeros(3, np.float32), np.ones(3, np.float32))
    return UserModel(SIZES, params, units, ("ann", 7), latents, vectors)


def pairs_of(*users) -> EmbeddedPairs:
    rng = np.random.default_rng(1)
    return EmbeddedPairs(rng.normal(size=(len(users), 2, 3)).astype(np.float32), users)


def test_a_folder_has_all_of_the_model(tmp_path):
    model = small_model()
    for name, content in user_files(model).items():
        (tmp_path / name).write_bytes(content)
    found = read_user_model(tmp_path)
    assert found.users == model.users
    assert found.sizes == model.sizes
    given = pairs_of("ann", 7).vectors, model.latents
    np.testing.assert_array_equal(user_scores(found, *given), user_scores(model, *given))
    np.testing.assert_array_equal(found.references, model.references)
    (tmp_path / ARRAYS).write_bytes(b"")
    with pytest.raises(UserError, match="its reward of users cannot be read"):
        read_user_model(tmp_path)
    with pytest.raises(UserError, match="rlhf reward --kind users makes"):
        read_user_model(tmp_path / "other")


@pytest.mark.long
def test_win_rates_are_those_of_the_users_own_reward():
    model = small_model()
    vectors = pairs_of("ann", 7, "ann").vectors[:, 0]
    found = user_win_rates(model, vectors, ("ann", 7, "ann"))
    for row, z in ((0, 0), (1, 1), (2, 0)):
        score = user_scores(model, vectors[None, [row]], model.latents[[z]])[0, 0]
        others = user_scores(model, model.references[None], model.latents[[z]])[0]
        np.testing.assert_allclose(found[row], jnp.mean(jax.nn.sigmoid(score - others)), rtol=1e-5)
    with pytest.raises(UserError, match=r"knows no user 'bob'; it was trained on 2 users \('ann',"):
        user_win_rates(model, vectors, ("ann", "bob", 7))


def test_what_shows_who_a_new_user_is_is_not_measured():
    model = small_model()
    pairs = pairs_of("ann", "eve", "eve", 7, "eve", "alone")
    found = served(model, pairs)
    assert found.rows[:2].tolist() == [0, 3]
    assert found.new.tolist() == [False, False, True]
    assert found.rows[2] in (1, 2, 4)
    scores = user_scores(model, pairs.vectors[[0, 3]], model.latents)
    np.testing.assert_allclose(found.margins[:2], scores[:, 0] - scores[:, 1], rtol=1e-6)
    # The other one of two users.
    scores = user_scores(model, pairs.vectors[[0, 3]], model.latents[::-1])
    assert found.others is not None
    np.testing.assert_allclose(found.others[:2], scores[:, 0] - scores[:, 1], rtol=1e-6)
    with pytest.raises(UserError, match=r"trained user.*: all 2 users are new and have a single"):
        served(model, pairs_of("bob", "eve"))


def test_pairs_that_are_not_measured_are_counted():
    users = ("ann", "eve", "eve", 7, "eve", "alone", "lone")
    records = [{"prompt": f"{i}?"} for i in range(len(users))]
    numbers = user_quality(small_model(), pairs_of(*users), records)
    assert numbers["pairs that show who a new user is"] == 2.0
    assert numbers["new users with a single pair, not measured"] == 2.0
    numbers = user_quality(small_model(), pairs_of("ann", 7), records[:2])
    assert not [name for name in numbers if "new user" in name]


def test_units_are_those_of_the_training_vectors():
    pairs = EmbeddedPairs(
        np.array([[[0.0, 1.0], [2.0, 1.0]], [[4.0, 1.0], [2.0, 1.0]]]), ("a", "b")
    )
    units = units_of(pairs)
    np.testing.assert_allclose(units.mean, [2.0, 1.0])
    np.testing.assert_allclose(units.std, [2**0.5, 0.0], atol=2e-6)
    np.testing.assert_allclose(units.of(pairs).vectors.mean((0, 1)), 0.0, atol=1e-6)


def test_users_with_a_single_pair_are_counted(capsys):
    kept = with_two_pairs(pairs_of("ann", "bob", "ann", 7))
    assert kept.users == ("ann", "ann")
    np.testing.assert_array_equal(kept.vectors, pairs_of("ann", "bob", "ann", 7).vectors[[0, 2]])
    assert "2 of 3 users have a single training pair and are left out" in capsys.readouterr().out
    with pytest.raises(UserError, match="all 2 users have a single pair each"):
        with_two_pairs(pairs_of("ann", 7))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pairs to train on, and others of the same users and of two new ones."""
    folder = tmp_path_factory.mktemp("users")
    held = opposite_pairs(range(8), (8, 9)) + opposite_pairs((20, 21), (5, 6, 7, 8))
    for name, rows in (("train", opposite_pairs(range(8), range(5))), ("held", held)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    prompts = [{"prompt": f"{n}?", "user": n % 2} for n in range(4)]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    return folder


@pytest.mark.long
def test_opposite_users_are_served_and_their_reward_is_read(tmp_path, mixing, data):
    out = tmp_path / "users"
    words = ("reward", "--kind", "users", "--model", mixing, "--data", data / "train.jsonl")
    words += ("--heldout-data", data / "held.jsonl", "--steps", "120", "--batch-size", "8")
    sizes = ("--user-context", "3", "--user-targets", "2", "--latent-dim", "2")
    assert run(*words, *sizes, "--learning-rate", "0.02", "--out", out) == 0
    numbers = json.loads((out / "summary.json").read_text())["numbers"]
    assert numbers["accuracy"]["after"] == [1.0, 1.0, 1.0]
    assert np.ravel(numbers["accuracy, new users"]["after"])[0] == 1.0
    assert np.ravel(numbers["accuracy, latent of another user"]["after"])[0] < 0.9
    assert numbers["KL to the prior"]["after"] > 0.1
    assert numbers["pairs that show who a new user is"]["after"] == 6.0
    # All chosen answers are as long as the rejected ones, and as often a as b.
    assert np.ravel(numbers["accuracy minus n-grams"]["after"])[0] > 0.3
    # The folder that was written has the same numbers.
    found = tmp_path / "numbers.json"
    assert run("eval", "--model", out / "model", "--data", data / "held.jsonl", "--out", found) == 0
    for name, value in json.loads(found.read_text()).items():
        assert numbers[name]["after"] == pytest.approx(value, abs=1e-4)
    given = (["0?"] * 4, ["aaa", "bbb"] * 2)
    for name in ("user_score", "user_win_rate"):
        weight, kind, score, column = named_reward(f"2*{name}:{out / 'model'}")
        assert (weight, kind, column) == (2.0, name, "user")
        scores = np.array(score(*given, user=[0, 0, 1, 1]), float)
        first, second, third, fourth = scores.tolist()
        assert first > second
        assert third < fourth
    assert 0 < fourth < 1
    with pytest.raises(UserError, match="the reward knows no user 20"):
        score(*given, user=[0, 0, 20, 1])
    with pytest.raises(UserError, match="write user_win_rate:"):
        named_reward(str(out / "model"))
    words = ("grpo", "--model", mixing, "--prompts", data / "prompts.jsonl", "--answer-length", "4")
    words += ("--reward", f"user_win_rate:{out / 'model'}", "--steps", "1", "--batch-size", "8")
    assert run(*words, "--out", tmp_path / "grpo") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--buckets", "2"), "error: --buckets is not for --kind users"),
        (("--lora-rank", "2"), "--kind users leaves the model as it is"),
        (("--latent-kl", "-1"), "--latent-kl must be in [0, inf)"),
        ((), "12 of 12 pairs have no user"),
    ],
)
def test_bad_options_and_data_are_named(tmp_path, model, files, capsys, words, message):
    given = ("reward", "--kind", "users", "--model", model, "--data", files / "pairs.jsonl")
    given += ("--heldout", "0", "--out", tmp_path / "out")
    assert run(*given, *words) == 2
    assert message in capsys.readouterr().err
