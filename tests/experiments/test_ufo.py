"""The ufo experiment: its claims, what breaks them, its episodes by hand, a run of toy size."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.ufo import claims, config, guessing, run
from rlhf_jax.training import open_run
from rlhf_jax.types import Trajectory

TOY = config.Config(
    num_seeds=2,
    candidates=4,
    turns=3,
    long_turns=4,
    decays=(0.8,),
    episodes=32,
    steps=6,
    group=4,
    questions=200,
    points=3,
    point_questions=100,
)
CONFIG = config.Config()
NAMES = ("before", *guessing.kinds(CONFIG))


def noisy(*values, size=5):
    rng = np.random.default_rng(0)
    return np.asarray(values) + 1e-3 * rng.standard_normal((size, len(values)))


def measured(succ, unique, turns, independent=0.6):
    return {
        "succ": noisy(0.3, succ),
        "pass": noisy(0.3, independent),
        "unique": noisy(unique)[:, 0],
        "turns": noisy(turns)[:, 0],
    }


def good() -> dict:
    """Evaluations of a run in which everything that is claimed is so."""
    return {
        "before": measured(0.63, 0.8, 3.3, 0.63),
        "single turn": measured(0.46, 0.3, 3.27),
        "feedback hidden": measured(0.64, 0.75, 3.18),
        "UFO": measured(0.83, 0.98, 2.68),
        "UFO, long": measured(0.70, 0.99, 3.4),
        "decay": measured(0.81, 0.92, 2.6),
        "decay and repetition": measured(0.825, 0.96, 2.62),
    }


def test_everything_holds_where_it_should():
    assert {claim.verdict for claim in claims.all_claims(CONFIG, good())} == {"holds"}


@pytest.mark.parametrize(
    ("name", "change", "broken"),
    [
        ("single turn", {"unique": 0.7}, "minus those of single-turn"),
        ("UFO", {"unique": 0.9}, "unique answers of UFO"),
        ("UFO", {"succ": 0.7}, "share of 5 seeds"),
        ("UFO", {"succ": 0.7}, "above Pass@5 before training"),
        ("single turn", {"succ": 0.8}, "above single-turn training's"),
        ("UFO, long", {"succ": 0.9}, "minus that of UFO on 10"),
        ("decay", {"turns": 2.9}, "tries minus those without decay"),
        ("decay", {"succ": 0.7}, "lost by it"),
        ("decay and repetition", {"succ": 0.8}, "gained by repetition"),
    ],
)
def test_what_breaks_a_claim(name, change, broken):
    stages = good()
    for key, value in change.items():
        column = noisy(0.3, value) if key == "succ" else noisy(value)[:, 0]
        stages[name] = stages[name] | {key: column}
    fallen = [c.statement for c in claims.all_claims(CONFIG, stages) if not c.holds]
    assert any(broken in statement for statement in fallen)


def test_an_episode_that_reads_its_tries_never_repeats_and_ends_with_success():
    beliefs = guessing.draw_questions(TOY, jax.random.key(0), 500)
    assert float(beliefs[:, 0].mean() - beliefs[:, 1:].mean()) == pytest.approx(1.2, abs=0.15)
    found = guessing.play(jnp.array([0.0, -8.0]), beliefs, jax.random.key(1), turns=4)
    taken, answers = (np.asarray(x) for x in (found.trajectory.mask, found.trajectory.actions))
    for row, kept, right in zip(answers, taken, np.asarray(found.right), strict=True):
        assert len(set(row[kept])) >= kept.sum() - 1  # -8 is not minus infinity
        assert right.sum() == (0 in row[kept])
        assert not kept.all() or row[3] == 0 or 0 not in row
    np.testing.assert_array_equal(
        np.asarray(found.right).sum(1), taken.any(1) & (answers == 0).any(1)
    )


def test_hidden_feedback_makes_tries_independent():
    beliefs = guessing.draw_questions(CONFIG, jax.random.key(0), 4000)
    th = jnp.array([0.5, -8.0])
    found = guessing.play(th, beliefs, jax.random.key(1), turns=5, hidden=True)
    solved = np.asarray(found.right.any(1)).mean()
    first = jax.nn.softmax(jnp.exp(0.5) * beliefs)[:, 0]
    assert solved == pytest.approx(float(jnp.mean(1 - (1 - first) ** 5)), abs=0.02)
    shown = guessing.play(th, beliefs, jax.random.key(1), turns=5)
    assert float(shown.right.any(1).mean()) > solved + 0.1


def test_returns_of_episodes_by_hand():
    answers = jnp.array([[1, 1, 0], [1, 2, 3], [0, 9, 9]])
    taken = jnp.array([[1, 1, 1], [1, 1, 1], [1, 0, 0]], bool)
    right = taken & (answers == 0)
    episodes = guessing.Episodes(Trajectory(None, answers, taken), None, right)
    kind = guessing.Kind(decay=0.5, repetition=0.6)
    # 1/4 - 0.6 (1 - 2/3), 0, 1
    np.testing.assert_allclose(guessing.returns_of(episodes, kind), [0.05, 0.0, 1.0], rtol=1e-5)


def test_one_step_of_single_turn_training_sharpens():
    train = jax.jit(partial(guessing.train, CONFIG, turns=1))
    params = train(jax.random.key(0), guessing.Kind())
    assert float(params[20, 0]) > 0.3
    np.testing.assert_array_equal(params[:, 1], 0.0)


def test_trainings_and_their_shapes():
    assert {name: each[:2] for name, each in guessing.kinds(CONFIG).items()} == {
        "single turn": (1, 1),
        "feedback hidden": (5, 1),
        "UFO": (5, 1),
        "UFO, long": (10, 1),
        "decay": (5, 1),
        "decay and repetition": (5, 1),
        "groups": (5, 16),
        "widest groups": (5, 16),
        "decay 0.3": (5, 1),
        "decay 0.7": (5, 1),
        "decay 0.9": (5, 1),
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the toy size."""
    out = tmp_path_factory.mktemp("ufo")
    with open_run(out, slug="ufo", config=TOY) as job:
        return out, run.run(TOY, job)


@pytest.mark.long
def test_a_small_run_has_its_claims_numbers_and_figures(finished):
    out, outcome = finished
    assert len(outcome.claims) == len(claims.all_claims(CONFIG, good()))
    numbers = [float(claim.value) for claim in outcome.claims]
    assert np.isfinite([*numbers, *jax.tree.leaves(dict(outcome.numbers))]).all()
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 3
    kept = dict(np.load(next((out / "data").glob("UFO.npz"))))
    assert kept["params"].shape == (2, 7, 2)
    assert kept["points/succ"].shape == (2, 3, 3)
    assert outcome.table is not None
    assert [row[0] for row in outcome.table.rows] == ["before", *guessing.kinds(TOY)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
        ({"decay": 1.5}, r"decay must be in \[0, 1\]"),
        ({"repetition": -1.0}, r"repetition must be in \[0, inf\)"),
        ({"long_turns": 11}, "candidates must be as many as turns"),
        ({"group": 15}, "episodes must be a multiple of group"),
        ({"steps": 5}, "steps must be at least points - 1"),
        ({"share": 0.0}, r"share must be in \(0, 1\]"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)
