"""The vpl experiment: its claims, what breaks them, its parts by hand, and a run of toy size."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.vpl import claims, config, grid, run, studies
from experiments.vpl.learners import Networks, accuracy, identified, unseen
from experiments.vpl.population import (
    TWO,
    Asked,
    answer,
    ask,
    opposite_users,
    random_users,
    shown,
    sorted_pairs,
)
from rlhf_jax.training import open_run
from rlhf_jax.types import RewardFn

TOY = config.Config(
    num_seeds=2,
    sweep_seeds=1,
    steps=40,
    batch=32,
    width=16,
    betas=(0.01, 10.0),
    test_users=80,
    sets=8,
    kept=2,
    grid_users=4,
    side=3,
    goal_steps=10,
)
SEEDS = 5


def noisy(*values, size=SEEDS):
    """[seeds, *] close to these values."""
    rng = np.random.default_rng(0)
    return np.asarray(values) + 1e-3 * rng.standard_normal((size, len(values)))


def good() -> dict:
    """Arrays of a run in which everything that is claimed is so."""
    rules = np.stack([noisy(0.8, 0.9, 0.95), *[noisy(0.96, 0.99, 0.999)] * 3], axis=1)
    users = {
        "vpl": noisy(0.87, 0.94, 0.97, 0.99),
        "no latent": noisy(0.5)[:, 0],
        "identified": noisy(0.99)[:, 0],
        "identified by a draw": noisy(0.98)[:, 0],
        "active": rules,
    }
    return {
        "two": users,
        "four": users,
        "sweep": {
            "vpl": noisy(0.99, 0.5),
            "identified": noisy(0.99, 0.6),
            "identified by a draw": noisy(0.98, 0.5),
        },
        "scales": {"raw range": noisy(8.0, 60.0), "win rate range": noisy(0.97, 0.99)},
        "grid": {
            "vpl": noisy(0.99, 0.01, 0.0)[..., None],
            "no latent": noisy(0.5, 0.5, 0.0)[..., None],
        },
    }


def verdicts(stages) -> list[str]:
    return [claim.verdict for claim in claims.all_claims(config.Config(betas=(0.01, 10.0)), stages)]


def test_everything_holds_where_it_should():
    found = verdicts(good())
    assert found == ["holds"] * len(found)


@pytest.mark.parametrize(
    ("stage", "change", "broken"),
    [
        ("two", {"no latent": noisy(0.7)[:, 0]}, "Bradley-Terry without a latent"),
        ("two", {"vpl": noisy(0.5, 0.5, 0.5, 0.5)}, "accuracy on unseen pairs"),
        ("two", {"identified": noisy(0.5)[:, 0]}, "identified by posterior means"),
        ("sweep", {"identified": noisy(0.99, 0.99)}, "identified by posterior means"),
        ("sweep", {"identified by a draw": noisy(0.99, 0.99)}, "identified by draws"),
        ("two", {"vpl": noisy(0.87, 0.98, 0.97, 0.99)}, "least gain"),
        ("four", {"no latent": noisy(1.0)[:, 0]}, "four random users: lead"),
        ("sweep", {"vpl": noisy(0.99, 0.99)}, "beta 10"),
        ("scales", {"raw range": noisy(8.0, 8.0)}, "range of its raw rewards"),
        ("scales", {"win rate range": noisy(0.5, 0.99)}, "win-rate rewards"),
        ("grid", {"vpl": noisy(0.5, 0.5, 0.0)[..., None]}, "grid with two goals"),
    ],
)
def test_what_breaks_a_claim(stage, change, broken):
    stages = good()
    stages[stage] = stages[stage] | change
    made = claims.all_claims(config.Config(betas=(0.01, 10.0)), stages)
    fallen = [claim.statement for claim in made if not claim.holds]
    assert any(broken in statement for statement in fallen)


def test_sets_as_good_as_random_ones_are_no_lead():
    stages = good()
    stages["four"] = stages["four"] | {"active": np.stack([noisy(0.8, 0.9, 0.95)] * 4, axis=1)}
    made = claims.query_claims(config.Config(), stages)
    assert [c.verdict for c in made] == ["holds", "fails"] * 3


def test_answers_are_in_the_order_of_the_labels():
    items = jnp.array([[[[1.0], [2.0]], [[3.0], [4.0]]]])
    values = jnp.array([[[0.0, 1000.0], [1000.0, 0.0]]])
    asked = sorted_pairs(jax.random.key(0), jnp.array([0]), items, values)
    np.testing.assert_array_equal(asked.chosen[0, :, 0], [2.0, 3.0])
    np.testing.assert_array_equal(asked.rejected[0, :, 0], [1.0, 4.0])
    np.testing.assert_array_equal(asked.gaps[0], [1000.0, 1000.0])


def test_users_of_opposite_taste_answer_alike_in_reverse():
    weights = opposite_users(jax.random.key(0), TOY, scale=3.0)
    np.testing.assert_allclose(weights[1], -3 * weights[0])
    np.testing.assert_allclose(weights[2:], weights[:2])
    others = random_users(jax.random.key(0), TOY)
    for rows in (weights[::2], others):
        np.testing.assert_allclose(jnp.linalg.norm(rows, axis=-1), 1.0, rtol=1e-5)
    asked = ask(jax.random.key(1), 2000, 1, weights=100 * weights, config=TOY)
    assert float(jnp.mean(asked.gaps > 0)) > 0.99
    liked = jnp.sum((asked.chosen - asked.rejected)[:, 0] * weights[0], -1)
    assert np.corrcoef(np.sign(liked), 1 - 2 * (asked.groups % 2))[0, 1] > 0.98
    items = jnp.stack([asked.rejected, asked.chosen], axis=2)
    again = answer(jax.random.key(2), asked.groups, items, weights=100 * weights, config=TOY)
    assert float(jnp.mean(again.chosen == asked.chosen)) > 0.98


def test_accuracy_forgives_the_noise_of_a_label():
    """Scores equal to the utility are always right, whatever the users have said."""
    scores = RewardFn(lambda key: None, lambda params, t: params * t.inputs.inputs[..., 0, 0])
    nets = Networks(None, scores)
    x = jnp.array([[[1.0], [2.0]]]), jnp.array([[[3.0], [0.0]]])
    asked = Asked(jnp.array([0]), *x, gaps=(x[0] - x[1])[..., 0])
    latents = jnp.zeros((1, 2))
    assert float(accuracy(nets, jnp.asarray(1.0), asked, latents)) == 1.0
    assert float(accuracy(nets, jnp.asarray(-1.0), asked, latents)) == 0.0
    assert float(accuracy(nets, jnp.asarray(0.0), asked, latents)) == 0.5


def test_what_is_shown_is_not_what_is_measured():
    asked = ask(jax.random.key(0), 3, 12, weights=random_users(jax.random.key(1), TOY), config=TOY)
    context, test = shown(asked, 2, TOY.context), unseen(TOY, asked)
    np.testing.assert_array_equal(context.mask.sum(-1), [2, 2, 2])
    assert context.chosen.shape[1] + test.chosen.shape[1] == 12
    np.testing.assert_array_equal(test.chosen, asked.chosen[:, 8:])
    np.testing.assert_array_equal(test.groups, asked.groups)


def test_identification_by_the_nearest_centre():
    latents = jnp.array([[0.0], [10.0], [1.0], [9.0], [0.4], [9.6], [8.0], [2.0]])
    kinds = jnp.array([0, 1, 0, 1, 0, 1, 0, 1])
    # centres 0.5 and 9.5 from the first four; of the last four two are right
    np.testing.assert_allclose(identified(latents, kinds, 4), 0.5)


def test_probabilities_of_answers_to_a_set_sum_to_one():
    nets = studies.networks(TOY)
    params = studies.UserParams(None, nets.reward.init(jax.random.key(0)))
    latents, items = (
        jnp.ones((3, TOY.latent_dim)),
        jax.random.normal(jax.random.key(1), (5, 2, 2, 4)),
    )
    labels = (jnp.arange(4)[:, None] >> jnp.arange(2)) & 1
    probs = studies.answer_probs(nets, params, latents, items, labels)
    assert probs.shape == (3, 5, 4)
    np.testing.assert_allclose(probs.sum(-1), 1.0, rtol=1e-5)
    turned = studies.answer_probs(nets, params, latents, items[:, :, ::-1], labels)
    np.testing.assert_allclose(turned, probs[..., ::-1], rtol=1e-4)


def test_the_grid_by_hand():
    """Up in the first column, else left: from the middle of the bottom row to the left corner."""
    small = config.Config(side=3, goal_steps=4)
    away = grid.utilities(3)
    np.testing.assert_array_equal(away[0], [0, -1, -2, -1, -2, -3, -2, -3, -4])
    np.testing.assert_array_equal(away[1], [-2, -1, 0, -3, -2, -1, -4, -3, -2])
    up, left = jnp.array([1.0, 0, 0, 0]), jnp.array([0, 0, 1.0, 0])
    first_column = jnp.arange(9) % 3 == 0
    found = grid.hits(small, jnp.log(jnp.where(first_column[:, None], up, left)))
    np.testing.assert_allclose(found[:, 0], [0, 0, 0, 1, 1])
    np.testing.assert_allclose(found[:, 1], 0)


@pytest.mark.long
def test_plans_on_the_true_utility_reach_the_goal():
    small = config.Config(side=5, goal_steps=12)
    for user, goal in enumerate((0, 1)):
        rewards = jax.nn.sigmoid(grid.utilities(5)[user] + 3.0)
        found = grid.hits(small, jax.jit(partial(grid.plan, small))(rewards))
        assert float(found[-1, goal]) > 0.99


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the toy size."""
    out = tmp_path_factory.mktemp("vpl")
    with open_run(out, slug="vpl", config=TOY) as job:
        return out, run.run(TOY, job)


def test_a_small_run_has_its_claims_numbers_and_figures(finished):
    out, outcome = finished
    assert len(outcome.claims) == len(verdicts(good()))
    numbers = [*(float(claim.value) for claim in outcome.claims)]
    assert np.isfinite([*numbers, *jax.tree.leaves(dict(outcome.numbers))]).all()
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    kept = {path.stem: dict(np.load(path)) for path in (out / "data").glob("*.npz")}
    assert set(kept) == {"two", "four", "sweep", "scales", "grid"}
    assert kept["two"]["vpl"].shape == (2, 4)
    assert kept["two"]["active"].shape == (2, 4, 3)
    assert set(np.unique(kept["two"]["kinds"])) <= set(TWO)
    np.testing.assert_allclose(kept["grid"]["vpl"].sum(1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(kept["two"]["no latent"], 0.5, atol=0.15)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": (1, 2)}, "sizes must rise to context 8"),
        ({"asked": (3,)}, "sizes must hold asked and its doubles"),
        ({"sweep_seeds": 11}, "sweep_seeds must be at most num_seeds"),
        ({"kept": 300}, "kept must be at most sets 256"),
        ({"members": 32001}, "members must be at most"),
        ({"grid_users": 2001}, "grid_users must be at most test_users"),
        ({"features": 1}, r"features must be in \[2, inf\)"),
        ({"side": 6}, "side must be odd"),
        ({"beta": -1.0}, r"beta must be in \[0, inf\)"),
        ({"latent_dim": 2}, r"latent_dim must be in \[4, inf\)"),
        ({"gamma": 1.0}, r"gamma must be in \[0, 1\)"),
        ({"rationality": 0.0}, r"rationality must be in \(0, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)


@pytest.mark.parametrize("name", ["default", "quick"])
def test_every_size_is_valid(name):
    assert isinstance(getattr(config, name)(), config.Config)
