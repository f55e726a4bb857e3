"""The rlhs experiment in a small size, its market by hand, and what breaks each claim."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.rlhs import chains, claims, config, learners, market, run
from rlhf_jax.training import open_run

TINY = config.Config(
    num_seeds=2, pairs=200, steps=20, iterations=5, prompts=32, chains=2, chain_pairs=100
)
SIZES = config.Config()
NAMES = [name for name, _, _ in learners.label_kinds(SIZES)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run: its folder and its outcome."""
    out = tmp_path_factory.mktemp("rlhs")
    with open_run(out, slug="rlhs", config=TINY) as job:
        return out, run.run(TINY, job)


@pytest.mark.long
def test_a_small_run_has_its_claims_numbers_and_figures(finished):
    out, outcome = finished
    assert len(outcome.claims) == len(claims.all_claims(SIZES, *good()))
    numbers = [float(claim.value) for claim in outcome.claims]
    assert np.isfinite([*numbers, *jax.tree.leaves(outcome.numbers)]).all()
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 3
    kept = dict(np.load(out / "data" / "market.npz"))
    assert kept["dpo"].shape == (2, 11, 21, 3)
    assert kept["ppo"].shape == (2, 11, 6, 3)
    before = [0.142857, 0.7375, 0.5625]  # of the reference, see below
    np.testing.assert_allclose(kept["dpo"][:, :, 0], np.broadcast_to(before, (2, 11, 3)), atol=1e-5)
    # A model with q = 1 is the truth, imagined once or twice.
    last = NAMES.index("hindsight, q = 1"), NAMES.index("one imagined world, q = 1")
    np.testing.assert_allclose(kept["dpo"][:, last[0]], kept["dpo"][:, last[1]], atol=1e-6)


def ending(utility, satisfaction, count=5):
    """[seeds, times, 3] of a policy that starts at the reference."""
    noise = 1e-3 * np.random.default_rng(0).standard_normal((count, 1, 3))
    return np.array([[0.143, 0.738, 0.56], [utility, satisfaction, 0.8]]) + noise


def good():
    """Arrays of a run in which everything that is claimed is so."""
    by_accuracy = [(-0.2, 0.8), (0.4, 0.58), (0.595, 0.6), (0.6, 0.602), (0.601, 0.603)]
    rows = [ending(-0.3, 1.0), *(ending(*each) for each in by_accuracy * 2)]
    steps, noise = np.array(SIZES.horizons), np.random.default_rng(1).normal(size=(5, 1))
    mean = 1.7 * SIZES.gamma**steps * (1 + 1e-3 * noise)
    accuracy = np.array([0.5, 0.55, 0.6, 0.7, 0.74]) + 1e-3 * noise
    found = np.stack(rows, axis=1)
    about = {"mean": mean, "largest": 3 * mean, "accuracy": accuracy}
    about["blind accuracy"] = 0.5 + 1e-3 * noise + 0 * accuracy
    return {"dpo": found, "ppo": found}, about


def test_everything_holds_where_it_should():
    assert {claim.verdict for claim in claims.all_claims(SIZES, *good())} == {"holds"}


@pytest.mark.parametrize("algorithm", ["dpo", "ppo"])
@pytest.mark.parametrize(
    ("labels", "end", "broken"),
    [
        ("foresight", (0.3, 1.0), "ends below the reference's utility"),
        ("foresight", (-0.3, 0.9), "labels by foresight: satisfaction"),
        ("foresight", (0.1, 1.0), "satisfaction minus utility"),
        ("hindsight, q = 0.75", (0.5, 0.505), "lowest utility"),
        ("hindsight, q = 0.9", (0.6, 0.7), "largest satisfaction minus utility"),
        ("hindsight, q = 0.6", (-0.3, 0.58), "smallest step"),
    ],
)
def test_what_breaks_a_claim_of_the_market(algorithm, labels, end, broken):
    runs, about = good()
    changed = runs[algorithm].copy()
    changed[:, NAMES.index(labels)] = ending(*end)
    made = claims.all_claims(SIZES, runs | {algorithm: changed}, about)
    fallen = [claim.statement for claim in made if not claim.holds]
    assert any(broken in each and claims.NAMES[algorithm] in each for each in fallen)


@pytest.mark.parametrize(
    ("name", "change", "broken"),
    [
        ("mean", lambda x: x ** (1.1), "Slope of the log mean"),
        ("mean", lambda x: x**0.9, "Slope of the log mean"),
        ("largest", lambda x: 3 * x, "as a share of"),
        ("accuracy", lambda x: x + 0.1, "by foresight, beliefs"),
        ("accuracy", lambda x: x[:, :1] + 0 * x, "minus that by foresight"),
        ("blind accuracy", lambda x: x + 0.1, "minus that by foresight"),
    ],
)
def test_what_breaks_a_claim_of_the_chains(name, change, broken):
    runs, about = good()
    made = claims.all_claims(SIZES, runs, about | {name: change(about[name])})
    assert any(broken in claim.statement for claim in made if not claim.holds)


def test_the_market_by_hand():
    """Goods cost 3, 2 and 1. In state 011 (the second and third are right, number 6):"""
    state = np.array([False, True, True])
    worth = {
        (0, 0, 0): 0.0,  # nothing is bought
        (0, 0, 1): 1.0,  # the cheapest right one
        (0, 1, 0): 0.5,  # right, for 2 where 1 was enough
        (1, 0, 0): -1.0,  # lacks the feature
        (1, 1, 1): 1.0,  # of all that are said to have it, the cheapest
        (1, 1, 0): 0.5,
    }
    for message, utility in worth.items():
        assert market.true_utility(state, np.array(message, bool)) == utility
    found = market.open_market()
    assert found.utility[6, 4] == 1.0  # message 001 is number 4
    assert found.utility[6, 2] == 0.5
    assert found.satisfaction[6].tolist() == [0.0, *[1.0] * 7]
    assert float(found.prior @ found.utility.max(-1)) == pytest.approx(claims.ORACLE)
    # The truth is told with 1/2 + 1/16; something is claimed unless 000 is said.
    utility, content, true = market.means(found, found.ref_logits)
    assert float(true) == pytest.approx(0.5625)
    assert float(content) == pytest.approx(0.4 * 7 / 16 + 0.6 * 15 / 16)
    assert float(utility) == pytest.approx(1 / 7)


@pytest.mark.long
def test_foresight_sees_claims_and_hindsight_the_state():
    sure = config.Config(pairs=3000, rationality=1000.0)
    world, key = market.open_market(), jax.random.key(0)
    values = {"foresight": world.satisfaction, "hindsight, q = 1": world.utility}
    for name, kind, accuracy in learners.label_kinds(sure)[:6]:
        pairs = learners.labelled_pairs(sure, world, key, jnp.array(kind), jnp.array(accuracy))
        states = pairs.chosen.inputs[:, 0]
        chosen, rejected = (x.actions[:, 0] for x in (pairs.chosen, pairs.rejected))
        if name in values:
            table = values[name]
            assert (table[states, chosen] >= table[states, rejected]).all()
            continue
        right = world.utility[states, chosen] >= world.utility[states, rejected]
        assert not right.all()
        assert right.mean() > (0.5 if accuracy == 0.5 else 0.6)


@pytest.mark.long
def test_counts_are_the_same_pairs():
    world, key = market.open_market(), jax.random.key(1)
    pairs = learners.labelled_pairs(TINY, world, key, jnp.array(learners.OWN), jnp.array(0.9))
    counts = learners.counted(pairs)
    assert counts.weights is not None
    assert counts.weights.shape == (8, 8, 8)
    assert float(counts.weights.sum()) == TINY.pairs
    first = tuple(int(x[0, 0]) for x in (pairs.chosen.inputs, pairs.chosen.actions))
    place = (*first, int(pairs.rejected.actions[0, 0]))
    assert counts.weights[place] >= 1
    assert counts.chosen.inputs[place].tolist() == [place[0]]
    assert counts.chosen.actions[place].tolist() == [place[1]]
    assert counts.rejected.actions[place].tolist() == [place[2]]


def test_a_chain_is_worth_what_its_paths_return():
    chain = chains.draw_chain(SIZES, jax.random.key(0))
    back = chain.utilities + SIZES.gamma * jax.nn.softmax(chain.logits) @ chain.values
    np.testing.assert_allclose(chain.values, back, rtol=1e-5)
    np.testing.assert_allclose(chains.gap_bound(SIZES)[:2], [10.0, 8.0])
    np.testing.assert_array_equal(chains.gaps(jnp.array([[1.0, 4.0]])), [3.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracies": (0.6, 0.75, 1.0)}, r"accuracies must have 0\.5, 0\.75 and 1"),
        ({"accuracies": (0.5, 0.5, 0.75, 1.0)}, "accuracies must ascend"),
        ({"accuracies": (0.5, 0.75, 1.5)}, r"accuracies must be in \[0\.5, 1\]"),
        ({"horizons": (1, 2, 3)}, "horizons must ascend from 0"),
        ({"horizons": (0, 2)}, "horizons must ascend from 0"),
        ({"gamma": 1.0}, r"gamma must be in \(0, 1\)"),
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)


@pytest.mark.parametrize("name", ["default", "quick"])
def test_every_size_is_valid(name):
    assert isinstance(getattr(config, name)(), config.Config)
