"""The domain_rm experiment: its worlds, its fit, its claims and what breaks them, one small run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.domain_rm import config as domain_config
from experiments.domain_rm import learners
from experiments.domain_rm import run as domain_run
from rlhf_jax.algos.planning.reward_newton import fit_rewards
from rlhf_jax.training import open_run

TOY = domain_config.Config(
    num_seeds=2,
    dims=12,
    sizes=(100, 940, 2000, 2500),
    test_pairs=400,
    fit_steps=40,
    epochs=2,
    prompts=10,
    pool=16,
    ns=(4, 16),
)
ABOVE = "features from 100 pairs, accuracy above the raw model's from"
BEST = "best of n by features from 100 pairs, above the raw model's from 940"
ASKED = {
    (f"{ABOVE} 940: mean lead", ">", 0),
    (f"{ABOVE} 940: share of the 3 worlds", ">=", 1.0),
    (f"{ABOVE} 2000: mean lead", ">", 0),
    (f"{ABOVE} 2000: share of the 3 worlds", ">=", 0.8),
    ("raw model minus features, both from 20000 pairs: accuracy", ">=", 0.03),
    ("4 of 7 features from 940 pairs minus the raw model from as many: accuracy", "<=", 0),
    ("4 of 7 features from 20000 pairs minus all of them from 100: accuracy", "<", 0),
    (f"{BEST}: least mean lead of all n", ">", 0),
    (f"{BEST}: share of worlds and n", ">=", 1.0),
}


def seen(config, **changes):
    """What the spec of the experiment saw, three worlds a thousandth apart."""
    features = [0.807, 0.846, 0.866, 0.887, 0.897, 0.903, 0.903, 0.903, 0.904]
    raw = [0.554, 0.575, 0.606, 0.638, 0.694, 0.779, 0.843, 0.905, 0.955]
    shift = 0.001 * np.arange(3)[:, None]
    best = {"features, few": [2.41, 4.15, 5.46, 6.56], "raw, many": [1.87, 3.26, 4.31, 5.22]}
    best["raw, few"] = [1.0, 2.0, 3.0, 4.0]
    rows = {
        "accuracy/features": features,
        "accuracy/raw": raw,
        "accuracy/some features": [0.75] * 5 + [0.772] * 4,
        **{f"best/{name}": each for name, each in best.items()},
    }
    tilt = {"accuracy/features": 1.5, "accuracy/some features": 0.5, "best/features, few": 2.0}
    found = {
        name: np.array(row) + tilt.get(name, 1.0) * shift for name, row in (rows | changes).items()
    }
    assert len(config.sizes) == len(features)
    return found


def verdicts(**changes) -> list[str]:
    config = domain_config.default()
    found = seen(config, **changes)
    claims = [
        *domain_run.saving_claims(config, found),
        domain_run.crossover_claim(config, found),
        *domain_run.wrong_knowledge_claims(config, found),
        *domain_run.best_of_claims(config, found),
    ]
    assert {(claim.statement, claim.op, claim.threshold) for claim in claims} == ASKED
    return [claim.verdict for claim in claims]


def test_the_claims_hold_on_what_was_seen():
    assert verdicts() == ["holds"] * 9


def test_no_saving_is_no_claim():
    raw = [0.554, 0.575, 0.9, 0.9, 0.9, 0.9, 0.9, 0.905, 0.955]
    found = verdicts(**{"accuracy/raw": raw})
    assert found[:4] == ["fails"] * 4
    # Where all features do no better than the raw vector, some of them tell nothing.
    assert found[4:7] == ["holds", "undecided", "holds"]


def test_no_crossover_and_harmless_omissions_fail():
    features = [0.807, 0.846, 0.866, 0.887, 0.897, 0.903, 0.94, 0.95, 0.96]
    found = verdicts(**{"accuracy/features": features, "accuracy/some features": features})
    assert found[4:7] == ["fails", "fails", "fails"]


def test_a_reward_that_chooses_no_better_fails():
    assert verdicts(**{"best/features, few": [1.8, 3.2, 4.2, 5.1]})[7:] == ["fails", "fails"]


def test_the_pairs_that_match_are_between_two_sizes():
    config = domain_config.default()
    found = seen(config)
    matched = domain_run.matching_pairs(config, found)
    assert ((matched > 2000) & (matched < 5000)).all()
    never = found | {"accuracy/features": np.ones_like(found["accuracy/features"])}
    np.testing.assert_array_equal(domain_run.matching_pairs(config, never), [20000] * 3)


def test_features_are_the_projections_and_the_gap_is_that_of_two_answers():
    world = learners.draw_world(jax.random.key(0), TOY)
    np.testing.assert_allclose(
        world.directions.T @ world.directions, np.eye(TOY.features), atol=1e-5
    )
    assert float(world.weights.min()) > 0
    config = domain_config.Config(dims=12, noise=0.0)
    pairs = learners.draw_pairs(jax.random.key(1), world, config, 4000)
    np.testing.assert_allclose(pairs.first - pairs.second, pairs.raw @ world.directions, atol=1e-5)
    for answers in (pairs.first, pairs.second):
        np.testing.assert_allclose(answers.var(0), 1.0, atol=0.1)
    np.testing.assert_allclose(jnp.mean(pairs.first * pairs.second, 0), 0.0, atol=0.1)
    known = config.strength * (pairs.first - pairs.second) @ world.weights
    np.testing.assert_allclose(pairs.logits, known, atol=1e-4)


def test_labels_are_right_as_often_as_the_logistic_says():
    world = learners.draw_world(jax.random.key(0), TOY)
    pairs = learners.draw_labelled(jax.random.key(1), world, TOY)
    right = float((pairs.logits > 0).mean())
    expected = float(jax.nn.sigmoid(jnp.abs(pairs.logits)).mean())
    assert right == pytest.approx(expected, abs=0.03)
    assert 0.7 < right < 1
    np.testing.assert_allclose(
        TOY.strength * pairs.raw @ world.directions @ world.weights, pairs.logits, atol=1e-4
    )


@pytest.mark.long
def test_the_fit_is_that_of_newton():
    with jax.enable_x64(True):
        gaps = jax.random.normal(jax.random.key(0), (60, 5)) + jnp.array([0.5, 0, 0, -0.5, 0])
        counts, ridges = jnp.array([20.0, 60.0]), jnp.array([0.5, 5.0])
        fit = learners.fit_linear(gaps, counts, ridges, 200)
        assert float(fit["residual"].max()) < 1e-7
        for i, count in enumerate((20, 60)):
            for j, ridge in enumerate((0.5, 5.0)):
                first, second = gaps[:count], jnp.zeros((count, 5))
                known = fit_rewards(first, second, beta=1.0, ridge=ridge).params
                np.testing.assert_allclose(fit["weights"][i, j], known, atol=1e-5)


def test_each_feature_is_kept_as_often():
    kept = learners.kept_features(TOY)
    assert kept.shape == (7, 7)
    np.testing.assert_array_equal(kept.sum(0), 4)
    np.testing.assert_array_equal(kept.sum(1), 4)


def test_features_that_are_left_out_have_no_weight():
    gaps = jax.random.normal(jax.random.key(0), (60, 3)) * jnp.array([1.0, 0.0, 1.0])
    fit = learners.fit_linear(gaps, jnp.array([60.0]), jnp.array([1.0]), 50)
    alone = learners.fit_linear(gaps[:, ::2], jnp.array([60.0]), jnp.array([1.0]), 50)
    np.testing.assert_array_equal(fit["weights"][0, 0, 1], 0.0)
    np.testing.assert_allclose(fit["weights"][0, 0, ::2], alone["weights"][0, 0], atol=1e-5)


def test_ties_count_one_half():
    gaps, logits = jnp.array([[1.0, -1.0, 0.0, 2.0]]), jnp.array([1.0, 1.0, 1.0, -3.0])
    np.testing.assert_allclose(learners.accuracy(gaps, logits), [1.5 / 4])


def test_the_raw_model_that_is_the_truth_chooses_the_best():
    config = domain_config.Config(dims=12, prompts=200, pool=16, ns=(1, 4, 16))
    world = learners.draw_world(jax.random.key(0), config)
    truth = world.directions @ world.weights
    aside = jnp.linalg.svd(world.directions, full_matrices=True)[0][:, -1]
    models = {"truth": (None, truth), "nothing": (None, aside), "ratings": (world.weights, None)}
    found = learners.best_of(jax.random.key(1), world, models, config)
    # E max of 4 and 16 standard normal numbers: 1.0294, 1.7660.
    expected = config.strength * np.array([0, 1.0294, 1.7660])
    np.testing.assert_allclose(found["truth"], expected, atol=0.25)
    np.testing.assert_allclose(found["nothing"], 0, atol=0.25)
    assert (found["ratings"][1:] < found["truth"][1:]).all()
    assert (found["ratings"][1:] > 0.9 * found["truth"][1:]).all()


@pytest.mark.long
def test_the_whole_of_it_at_a_small_size(tmp_path):
    with open_run(tmp_path, slug="domain_rm", config=TOY) as job:
        outcome = domain_run.run(TOY, job)
    assert len(outcome.claims) == 9
    assert np.isfinite([float(claim.value) for claim in outcome.claims]).all()
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert page.count("https://") == page.count("https://arxiv.org/abs/")
    kept = dict(np.load(tmp_path / "data" / "worlds.npz"))
    assert kept["accuracy: features"].shape == (2, 4)
    assert all(np.isfinite(each).all() for each in kept.values())
    # Of twelve dimensions seven decide: the raw vector without noise wins soon.
    assert (kept["accuracy: raw"][:, -1] > kept["accuracy: features"][:, -1]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kept": 7}, "kept must be below features"),
        ({"dims": 5}, "at most dims"),
        ({"sizes": (100, 940, 5000)}, "sizes must ascend, hold 100, 940 and 2000"),
        ({"sizes": (25, 100, 940, 2000)}, "sizes must end above 2000"),
        ({"ns": (4, 512)}, "ns must ascend up to the pool"),
        ({"ridges": (0.0,)}, r"ridges must be in \(0, inf\)"),
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
        ({"batch": 200}, r"batch must be in \[1, 100\]"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        domain_config.Config(**change)


@pytest.mark.parametrize("name", ["default", "quick"])
def test_every_size_is_valid(name):
    assert isinstance(getattr(domain_config, name)(), domain_config.Config)
