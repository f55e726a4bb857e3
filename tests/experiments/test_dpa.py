"""The dpa experiment in a small size, its measures by hand, and what breaks each claim."""

import jax
import numpy as np
import pytest

from experiments.dpa import claims, config, learners, run
from rlhf_jax.training import open_run

TINY = config.Config(
    num_seeds=2, prompts=8, answers=8, features=3, samples=4, rounds=2, steps=5, kept=4
)
SIZES = config.Config()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run: its folder and its outcome."""
    out = tmp_path_factory.mktemp("dpa")
    with open_run(out, slug="dpa", config=TINY) as job:
        return out, run.run(TINY, job)


@pytest.mark.long
def test_a_small_run_has_its_claims_numbers_and_figures(finished):
    out, outcome = finished
    assert len(outcome.claims) == len(claims.all_claims(SIZES, good()))
    numbers = [float(claim.value) for claim in outcome.claims]
    assert np.isfinite([*numbers, *jax.tree.leaves(outcome.numbers)]).all()
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 2
    kept = dict(np.load(out / "data" / "methods.npz"))
    assert kept["DPA"].shape == (2, 3, 7, 2)
    assert kept["labels"].shape == (2, 2, 7, 2)
    for each in kept.values():
        np.testing.assert_array_equal(each[:, 0], kept["DPA"][:, 0])  # all from one start
    # Without theta_2 only cos(a) is read, which is the same on both sides.
    unread = kept["direction not read"]
    np.testing.assert_allclose(unread, unread[:, :, ::-1], atol=1e-5)
    np.testing.assert_allclose(learners.directions_asked(TINY), claims.asked_for(TINY), atol=1e-6)


def front(radius, turn=0.0):
    """E[r] on a circle: asked for v the policy has radius v, [seeds, rounds + 1, 7, 2]."""
    noise = 1 + 1e-3 * np.random.default_rng(0).standard_normal((5, 1, 1, 1))
    angles = np.radians(np.linspace(-45, 45, 7)) + turn
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return noise * np.asarray(radius, float)[None, :, None, None] * circle


def still(radius):
    """The same policy whatever is asked for."""
    return np.repeat(front(radius)[:, :, 3:4], 7, axis=2)


def good() -> dict:
    """Arrays of a run in which everything that is claimed is so."""
    return {
        "DPA": front([0, 3, 4, 4.2, 4.3]),
        "one direction": still([0, 3, 3.5, 3.6, 3.6]),
        "direction not read": still([0, 2, 3, 3.1, 3.1]),
        "K = 1": still([0, 0.1, 0.05, 0.1, 0.12]),
        "labels": front([0, 2]),
    }


def test_everything_holds_where_it_should():
    assert {claim.verdict for claim in claims.all_claims(SIZES, good())} == {"holds"}


@pytest.mark.parametrize(
    ("method", "change", "broken"),
    [
        ("DPA", front([0, 3, 4, 4.3, 4.2]), "rises in each of 4 rounds"),
        ("DPA", front([0, 3, 3, 3, 2.9]), "gained from round 1 to 4"),
        ("DPA", front([0, 3, 4, 4.2, 4.3])[:, :, ::-1], "rises at every step of the angle"),
        ("DPA", front([0, 3, 4, 4.2, 4.3])[:, :, ::-1], "is itself or a neighbour"),
        ("DPA", front([0, 3, 4, 4.2, 4.3])[:, :, ::-1], "second reward asked for at 45"),
        ("DPA", front([0, 1, 2, 3, 3.1]), "higher support value"),
        ("DPA", front([0, 1, 2, 3, 3.1]), "DPA minus the same rounds"),
        ("labels", front([0, 3.5]), "SteerLM-like"),
    ],
)
def test_what_breaks_a_claim(method, change, broken):
    made = claims.all_claims(SIZES, good() | {method: change})
    fallen = [claim.statement for claim in made if not claim.holds]
    assert any(broken in statement for statement in fallen)


def test_the_measures_by_hand():
    small = config.Config(asked=3, angle=90.0)
    # asked for (0, -1), (1, 0), (0, 1) the policy has these E[r]; v . r of each v with each:
    rewards = np.array([[1.0, -2.0], [3.0, 0.0], [2.0, 4.0]])
    # v = (0, -1): 2, 0, -4; v = (1, 0): 1, 3, 2; v = (0, 1): -2, 0, 4
    np.testing.assert_allclose(
        claims.values(small, rewards), [[2, 0, -4], [1, 3, 2], [-2, 0, 4]], atol=1e-12
    )
    assert claims.support(small, rewards) == pytest.approx(3.0)  # of 2, 3, 4
    assert claims.single(small, rewards) == pytest.approx(1.0)  # of 0, 3, 0
    assert claims.lost(small, rewards) == pytest.approx(0.0, abs=1e-12)
    assert claims.lost(small, rewards[[1, 0, 2]]) == pytest.approx(2.0)  # 2 - 0, 3 - 1, 0
    assert claims.rises(rewards[None])
    assert not claims.rises(rewards[None, [1, 0, 2]])
    assert claims.matches(small, rewards[None])
    assert not claims.matches(small, rewards[None, ::-1])


def test_the_best_of_a_row_is_best_for_its_direction():
    world = learners.draw_world(TINY, jax.random.key(0))
    assert world.rewards.shape == (8, 8, 2)
    many = TINY.samples * 100
    theta = np.zeros((3, 3))
    rows = learners.best_rows(TINY, world, theta, jax.random.key(1), samples=many)
    worth = np.einsum("naj,nj->na", world.rewards[rows.states], rows.directions)
    np.testing.assert_array_equal(rows.answers, worth.argmax(-1))
    assert np.bincount(rows.states).tolist() == [4] * 8
    fixed = learners.best_rows(TINY, world, theta, jax.random.key(1), fixed=True)
    np.testing.assert_array_equal(fixed.directions, np.tile([1.0, 0.0], (32, 1)))
    unread = learners.best_rows(TINY, world, theta, jax.random.key(1), unread=True, samples=many)
    np.testing.assert_array_equal(unread.directions, fixed.directions)
    np.testing.assert_array_equal(unread.answers, rows.answers)


def test_labels_are_directions_within_the_range():
    world = learners.draw_world(TINY, jax.random.key(0))
    rows = learners.labelled_rows(TINY, world, jax.random.key(1))
    assert rows.answers.shape == (8 * TINY.kept,)
    angles = np.degrees(np.arctan2(rows.directions[:, 1], rows.directions[:, 0]))
    np.testing.assert_array_equal(np.abs(angles) <= 45.0001, rows.counts)
    assert rows.counts.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"asked": 4}, "asked must be odd"),
        ({"kept": 65}, "kept must be at most directions times samples"),
        ({"samples": 1}, r"samples must be in \[2, inf\)"),
        ({"angle": 91.0}, r"angle must be in \(0, 90\]"),
        ({"rounds": 1}, r"rounds must be in \[2, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)


@pytest.mark.parametrize("name", ["default", "quick"])
def test_every_size_is_valid(name):
    assert isinstance(getattr(config, name)(), config.Config)
