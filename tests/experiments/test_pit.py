"""The pit experiment in a small size, its measures by hand, and what breaks each claim."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.pit import claims, config, learners, run, world
from rlhf_jax.exact.bandit import regularised_optimum
from rlhf_jax.training import open_run

TINY = config.Config(
    num_seeds=2,
    bits=3,
    pairs=40,
    rounds=3,
    betas=(0.5,),
    trained=config.Trained(steps=100, batches=10, references=2, samples=2),
    course=config.Course(steps=4, references=4, samples=2),
)
SIZES = config.Config()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run: its folder and its outcome."""
    out = tmp_path_factory.mktemp("pit")
    with open_run(out, slug="pit", config=TINY) as job:
        return out, run.run(TINY, job)


@pytest.mark.long
def test_a_small_run_has_its_claims_numbers_and_figures(finished):
    out, outcome = finished
    assert len(outcome.claims) == len(claims.all_claims(SIZES, *good()))
    numbers = [float(claim.value) for claim in outcome.claims]
    assert np.isfinite([*numbers, *jax.tree.leaves(outcome.numbers)]).all()
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 2
    closed = dict(np.load(out / "data" / "closed.npz"))
    rounds = closed[learners.PIT]
    assert rounds.shape == (2, 4)
    for name in (learners.EDITOR, learners.RANDOM, learners.REVERSED, learners.AGAIN):
        np.testing.assert_allclose(closed[name][:, 0], rounds[:, 0])  # all from one policy
    assert (closed["u minus v"] < 1e-9).all()  # two models of one Bradley-Terry likelihood
    assert (closed["five minus four"] > 1e-3).all()
    np.testing.assert_allclose(closed["copied: SFT editor"], 0.85**3)
    trained = dict(np.load(out / "data" / "trained.npz"))
    np.testing.assert_allclose(trained["optimum, exact"][:, 0], 0.0, atol=1e-6)
    np.testing.assert_allclose(trained["optimum, exact"][:, 1], rounds[:, 1], atol=1e-5)
    editor = closed["SFT editor"][:, 1]
    np.testing.assert_allclose(trained["exact"][:, 0, 1], editor, atol=1e-5)
    assert (trained["exact"][:, -1, 0] < 0.5 * trained["exact"][:, 0, 0]).all()


def good():
    """Arrays of a run in which everything that is claimed is so."""
    rng = np.random.default_rng(0)

    def curve(*values):
        return np.array(values) + 1e-3 * rng.standard_normal((5, 1))

    rounds = {
        learners.PIT: curve(-0.4, 2.2, 2.6, 2.8, 2.9, 2.95),
        learners.EDITOR: curve(-0.4, -0.25, -0.14, -0.08, -0.05, -0.03),
        learners.RANDOM: curve(-0.4, -0.3, -0.35, -0.3, -0.3, -0.3),
        learners.REVERSED: curve(-0.4, -2.2, -2.6, -2.8, -2.9, -2.95),
        learners.AGAIN: curve(-0.4, 0.4, 0.8, 1.0, 1.1, 1.2),
        "win rate: PIT": curve(0.93)[:, 0],
        "win rate: SFT editor": curve(0.53)[:, 0],
        "win rate: best of k + 1": curve(0.72)[:, 0],
    }
    table = np.stack([curve(0.6, 0.1, 0.01), curve(-0.2, 2.1, 2.2)], axis=-1)
    optimum = np.stack([np.zeros(5), table[:, -1, 1]], axis=-1)
    return rounds, {"exact": table, "sampled": table, "optimum, sampled": optimum}


def test_everything_holds_where_it_should():
    assert {claim.verdict for claim in claims.all_claims(SIZES, *good())} == {"holds"}


@pytest.mark.parametrize(
    ("name", "change", "broken"),
    [
        (learners.PIT, lambda x: x * [1, 1, 1, 1, 1, 0.9], "rises in each of 5 rounds"),
        (learners.PIT, lambda x: 0.15 * x - 0.34, "more than three times"),
        (learners.PIT, lambda x: np.add(x, [0, 0, 0, 0, 1, 3]), "Largest change of the gain"),
        (learners.PIT, lambda x: np.add(x, [0, -2, -1, 0, 1, 1]), "Gain of rounds 2 to 5"),
        (learners.AGAIN, lambda x: x + 2, "after a round of PIT minus best of 2"),
        (learners.AGAIN, lambda x: x + 2, "after 5 rounds of PIT minus best of 6"),
        ("win rate: PIT", lambda x: x - 0.3, "Win rate over y_0"),
    ],
)
def test_what_breaks_a_claim_of_rounds(name, change, broken):
    rounds, trained = good()
    made = claims.all_claims(SIZES, rounds | {name: change(rounds[name])}, trained)
    assert any(broken in claim.statement for claim in made if not claim.holds)


@pytest.mark.parametrize(
    ("name", "broken"), [("exact", "exact policy gradient"), ("sampled", "sampled PPO")]
)
def test_a_table_that_never_moved_breaks_its_claim(name, broken):
    rounds, trained = good()
    still = np.repeat(trained[name][:, :1], 3, axis=1)
    made = claims.all_claims(SIZES, rounds, trained | {name: still})
    assert [broken in claim.statement for claim in made if not claim.holds] == [True]


def test_strings_features_and_the_editor_by_hand():
    strings = np.asarray(world.bit_strings(2))
    np.testing.assert_array_equal(strings, [[-1, -1], [1, -1], [-1, 1], [1, 1]])
    np.testing.assert_array_equal(world.features(2)[:, 2], [1, -1, -1, 1])
    table = np.exp(world.editor_logps(config.Config(bits=2, flip=0.1)))
    expected = [0.81, 0.09, 0.09, 0.01]  # no bit flips, one of them, both
    np.testing.assert_allclose(table[0], expected, rtol=1e-5)
    np.testing.assert_allclose(table.sum(1), 1.0, rtol=1e-5)


def test_gaps_have_the_answer_minus_the_reference():
    small = config.Config(bits=2)
    found = world.gap_matrix(small, np.array([1.0, 0.0, 0.0]), np.array([0.0, 2.0, 0.0]))
    # reference 0 has second bit -1, answer 1 has first bit 1: 1 - 2 (-1)
    assert float(found[0, 1]) == 3.0
    assert float(found[1, 0]) == -1.0 + 2.0


def test_the_better_of_two_answers_by_hand():
    quality, scores = jnp.array([0.0, 1.0]), jnp.array([1.0, 0.0])
    probs = jnp.array([0.25, 0.75])
    assert np.asarray(learners.beaten(quality)).tolist() == [[0.5, 1.0], [0.0, 0.5]]
    # The scores are wrong: a new 0 replaces the better 1, in 0.75 * 0.25 of the draws.
    wrong = learners.best_of_two_wins(probs, scores, quality)
    assert float(wrong) == pytest.approx(0.5 - 0.5 * 0.1875)
    right = learners.best_of_two_wins(probs, quality, quality)
    assert float(right) == pytest.approx(0.5 + 0.5 * 0.1875)
    law = learners.best_of(probs, scores, 2)
    np.testing.assert_allclose(law, [1 - 0.75**2, 0.75**2], rtol=1e-6)


def test_rounds_are_a_chain_that_nears_its_stationary_law_geometrically():
    """|E q_k - E q| <= delta^k (max q - min q), delta the largest distance of two rows."""
    small = config.Config(bits=3, num_seeds=2)
    u, quality = np.random.default_rng(0).normal(size=(2, 8))
    gaps = world.gap_matrix(small, jnp.asarray(u[:5]), jnp.asarray(u[:5]))
    table = np.exp(regularised_optimum(gaps, world.editor_logps(small), beta=2.0))
    delta = 0.5 * np.abs(table[:, None] - table[None]).sum(-1).max()
    assert delta < 0.95
    law = np.linalg.matrix_power(table.astype(float), 500)[0]
    law = law / law.sum()
    np.testing.assert_allclose(law @ table, law, atol=1e-5)
    now = np.eye(8)[0]
    for k in range(20):
        left = abs(float((now - law) @ quality))
        assert left <= delta**k * np.ptp(quality) + 1e-5
        now = now @ table
    assert left < 0.5 * abs(float((np.eye(8)[0] - law) @ quality))


def test_the_measures_by_hand():
    rounds = np.array([[0.0, 2.0, 3.0, 3.5]])
    np.testing.assert_array_equal(claims.gains(rounds), [[2.0, 1.0, 0.5]])
    np.testing.assert_array_equal(claims.later_share(rounds), [0.75])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 1}, r"bits must be in \[2, 9\]"),
        ({"flip": 0.5}, r"flip must be in \(0, 1/2\)"),
        ({"beta": 0.0}, r"beta must be in \(0, 100\]"),
        ({"betas": (1.0, -1.0)}, r"betas must be in \(0, 100\]"),
        ({"rounds": 1}, r"rounds must be in \[2, 10000\]"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)


@pytest.mark.parametrize("name", ["default", "quick"])
def test_every_size_is_valid(name):
    assert isinstance(getattr(config, name)(), config.Config)
