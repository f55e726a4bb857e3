"""skywork_reward_v2 on few pairs: its world, its rounds, and claims that fail when they should."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.skywork_reward_v2 import config, rounds, run
from rlhf_jax.training import open_run

TOY = config.Config(num_seeds=2, features=5, verified=100, sizes=(100, 400), test=500)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A toy run: its folder and its outcome."""
    out = tmp_path_factory.mktemp("skywork")
    with open_run(out, slug="skywork_reward_v2", config=TOY) as job:
        return out, run.run(TOY, job)


def test_the_pool_is_style_in_its_share_and_truth_elsewhere():
    world = rounds.draw_world(replace(TOY, sizes=(100, 50_000)), np.random.default_rng(0))
    style = np.sign(world.features[:, 0])
    # P(wild = true) = 1 - 0.4 / 2, P(wild = style) = 0.4 + 0.6 / 2; 4 standard errors are 0.008.
    assert abs((world.wild == world.true).mean() - 0.8) < 0.008
    assert abs((world.wild == style).mean() - 0.7) < 0.009
    assert abs((world.judged == world.true).mean() - 0.8) < 0.008
    assert world.weights[0] == 0.0
    assert np.linalg.norm(world.weights) == pytest.approx(3.0)


def test_a_fit_leaves_out_pairs_of_sign_zero():
    world = rounds.draw_world(TOY, np.random.default_rng(1))
    features, labels = world.features[:50], world.true[:50]
    signs = np.where(np.arange(400) < 50, world.true, 0.0)
    with jax.enable_x64(True):
        part = rounds.fit(TOY, features, labels)
        np.testing.assert_allclose(rounds.fit(TOY, world.features, signs), part, rtol=1e-9)
    # The gradient vanishes at the fit: sum_i sigmoid(-z_i) y_i x_i = ridge w, z = y <w, x>.
    pull = (labels / (1.0 + np.exp(labels * (features @ part)))) @ features
    np.testing.assert_allclose(pull, TOY.ridge * part, rtol=1e-9)


def test_the_filter_never_flips_and_the_recipe_of_flips_does():
    world = rounds.draw_world(TOY, np.random.default_rng(2))
    gold = rounds.fit(TOY, world.verified, world.verified_labels)
    found = {name: rounds.curate_round(world, name, gold, gold) for name in rounds.CURATED}
    assert found["filter"].counts["flip"] == 0 < found["filter + flip"].counts["flip"]
    assert found["filter + all flipped"].counts["discard"] == 0 < found["filter"].counts["discard"]
    np.testing.assert_array_equal(found["filter"].keep, found["filter + flip"].keep)


def test_curated_pairs_beat_raw_ones_and_a_random_gold_model_does_not(finished):
    claims = {claim.statement.split(",")[0]: claim for claim in finished[1].claims}
    assert len(finished[1].claims) == 7
    ahead = claims["filter + flip minus raw"]
    assert float(ahead.value) > 0.05 > float(ahead.baseline[1])
    pairs = finished[1].numbers["pairs"]
    assert pairs["filter + flip"]["kept and right"][-1] > 0.9
    assert pairs["filter"]["flipped and right"] == [None, None]
    # Models fitted to the same truth err together: agreement is right less often than by the rule.
    both = pairs["filter"]
    assert both["both agree right"][-1] < both["both agree if independent"][-1]


def test_the_page_has_its_figures(finished):
    assert (finished[0] / "report.html").read_text().count("data:image/png;base64,") == 2


def test_numbers_that_show_nothing_fail_the_claims():
    shape = (3, 2)
    found: dict[str, np.ndarray] = {}
    for kind in ("all", "hard"):
        found |= {f"{kind}/{name}": np.full(shape, 0.8) for name in rounds.RECIPES}
        found[f"{kind}/gold only"] = np.full(3, 0.9)
    found["all/raw"] = np.array([[0.7, 0.8]] * 3)
    claims = run.raw_claims(TOY, found) + run.curated_claims(TOY, found)
    # The fifth, no gap between all and hard pairs, holds of both and tells nothing apart.
    verdicts = [claim.verdict for claim in claims]
    assert verdicts == ["fails"] * 4 + ["undecided"] + ["fails"] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": (100,)}, "sizes must rise"),
        ({"sizes": (200, 100)}, "sizes must rise"),
        ({"judge": 1.5}, r"judge must be in \[0, 1\]"),
        ({"ridge": 0.0}, r"ridge must be in \(0, inf\)"),
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)


@pytest.mark.parametrize("name", ["default", "quick"])
def test_every_size_is_valid(name):
    assert isinstance(getattr(config, name)(), config.Config)
