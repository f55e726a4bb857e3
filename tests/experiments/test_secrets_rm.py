"""The secrets_rm experiment in its quick size, and claims that fail where nothing was repaired."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.secrets_rm import config, run
from experiments.secrets_rm.config import Config, Contrast, Meta
from experiments.secrets_rm.meta import MEASURES
from experiments.secrets_rm.repairs import METHODS, make_world, repaired
from experiments.secrets_rm.worlds import turned, wrong_labels
from rlhf_jax.training import open_run

TINY = Config(
    num_seeds=2,
    pairs=160,
    test_pairs=200,
    batch=16,
    voters=2,
    voter_epochs=1,
    epochs=2,
    contrast=Contrast(epochs=1, prototypes=4),
    meta=Meta(pairs=32, epochs=1, rounds=2, steps=2),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of a minute size: its folder and its outcome."""
    out = tmp_path_factory.mktemp("secrets_rm")
    with open_run(out, slug="secrets_rm", config=TINY) as job:
        return out, run.run(TINY, job)


def test_every_figure_and_number_is_there(finished):
    out, outcome = finished
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 4
    assert [row[0] for row in outcome.table.rows] == list(METHODS)
    assert len(outcome.claims) == 9
    assert outcome.numbers["shift"].keys() == {"Bradley-Terry", "MetaRM", "direct"}
    assert 0.375 <= outcome.numbers["shift"]["MetaRM"]["J"] < 0.75


@pytest.mark.slow
def test_the_quick_size_finds_the_wrong_labels(tmp_path):
    with open_run(tmp_path, slug="secrets_rm", config=config.quick()) as job:
        numbers = run.run(config.quick(), job).numbers
    right = numbers["right labels by tenth"]
    assert right[0] < 0.3 < 0.9 < right[-1]


def curves_of(last: dict[str, float]) -> np.ndarray:
    """[10, methods, 2] with a best pass of 0.9 and these last ones, 0.9 for the others."""
    found = np.full((10, len(METHODS), 2), 0.9)
    for name, value in last.items():
        found[:, METHODS.index(name), 1] = value
    return found + 1e-4 * np.arange(10)[:, None, None]


def verdicts(curves: np.ndarray) -> list[str]:
    return [claim.verdict for claim in run.repair_claims({"curves": curves}, "a size")]


def test_claims_hold_where_only_repairs_help():
    last = {"Bradley-Terry": 0.7, "flip at random": 0.6, "soft + margin": 0.8}
    # the claim on soft labels fails at a drop of 0.1, and holds with h = 1
    assert verdicts(curves_of(last)) == ["holds"] * 4 + ["fails", "holds"]


def test_claims_do_not_hold_where_nothing_overfits():
    found = verdicts(curves_of({}))
    assert found[0] == found[1] == found[3] == "fails"
    assert found[2] == "undecided"  # the baseline passes too


def test_flipping_at_random_must_not_pass():
    last = {"Bradley-Terry": 0.7, "soft + margin": 0.8}
    assert verdicts(curves_of(last))[0] == "undecided"


def test_spearman_by_hand():
    assert run.spearman(np.array([0.1, 0.2, 0.5, 0.9])) == 1.0
    assert run.spearman(np.array([0.9, 0.5, 0.2, 0.1])) == -1.0
    # ranks 1, 0, 2, 3: 1 - 6 * 2 / (4 * 15)
    assert run.spearman(np.array([0.2, 0.1, 0.5, 0.9])) == pytest.approx(0.8)


def test_the_share_of_wrong_labels_is_exact_and_turning_twice_is_nothing():
    wrong = wrong_labels(jax.random.key(0), count=160, share=0.25)
    assert int(wrong.sum()) == 40
    pairs = make_world(jax.random.key(1), TINY).pairs
    again = turned(turned(pairs, wrong), wrong)
    np.testing.assert_array_equal(again.chosen.inputs, pairs.chosen.inputs)
    moved = turned(pairs, wrong).chosen.inputs
    np.testing.assert_array_equal(moved[wrong], pairs.rejected.inputs[wrong])


def test_repairs_are_what_their_names_say():
    world = make_world(jax.random.key(1), TINY)
    strengths = jnp.where(world.wrong, -1.0, 1.0)
    prefs, gaps, weights = repaired(jax.random.key(2), world, strengths, TINY)
    row = {name: i for i, name in enumerate(METHODS)}
    truth = 1.0 - world.wrong
    np.testing.assert_array_equal(prefs[row["true labels"]], truth)
    np.testing.assert_array_equal(prefs[row["h = 1 + margin"]], truth)
    np.testing.assert_array_equal(prefs[row["soft"]], jnp.where(world.wrong, 0.5, 1.0))
    assert float(prefs[row["flip"]].mean()) == float(prefs[row["flip at random"]].mean())
    assert bool(jnp.all(prefs[row["flip"]] >= truth))  # 20% of the pairs, 25% are wrong
    np.testing.assert_array_equal(weights[row["drop"]], prefs[row["flip"]])
    np.testing.assert_array_equal(gaps[row["margin"]], strengths)
    assert not gaps[row["flip"]].any()


def test_measures_have_their_places():
    assert MEASURES == ("shifted accuracy", "accuracy", "shifted gap", "J")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": 0.5}, r"noise must be in \[0, 1/2\)"),
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
        ({"pairs": 100}, "pairs must be a multiple of 10"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        Config(**change)
