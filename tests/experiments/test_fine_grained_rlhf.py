"""The fine_grained_rlhf experiment: its claims, what breaks them, its worlds, one small run."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.fine_grained_rlhf import answers, density, facts
from experiments.fine_grained_rlhf import claims as judging
from experiments.fine_grained_rlhf import config as configs
from experiments.fine_grained_rlhf import run as experiment
from rlhf_jax.ops import token_rewards
from rlhf_jax.training import UserError, open_run

CONFIG = configs.default()
TOY = configs.Config(
    num_seeds=2,
    density=configs.Density(lengths=(2, 8), updates=25),
    facts=configs.Facts(sweep=configs.CLAIMED, updates=6, batch=16, last=2),
)
DENSITY_ASKED = [(">=", 2.0), (">=", 1.0), (">", 0)]
FACTS_ASKED = [
    *((">", 0), (">", 0), ("<", 0), (">", 0), ("<=", 0.6)),
    *((">", 0), ("<", 0), (">", 0)),
]
SPEEDS = np.array([[[11.0] * 3, [14] * 3, [17] * 3], [[12] * 3, [20] * 3, [45] * 3]])


def asked(claims):
    return [(claim.op, claim.threshold) for claim in claims]


def verdicts(claims):
    return [claim.verdict for claim in claims]


def test_the_claims_of_density():
    claims = judging.density_claims(CONFIG, SPEEDS)
    assert asked(claims) == DENSITY_ASKED
    assert verdicts(claims) == ["holds", "holds", "holds"]


def test_arms_that_are_alike_and_one_seed_that_loses_fail():
    alike = np.stack([SPEEDS[1], SPEEDS[1]])
    assert verdicts(judging.density_claims(CONFIG, alike)) == ["fails", "fails", "fails"]
    loses = SPEEDS.copy()
    loses[0, -1, 0] = 45
    assert verdicts(judging.density_claims(CONFIG, loses))[1] == "fails"
    # As large a gap at every length says nothing of the length.
    always = SPEEDS.copy()
    always[1] = 3 * always[0]
    assert verdicts(judging.density_claims(CONFIG, always)) == ["undecided", "holds", "fails"]


def test_updates_to_the_goal():
    good = np.array([[0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.5, 0.5]])
    # Means of two: 0.5, 1, 1; the second of them has seen three batches.
    np.testing.assert_array_equal(density.updates_to(good, goal=0.9, window=2), [3, np.nan])
    arms = np.stack([good, good])[:, None]
    size = configs.Density(lengths=(2, 8), updates=4, window=2)
    found = experiment.reached(configs.Config(density=size), arms)
    np.testing.assert_array_equal(found, [[[3, 4]], [[3, 4]]])


ENDS = {
    "full": (0.56, 0.99, 0.99, 7.2, 2.8),
    "without relevance": (0.32, 0.99, 0.95, 12.0, 3.0),
    "without factuality": (0.68, 0.98, 0.95, 5.8, 1.2),
    "without completeness": (0.57, 0.99, 0.97, 7.1, 2.0),
    "whole answer": (0.56, 0.99, 0.99, 7.2, 2.8),
    "w1 = 0.1": (0.33, 0.99, 0.97, 12.0, 3.0),
    "w1 = 0.3": (0.56, 0.99, 0.99, 7.2, 2.8),
    "w1 = 2": (1.0, 1.0, 0.5, 3.0, 6.7),
}


def runs(**changes):
    """[3 seeds, 40 updates, measures] that rise to their ends in 10 updates, or 20 at the end."""
    size = configs.Facts(sweep=configs.CLAIMED)
    noise = 0.001 * np.random.default_rng(0).standard_normal((3, 1, 1))
    found = {}
    for name in facts.settings(size):
        rise = np.minimum(np.arange(40) / (20 if name == "whole answer" else 10), 1)
        found[name] = rise[:, None] * np.array(ENDS[name]) + noise
    return configs.Config(num_seeds=3, facts=size), found | changes


def test_the_claims_of_facts():
    claims = judging.facts_claims(*runs())
    assert asked(claims) == FACTS_ASKED
    assert verdicts(claims) == ["holds"] * 8


def test_settings_that_change_nothing_fail():
    config, found = runs()
    claims = judging.facts_claims(config, dict.fromkeys(found, found["full"]))
    assert verdicts(claims) == ["fails"] * 8


def test_answers_by_their_policies():
    """A policy that says core fact 1, then an empty segment, then stops."""
    logits = jnp.full((64, 9), -1e9).at[0, 1].set(0.0).at[1, facts.STOP].set(0.0)
    trajectory, relevant, coverage = facts.draw_answers(jax.random.key(0), logits, batch=3)
    np.testing.assert_array_equal(trajectory.mask.sum(-1), [2, 2, 2])
    np.testing.assert_array_equal(trajectory.actions[:, :2], [[1, 0]] * 3)
    np.testing.assert_array_equal(relevant[:, 0], [True] * 3)
    np.testing.assert_allclose(coverage, [1 / 6] * 3)
    placed = token_rewards(
        facts.heads(trajectory, relevant, coverage),
        {"relevance": 1.0, "factuality": 2.0, "completeness": 3.0},
        length=facts.MOST,
    )
    # 1 + 2 / 2 for a relevant fact; 3 (1/6 - 1/2) / 0.2 = -5 at STOP, which is no segment.
    np.testing.assert_allclose(placed[0, :3], [2.0, -5.0, 0.0], atol=1e-5)


def test_a_fact_is_relevant_once_and_what_is_empty_never():
    again = jnp.full((64, 9), -1e9).at[:, 1].set(0.0)
    trajectory, relevant, coverage = facts.draw_answers(jax.random.key(0), again, batch=2)
    np.testing.assert_array_equal(relevant, [[True] + [False] * 11] * 2)
    assert bool(trajectory.mask.all())  # cut at twelve
    empty = jnp.full((64, 9), -1e9).at[:, facts.EMPTY].set(0.0)
    _, relevant, coverage = facts.draw_answers(jax.random.key(0), empty, batch=2)
    assert not relevant.any()
    assert not coverage.any()


@pytest.mark.long
def test_a_small_run(tmp_path):
    with open_run(tmp_path, slug="fine_grained_rlhf", config=TOY) as job:
        outcome = experiment.run(TOY, job)
    assert asked(outcome.claims) == DENSITY_ASKED + FACTS_ASKED
    assert np.isfinite(jax.tree.leaves(dict(outcome.numbers))).all()
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    kept = dict(np.load(tmp_path / "data" / "density.npz"))
    assert kept["good"].shape == (2, 2, 2, 25)
    # Half are good at first, and both arms begin with the same answers.
    np.testing.assert_allclose(kept["good"][..., 0].mean(), 0.5, atol=0.1)
    np.testing.assert_array_equal(kept["good"][0, ..., 0], kept["good"][1, ..., 0])
    assert (kept["good"][..., -1] > 0.8).all()


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        (configs.Density, {"lengths": (4, 2)}, "lengths must rise"),
        (configs.Density, {"tokens": 5}, "tokens must be even"),
        (configs.Density, {"window": 200}, "window must be at most updates"),
        (configs.Density, {"goal": 1.5}, r"goal must be in \(0, 1\]"),
        (configs.Facts, {"sweep": (0.1, 2.0)}, "sweep must rise and hold"),
        (configs.Facts, {"last": 400}, "last must be at most updates"),
        (configs.Facts, {"beta": -1.0}, r"beta must be in \[0, inf\)"),
        (configs.Answers, {"folds": 1}, r"folds must be in \[2, inf\)"),
        (configs.Answers, {"d_model": 6}, "d_model must be a multiple of 4"),
        (configs.Config, {"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
    ],
)
def test_values_out_of_range_are_named(make, change, message):
    with pytest.raises(ValueError, match=message):
        make(**change)


@pytest.mark.parametrize("name", ["default", "quick"])
def test_every_size_is_valid(name):
    assert isinstance(getattr(configs, name)(), configs.Config)


# ---- Marked answers.


def held_of(scores):
    """One head on two answers of three segments, one of them not read: errors at 1 of 0, 0 of 1."""
    free, mask = np.array([[1.0, 0, 1], [0, 1, 0]]), np.array([[1.0, 1, 1], [1, 1, 0]])
    rivals = dict.fromkeys(answers.RIVALS, np.array([[1.0, 1, 1], [1, 1, 1]]))
    return {"mask": mask, "free": free, "common": np.ones((2, 3)), **rivals, "head": scores}


def test_areas_and_accuracies_of_segments_by_hand():
    held = held_of(np.array([[2.0, -1, 0.5], [1.0, 3, -9]]))
    # Free: 2, 0.5, 3; marked: -1, 1. Five of the six pairs are in order.
    np.testing.assert_allclose(
        answers.area_of(held["head"], held["free"], held["mask"]), 5 / 6, rtol=1e-6
    )
    assert answers.area_of(held["n-grams"], held["free"], held["mask"]) == 0.5
    # Right but for the error of the second answer; the commoner label is right in three of five.
    given = [answers.right_of(held, name) for name in ("head", "common")]
    np.testing.assert_allclose(answers.lead(*given, held["mask"]), 4 / 5 - 3 / 5)
    table = answers.answers_table({"one": held})
    assert table.rows[0][:5] == ("one", "2 of 5", "0.600", "0.800", "0.600")


@pytest.mark.long
def test_heads_that_know_hold_and_those_that_guess_do_not():
    rng = np.random.default_rng(0)
    free = (rng.random((200, 3)) < 0.6).astype(float)
    mask = np.ones_like(free)
    base = {"mask": mask, "free": free, "common": mask}
    knows = 2 * free - 1 + 0.5 * rng.standard_normal(free.shape)
    names = (answers.RELEVANCE, answers.FACTUALITY)
    found = {name: {**base, "head": knows} for name in names}
    assert verdicts(answers.answers_claims(found)) == ["holds"] * 4
    guesses = {name: {**base, "head": rng.standard_normal(free.shape)} for name in names}
    assert verdicts(answers.answers_claims(guesses)) == ["undecided", "fails"] * 2


def write_answers(path, count):
    """Answers of two sentences; the one with "dull" is irrelevant, with "wrong" unverifiable."""
    rows = []
    for number in range(count):
        parts = ["it is fine here.", ("all dull talk.", "a wrong claim.")[number % 2]]
        parts = parts[:: 1 if number % 3 else -1]
        text, kind = " ".join(parts), ("Irrelevant", "Unverifiable")[number % 2]
        start = text.index(next(x for x in parts if "fine" not in x))
        error = {"error type": kind, "start": start, "end": start + 14}
        row = {"question": f"what of {number}?", "passages": [["it", "it is fine here."]]}
        rows.append(row | {"prediction 1": text, "feedback": {"errors": [error]}})
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.long
def test_a_small_run_on_marked_answers(tmp_path):
    size = configs.Answers(
        folds=2, vocab_size=300, answer_tokens=48, d_model=16, epochs=40, batch=8, rate=0.02
    )
    path = write_answers(tmp_path / "answers.jsonl", 24)
    config = replace(TOY, qa_feedback=path, answers=size)
    with open_run(tmp_path / "run", slug="fine_grained_rlhf", config=config) as job:
        found = answers.held_out(config, job)
    assert found.keys() == answers.HEADS.keys()
    # An off-topic sentence is left out for factuality: one of two in half of the answers.
    assert found["factuality"]["mask"].sum() == 24 + 12
    assert found["Irrelevant"]["mask"].sum() == 48
    assert (found["Irrelevant"]["free"] * found["Irrelevant"]["mask"]).sum() == 36
    for name in ("Irrelevant", "Unverifiable"):
        held = found[name]
        assert answers.area_of(held["head"], held["free"], held["mask"]) > 0.9
        assert answers.area_of(held["n-grams"], held["free"], held["mask"]) == 1.0
        # The fine sentence is word for word in the passage.
        assert answers.area_of(held["passages"], held["free"], held["mask"]) > 0.5


def test_without_the_file_the_rest_runs_and_says_so(tmp_path):
    with (
        open_run(tmp_path / "run", slug="fine_grained_rlhf", config=TOY) as job,
        pytest.raises(UserError, match="a file that --qa-feedback names"),
    ):
        answers.held_out(TOY, job)
    config, found = runs()
    note = experiment.facts_table(config, found).note
    assert "left out: no --qa-feedback FILE" in note
    given = replace(config, qa_feedback=tmp_path / "any.jsonl")
    assert "left out" not in experiment.facts_table(given, found).note
