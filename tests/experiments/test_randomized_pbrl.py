"""The randomized_pbrl experiment: its claims, what breaks them, and a small run of all of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.randomized_pbrl import claims as pbrl_claims
from experiments.randomized_pbrl import config as pbrl_config
from experiments.randomized_pbrl import growth_claims, rates
from experiments.randomized_pbrl import run as pbrl_run
from rlhf_jax.training import open_run

CONFIG = pbrl_config.Config(num_seeds=3, rounds=400)
SLOPE = "eps = 0: slope of log mean regret in log t"
GREEDY = "eps = 0: final regret over that of greedy, both truncated"
PLAIN = "eps = 0: final regret over that of greedy, neither truncated"
FEWER = "table, eps = 0.1: queries over those of eps = 0"
COST = "table, eps = 0.1: final regret over that of eps = 0"
COIN = "table, eps = 0.1: final regret over that of questions at random, 10%"
STOPS = "table, eps > 0: largest growth of mean queries in the last half of the rounds"
ASKED = {
    (f"table, {SLOPE}", "<=", 0.8),
    (f"table, {GREEDY}", "<=", 0.5),
    (f"table, {PLAIN}", "<=", 0.5),
    (FEWER, "<=", 0.15),
    (COST, "<=", 2.0),
    (COIN, "<", 1.0),
    (STOPS, "<=", 0.15),
}
ELSEWHERE = {
    (f"linear, {SLOPE}", "<=", 0.8),
    (f"linear, {GREEDY}", "<=", 0.5),
    (f"linear, {PLAIN}", "<=", 0.5),
    (f"table, PbTS, {SLOPE}", "<=", 0.8),
    (f"table, PbTS, {GREEDY}", "<=", 0.5),
}


def curves() -> dict[str, np.ndarray]:
    """Curves as the paper has them: regret of slope 1/2, greedy's linear, queries that stop."""
    t = np.arange(1, CONFIG.rounds + 1)
    seeds = np.array([[0.9], [1.0], [1.1]])
    stopping = {eps: 60 * (1 - np.exp(-t / 20)) * 0.1 / eps for eps in CONFIG.eps[1:]}
    found = {"greedy/regret": seeds * t, "greedy/queries": 0.5 * seeds * t}
    found["greedy, no truncation/regret"] = 2 * seeds * t
    for name in ("greedy, ties at random", "greedy, ties at random, no truncation"):
        found[f"{name}/regret"] = 2 * seeds * t
    found["random 10%/regret"] = seeds * t
    for eps in CONFIG.eps:
        found[f"eps = {eps:g}/regret"] = seeds * 4 * (1 + 5 * eps) * np.sqrt(t)
        found[f"eps = {eps:g}/queries"] = seeds * stopping.get(eps, t)
    found["eps = 0.3/regret"] = 2 * seeds * t
    found["eps = 0, no truncation/regret"] = found["eps = 0/regret"]
    return found


def failed(arrays: dict[str, np.ndarray]) -> set[str]:
    return {
        claim.statement for claim in pbrl_claims.table_claims(CONFIG, arrays) if not claim.holds
    }


@pytest.mark.long
def test_the_claims_have_the_paper_s_thresholds_and_hold_for_its_curves():
    claims = pbrl_claims.table_claims(CONFIG, curves())
    assert {(claim.statement, claim.op, claim.threshold) for claim in claims} == ASKED
    assert failed(curves()) == set()
    assert float(claims[0].value) == pytest.approx(0.5, abs=1e-3)
    assert float(claims[1].value) == pytest.approx(80 / 400)


@pytest.mark.long
def test_methods_that_do_not_explore_or_do_not_stop_asking_fail():
    greedy = curves()
    greedy["eps = 0/regret"] = greedy["greedy/regret"]
    assert failed(greedy) >= {f"table, {SLOPE}", f"table, {GREEDY}"}
    greedy = curves()
    greedy["eps = 0, no truncation/regret"] = greedy["greedy, no truncation/regret"]
    assert failed(greedy) == {f"table, {PLAIN}"}
    always = curves()
    always["eps = 0.1/queries"] = always["eps = 0/queries"]
    assert failed(always) == {FEWER, STOPS}
    costly = curves()
    costly["eps = 0.1/regret"] = 2.5 * costly["eps = 0/regret"]
    assert failed(costly) >= {COST}
    costly = curves()
    costly["random 10%/regret"] = costly["eps = 0.1/regret"]
    assert failed(costly) == {COST, COIN}  # a coin that is as good is no baseline


@pytest.mark.long
def test_worlds_that_disagree_leave_a_claim_undecided():
    """One world of three in which eps = 0 is as bad as greedy: mean share 0.47, but not surely."""
    mixed = curves()
    mixed["eps = 0/regret"] = mixed["eps = 0/regret"].copy()
    mixed["eps = 0/regret"][2] = mixed["greedy/regret"][2]
    claims = {claim.statement: claim for claim in pbrl_claims.table_claims(CONFIG, mixed)}
    assert float(claims[f"table, {GREEDY}"].value) == pytest.approx((2 * 80 - 8 + 440) / 1200, 0.2)
    assert claims[f"table, {GREEDY}"].verdict == "undecided"


GROWTH = pbrl_config.GrowthConfig(num_worlds=3)


def powers(name: str, x, regret: float, queries: float) -> dict[str, np.ndarray]:
    """[3 worlds, 2 scales, X] with these exponents at the worst scale; the other has half of it."""
    worlds = np.array([0.9, 1.0, 1.1])[:, None, None] * np.array([1.0, 0.5])[:, None]
    x = np.asarray(x, float)
    return {f"{name}/regret": worlds * x**regret, f"{name}/queries": worlds * x**queries}


def grown() -> dict[str, np.ndarray]:
    """Exponents as the theorem has them; rivals pay twice and four times as much."""
    early = GROWTH.rounds[:4]
    found = powers(rates.ALWAYS, early, 0.5, 1.0)
    for b in GROWTH.exponents:
        own = powers(f"b = {b:g}", GROWTH.rounds, 1 - b - 0.01, 2 * b)
        found |= own | powers(rates.fixed(GROWTH, b), early, 1.0, 0.0)
        for name, times in zip(rates.RIVALS, (4, 2), strict=True):
            found[f"{name}, b = {b:g}/regret"] = times * own[f"b = {b:g}/regret"][..., 3:4]
            found[f"{name}, b = {b:g}/queries"] = own[f"b = {b:g}/queries"][..., 3:4]
    return found


def missed(found: dict[str, np.ndarray]) -> list[str]:
    config = dataclasses.replace(CONFIG, growth=GROWTH)
    claims = growth_claims.trade_claims(config, found)
    return [claim.statement.split(" of the worst")[0] for claim in claims if not claim.holds]


def test_exponents_hold_for_the_theorem_s_and_fail_for_others():
    assert missed(grown()) == []
    slow = grown() | powers("b = 0.25", GROWTH.rounds, 0.9, 0.5)
    assert missed(slow)[0] == "b = 0.25: exponent in T of regret"
    curious = grown() | powers("b = 0.25", GROWTH.rounds, 0.7, 0.9)
    assert missed(curious)[0] == "b = 0.25: exponent in T of queries"
    # Where eps of the shortest T is as good at every T, the theorem's eps shows nothing.
    still = grown() | powers(rates.fixed(GROWTH, 0.25), GROWTH.rounds[:4], 0.6, 0.0)
    assert missed(still) == ["b = 0.25: exponent in T of regret"]
    matched = grown()
    matched["asks first, b = 0.25/regret"] = matched["b = 0.25/regret"][..., 3:4]
    assert missed(matched) == ["b = 0.25, T = 1600: regret"]


def test_the_exponent_in_d_needs_a_baseline_that_shares_nothing():
    config = dataclasses.replace(CONFIG, growth=GROWTH)
    d = [4, 8, 16, 32]
    found = powers("rule", d, 0.5, 0.9) | powers(rates.ALONE, d, 0.5, 2.0)
    (claim,) = growth_claims.size_claims(config, found)
    assert claim.holds
    assert float(claim.value) == pytest.approx(0.9)
    found |= powers(rates.ALONE, d, 0.5, 0.9)
    assert not growth_claims.size_claims(config, found)[0].holds
    rows = growth_claims.growth_rows(config, grown(), found | powers(rates.ALWAYS, d, 0.5, 0.0))
    assert len(rows) == 3 + 4 + 3 + 6
    # By hand: log log(1 + T 4 / 6) at T = 200 and 6,400 are 1.59 and 2.12, 3.47 apart in log T.
    assert growth_claims.log_exponent(GROWTH) == pytest.approx((2.123 - 1.592) / 3.466, abs=0.01)


def test_a_table_has_no_more_different_comparisons_than_there_is_room_for():
    """All pairs of two-step trajectories of 2 states and 2 actions that start in state 0."""
    kind = GROWTH.world(2)
    one_hot = np.eye(6)
    paths = [one_hot[a] + one_hot[2 + pair] for a in range(2) for pair in range(4)]
    different = {tuple(one - other) for one in paths for other in paths}
    assert len(different) == rates.room_of(kind, 10_000) == 39
    assert rates.room_of(kind, 20) == 20


def test_rates_draw_as_widely_as_the_teacher_s_noise_allows():
    """Slope 4: a comparison at p = 1/2 adds 4 x x^T to the information."""
    found = rates.posterior(CONFIG, 39)
    assert (found.sigma_reward, found.fit_ridge, found.rounds) == (0.5, 4.0, 39)
    # eps = 2 / sqrt(pi) sigma norm.
    assert rates.rule_of(CONFIG, 0.1).threshold == pytest.approx(0.1 * np.sqrt(np.pi))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"exponents": (0.2, 0.1)}, "exponents must rise"),
        ({"exponents": (0.1, 0.5)}, r"exponents must be in \(0, 0.5\)"),
        ({"base": 200}, "base must be among rounds"),
        ({"sizes": (4,)}, "sizes must rise, two at least"),
        ({"scales": (2.0,)}, r"scales must be in \(0, 1\]"),
    ],
)
def test_growth_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        pbrl_config.GrowthConfig(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
        ({"rounds": 10}, r"rounds must be in \[32, inf\)"),
        ({"slope": 0.0}, r"slope must be in \(0, inf\), got 0.0"),
        ({"sigma_values": -1.0}, r"sigma_values must be in \[0, inf\)"),
        ({"eps": (0.1, 0.2)}, "eps must rise from 0"),
        ({"rates": (1.5,)}, "rates must be in"),
        ({"points": 2}, r"points must be in \[8, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        pbrl_config.Config(**change)
    with pytest.raises(ValueError, match="low must be in"):
        dataclasses.replace(CONFIG.table, low=2.0)


@pytest.mark.parametrize("name", ["default", "quick"])
def test_every_size_is_valid(name):
    assert isinstance(getattr(pbrl_config, name)(), pbrl_config.Config)


@pytest.mark.long
def test_a_small_run_reports_every_claim_and_is_reproducible(tmp_path):
    config = dataclasses.replace(pbrl_config.quick(), rounds=64)
    with open_run(tmp_path, slug="randomized_pbrl", config=config) as job:
        outcome = pbrl_run.run(config, job)
    told = {(claim.statement, claim.op, claim.threshold) for claim in outcome.claims}
    assert told > ASKED | ELSEWHERE
    assert len(told) == len(ASKED | ELSEWHERE) + 3 * 2 + 1
    assert np.isfinite([float(claim.value) for claim in outcome.claims]).all()
    assert np.isfinite(jax.tree.leaves(dict(outcome.numbers))).all()
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "http://" not in page
    assert page.count("https://") == page.count("https://arxiv.org/abs/")
    kept = dict(np.load(tmp_path / "data" / "table.npz"))
    assert {path.stem for path in (tmp_path / "data").glob("*.npz")} == {
        "table",
        "linear",
        "sampling",
        "trade",
        "sizes",
    }
    for name, values in kept.items():
        assert values.shape == (3, 64)
        assert (np.diff(values, axis=-1) >= -1e-12).all(), name
    # One method on its own, from the public function.
    with jax.enable_x64(True):
        method = pbrl_run.methods(config)["eps = 0.1"]
        run = jax.jit(lambda keys: pbrl_run.regret_curves(config, config.table, keys, method))
        regrets, queries = run(pbrl_run.seeds(config)[:2])
    np.testing.assert_allclose(regrets, kept["eps = 0.1/regret"][:2], atol=1e-9)
    np.testing.assert_array_equal(jnp.asarray(queries), kept["eps = 0.1/queries"][:2])
