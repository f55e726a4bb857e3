"""The pf_ppo experiment in a minute size, its pieces by hand, and claims that must fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.pf_ppo import claims, config, run
from experiments.pf_ppo.bandit import draw_world, model_scores, settings
from experiments.pf_ppo.config import Config, Puzzles
from experiments.pf_ppo.filtered import NAMES, kept_advantages, mean_gold, middle_weights
from experiments.pf_ppo.puzzles import (
    ANSWERS,
    Puzzle,
    draw_puzzles,
    ordered_share,
    sheet_of,
    worked,
)
from rlhf_jax.training import open_run

TINY = Config(
    num_seeds=2,
    prompts=6,
    answers=5,
    features=3,
    iterations=5,
    amplitudes=(0.1,),
    puzzles=Puzzles(
        num_seeds=2, count=3, width=4, likelihood=2, pairs=8, pair_steps=2, iterations=5
    ),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of a minute size: its folder and its outcome."""
    out = tmp_path_factory.mktemp("pf_ppo")
    with open_run(out, slug="pf_ppo", config=TINY) as job:
        return out, run.run(TINY, job)


@pytest.mark.long
def test_every_figure_and_number_is_there(finished):
    out, outcome = finished
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 4
    assert len(outcome.claims) == 10
    assert [row[0] for row in outcome.table.rows] == list(NAMES)
    assert np.isfinite([cell for row in outcome.table.rows for cell in row[1:4]]).all()


def bandit_arrays(**lead):
    """Gold 0.8 in two worlds, and leads of filters under both orders; R^2 leads too."""
    gold = np.full((2, 4, len(NAMES), 3), 0.8) + 0.01 * np.arange(2)[:, None, None, None]
    r2 = np.full((2, 4, len(NAMES)), 0.2)
    for name, value in lead.items():
        place = NAMES.index(name.replace("_", " "))
        gold[:, :, place] += value + 0.001 * np.arange(2)[:, None, None]
        r2[:, :, place] += value + 0.001 * np.arange(2)[:, None]
    return {"gold": gold, "r2": r2}


def test_claims_hold_for_a_lead_and_fail_without_one():
    lead = bandit_arrays(best_and_random=0.1, best_and_worst=0.1, middle=-0.1)
    assert [claim.verdict for claim in claims.all_claims(TINY, lead)] == ["holds"] * 10
    behind = bandit_arrays(best_and_random=-0.1, best_and_worst=-0.1, middle=-0.1)
    assert [claim.verdict for claim in claims.all_claims(TINY, behind)] == ["fails"] * 10


def test_a_lead_that_any_filter_has_decides_nothing():
    same = bandit_arrays(best_and_random=0.1, best_and_worst=0.1, middle=0.1)
    assert {claim.verdict for claim in claims.all_claims(TINY, same)} == {"undecided"}


def test_the_reward_model_is_right_at_the_ends_alone():
    world = draw_world(TINY, jax.random.key(0))._replace(
        gold=jnp.array([[0.05, 0.5, 0.95]]), spurious=jnp.array([[9.0, 9.0, -9.0]])
    )
    np.testing.assert_allclose(model_scores(world, 0.1, 0.4), [[0.05, 0.9, 0.95]], rtol=1e-6)
    np.testing.assert_allclose(model_scores(world, 0.0, 0.4), [[0.9, 0.9, 0.1]], rtol=1e-6)


def test_directions_are_orthogonal():
    """Gold does not change along u: the correlation of both over many answers is small."""
    world = draw_world(Config(num_seeds=2, iterations=5), jax.random.key(1))
    logits = jnp.log(world.gold / (1 - world.gold)).ravel()
    assert abs(np.corrcoef(logits, world.spurious.ravel())[0, 1]) < 0.06
    assert float(jnp.std(logits)) == pytest.approx(1.6, rel=0.05)


def test_the_middle_is_what_best_and_worst_leave():
    scores = jnp.array([[1.0, 4.0, -2.0, 3.0], [1.0, 1.0, 1.0, 1.0]])
    np.testing.assert_allclose(middle_weights(scores), [[0.5, 0, 0, 0.5], [0.25] * 4])


def test_identity_numbers_change_no_bit_and_orders_differ():
    advantages = jnp.array([[0.0, 2.0], [4.0, 6.0]])
    every = jnp.broadcast_to(jnp.arange(2), (2, 2))
    after, before = (kept_advantages(advantages, every, first) for first in (False, True))
    np.testing.assert_array_equal(after, before)
    best = jnp.ones((2, 2), int)
    # All kept ones are 2, 2, 6, 6 about 4; before: 2 and 6 about 3, deviation sqrt(20 / 3).
    np.testing.assert_allclose(
        kept_advantages(advantages, best, False),
        np.array([[-2, -2], [2, 2]]) / np.sqrt(16 / 3),
        1e-5,
    )
    np.testing.assert_allclose(
        kept_advantages(advantages, best, True),
        np.array([[-1, -1], [3, 3]]) / np.sqrt(20 / 3),
        1e-5,
    )


def test_gold_by_hand():
    np.testing.assert_allclose(
        mean_gold(jnp.log(jnp.array([[0.25, 0.75]])), jnp.array([[1.0, 3.0]])), 2.5, rtol=1e-6
    )


def test_every_sweep_has_its_setting():
    assert settings(TINY) == [(0, False), (0, True), (1, False), (2, False)]
    assert TINY.models() == [(0.1, 0.4), (0.1, 0.1), (0.2, 0.3)]


def test_puzzles_are_worked_from_left_to_right():
    assert worked((3, 4, 2), (0, 1, 2), (2, 1)) == "( 3 * 4 ) - 2 = 10"
    assert worked((3, 4, 2), (2, 0, 1), (1, 2)) == "( 2 - 3 ) * 4 = -4"
    assert len(ANSWERS) == 54


def test_the_verifier_finds_every_right_answer():
    sheet = sheet_of([Puzzle((3, 4, 2), 10), Puzzle((1, 2, 9), -18)])
    texts = [[worked(d, *a) for a in ANSWERS] for d in ((3, 4, 2), (1, 2, 9))]
    for row, right, target in zip(texts, np.asarray(sheet.right), (10, -18), strict=True):
        assert [int(x.split("=")[1]) == target for x in row] == right.astype(bool).tolist()
    # 3 * 4 - 2, 4 * 3 - 2, 3 * 2 + 4, 2 * 3 + 4.
    assert int(sheet.right[0].sum()) == 4


def test_every_puzzle_has_an_answer():
    puzzles = draw_puzzles(Puzzles(count=20), np.random.default_rng(0))
    assert (np.asarray(sheet_of(puzzles).right).sum(1) > 0).all()
    assert all(len(set(puzzle.digits)) == 3 for puzzle in puzzles)


def test_how_often_right_answers_score_higher():
    scores, right = jnp.array([[0.9, 0.5, 0.7]]), jnp.array([[1.0, 1.0, 0.0]])
    assert float(ordered_share(scores, right)) == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 2}, r"samples must be in \[3, inf\)"),
        ({"edge": 0.5}, r"edge must be in \[0, 1/2\)"),
        ({"amplitudes": (0.7,)}, r"amplitudes must be in \[0, 1/2\]"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)
