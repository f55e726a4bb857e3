"""The icpl experiment at a toy size, its searches and its baseline, and claims that can fail."""

from random import Random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.icpl import claims, config, networks, report, run, searches, world
from rlhf_jax.exact.finite_mdp import occupancy
from rlhf_jax.rewards.programs import parse_program, query_count
from rlhf_jax.training import open_run

TOY = config.Config(
    num_seeds=3,
    net_seeds=2,
    size=4,
    hazards=2,
    coins=1,
    horizon=8,
    rounds=3,
    number=4,
    long_rounds=4,
    numbers=(2, 4),
    pairs=(10, 40),
    refits=2,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the toy size."""
    out = tmp_path_factory.mktemp("icpl")
    with open_run(out, slug="icpl", config=TOY) as job:
        return out, run.run(TOY, job)


@pytest.mark.long
def test_a_small_run_has_its_claims_numbers_and_figures(finished):
    out, outcome = finished
    assert len(outcome.claims) == len(claims.all_claims(TOY, good()))
    numbers = [*(float(claim.value) for claim in outcome.claims)]
    assert np.isfinite([*numbers, *jax.tree.leaves(dict(outcome.numbers))]).all()
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 3
    kept = {path.stem: dict(np.load(path)) for path in (out / "data").glob("*.npz")}
    assert set(kept) == {"searches", "networks", "long", "numbers"}
    found = kept["searches"]
    assert (found["queries"][:, -1] == query_count(3, 4)).all()
    for name in report.SEARCHES:
        # All begin with the same programs; a person without noise never loses what was found.
        scores = found[name]
        assert (scores[:, -1] <= found["oracle"] + 1e-9).all()
        if name != searches.NOISY:
            np.testing.assert_allclose(scores[:, 0], found["open fresh"][:, 0])
            assert (np.diff(scores, axis=1) >= 0).all()
    # The long search goes on from the short one.
    np.testing.assert_allclose(kept["long"][searches.ICPL][:, :3], found[searches.ICPL])
    assert kept["networks"]["score"].shape == (2, 2)
    assert kept["networks"]["random"].shape == (2,)


def good():
    """Arrays in which everything holds."""
    rng = np.random.default_rng(0)
    base = np.array([0.3, 0.6, 0.8])
    fresh = base + 0.001 * rng.normal(size=(12, 3))
    low = np.array([0.3, 0.35, 0.4]) + 0.001 * rng.normal(size=(12, 3))
    found = {
        searches.ICPL: fresh,
        "fresh": fresh,
        searches.BEST_ONLY: fresh - 0.05 + 0.001 * rng.normal(size=(12, 3)),
        searches.NOISY: low.copy(),
        searches.OPEN: low.copy(),
        "open fresh": np.tile([0.3, 0.2, 0.1], (12, 1)),
        "queries": np.tile([5, 11, 17], (12, 1)),
        "oracle": np.full(12, 0.82) + 0.001 * rng.normal(size=12),
    }
    long = {searches.ICPL: fresh, searches.OPEN: low}
    scores = np.tile([-0.2, 0.1], (12, 1)) + 0.001 * rng.normal(size=(12, 2))
    return {
        "searches": found,
        "networks": {"score": scores, "random": scores[:, 0] - 1.0},
        "long": long,
    }


def verdicts(stages):
    return [claim.verdict for claim in claims.all_claims(TOY, stages)]


def test_every_claim_holds_and_each_can_fail():
    assert verdicts(good()) == ["holds"] * 11
    icpl = searches.ICPL

    def spoil(change):
        stages = good()
        change(stages)
        return {n for n, verdict in enumerate(verdicts(stages)) if verdict != "holds"}

    assert spoil(lambda s: s["searches"][searches.OPEN].__iadd__(0.5)) == {0, 1, 2, 4}
    assert 3 in spoil(lambda s: s["searches"].update(fresh=s["searches"]["fresh"][:, ::-1]))
    assert 4 in spoil(lambda s: s["searches"]["oracle"].__imul__(2))
    assert spoil(lambda s: s["networks"]["score"].__iadd__(0.9)) == {5, 6}
    assert spoil(lambda s: s["searches"][searches.BEST_ONLY].__iadd__(0.2)) == {7}
    assert spoil(lambda s: s["long"].update({icpl: good()["long"][searches.OPEN] - 0.1})) == {8}


def test_no_baseline_is_a_thing_minus_itself_and_one_that_passes_is_seen():
    for claim in claims.all_claims(TOY, good()):
        assert claim.baseline is not None
        assert "itself" not in claim.baseline[0]
    stages = good()
    stages["networks"]["random"] += 2.0  # better than the fitted one: the claim shows nothing
    assert claims.all_claims(TOY, stages)[-1].verdict != "holds"


def test_only_grids_with_a_way_in_the_first_round_are_in_the_third_claim():
    stages = good()
    stages["searches"][searches.ICPL][:4] = -0.2
    third = claims.all_claims(TOY, stages)[2]
    assert "on the 8 grids" in third.statement
    np.testing.assert_allclose(float(third.value), 0.4, atol=0.01)


def test_the_size_of_the_pairs_that_is_compared():
    assert claims.pairs_place(config.default()) == 1
    assert claims.pairs_place(config.quick()) == 1
    assert claims.pairs_place(TOY) == 1


def test_rounds_within_a_number_of_comparisons():
    assert query_count(*searches.BUDGET) == 49
    assert [searches.rounds_within(49, k) for k in (2, 4, 6, 10, 100)] == [25, 8, 5, 2, 1]
    assert query_count(8, 4) == 47
    assert query_count(9, 4) > 49


@pytest.mark.long
def test_a_program_is_worth_what_its_policy_scores():
    with jax.enable_x64(True):
        grid = world.draw_grid(TOY, 0)
        sources = ["-hazard * 0.3 - 0.01 * (1 - goal)", "dist", "exp(-dist / 0.2) - 3 * hazard"]
        programs = [parse_program(source, world.VARIABLES) for source in sources]
        near, away, good_one = world.scores_of(grid, programs)
        best = float(world.best_score(grid))
        assert away < near <= best + 1e-12
        assert away < good_one <= best + 1e-12
        np.testing.assert_allclose(world.scorer(grid)(programs), [near, away, good_one])
    assert grid.features.keys() == set(world.VARIABLES)
    other = world.draw_grid(TOY, 1)
    assert not np.allclose(other.features["hazard"], grid.features["hazard"])


def test_a_noisy_person_decides_by_what_was_seen():
    def score(programs):
        return np.arange(len(programs), dtype=float)

    sure = searches.search(score, Random("a"), number=4, rounds=1)
    assert sure.rounds[0].best == 3
    assert sure.rounds[0].worst == 0
    picked = {
        searches.search(score, Random(f"{n}"), number=4, rounds=1, noise=9.0).rounds[0].best
        for n in range(30)
    }
    assert picked == {0, 1, 2, 3}


def test_a_fit_of_a_reward_by_hand():
    """One comparison d = 1, precision p: p w = sigmoid(-w), so w = 1 at p = 1 / (1 + e)."""
    with jax.enable_x64(True):
        p = 1 / (1 + np.e)
        differences = jnp.array([[1.0, 0.0], [5.0, 5.0]])
        used = jnp.array([True, False])
        found = networks.fit_reward(differences, used, precision=p)
        np.testing.assert_allclose(found, [1.0, 0.0], atol=1e-8)


def test_collected_visits_have_the_law_of_the_policy():
    with jax.enable_x64(True):
        grid = world.draw_grid(TOY, 0)
        weights = grid.features["goal"][:, 0]
        visits, scores = networks.collect(
            grid, weights, jax.random.key(0), count=20_000, random_share=0.5
        )
        greedy = jnp.exp(world.solve_reward(grid, networks.wide(weights)).logps)
        logps = jnp.log(0.5 * greedy + 0.1)
        law = occupancy(grid.mdp, logps)
        # After each action: without the first state, with the one after the last action.
        joint = law[-1][:, None] * jnp.exp(logps[-1])
        last = jnp.einsum("sa,sat->t", joint, grid.mdp.transitions[-1])
        wanted = law[1:].sum(0) + last
        np.testing.assert_allclose(visits.mean(0), wanted, atol=0.08)
        np.testing.assert_allclose(visits.sum(1), TOY.horizon)
        hazards = wanted @ grid.features["hazard"][:, 0]
        score = last[-1] - 0.3 * hazards - 0.01 * (TOY.horizon - wanted[-1])
        np.testing.assert_allclose(scores.mean(), score, atol=0.02)


def test_pairs_teach_a_reward_of_cells():
    with jax.enable_x64(True):
        grid = world.draw_grid(TOY, 0)
        scores = [
            float(networks.network_score(TOY, pairs, grid, jax.random.key(n)))
            for pairs in (4, 400)
            for n in range(3)
        ]
        assert np.mean(scores[3:]) > np.mean(scores[:3])
        assert max(scores) <= float(world.best_score(grid)) + 1e-9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hazards": 40}, "hazards must leave room on 34 cells with 3 coins"),
        ({"net_seeds": 100}, "net_seeds must be at most 40"),
        ({"long_rounds": 5}, "long_rounds must be above 5"),
        ({"pairs": (49,)}, "pairs must rise, two sizes or more"),
        ({"numbers": (6, 2)}, "numbers must rise"),
        ({"number": 1}, r"number must be in \[2, 100\]"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)


@pytest.mark.parametrize("name", ["default", "quick"])
def test_every_size_is_valid(name):
    assert isinstance(getattr(config, name)(), config.Config)
