"""The randomized_pbrl experiment: its claims, what breaks them, and a small run of all of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.randomized_pbrl import claims as pbrl_claims
from experiments.randomized_pbrl import config as pbrl_config
from experiments.randomized_pbrl import run as pbrl_run
from experiments.randomized_pbrl.tradeoff import rate_claims, rates_study
from rlhf_jax.reports.claims import Claim
from rlhf_jax.training import open_run

CONFIG = pbrl_config.Config(num_seeds=3, rounds=400)
SLOPE = "eps = 0: slope of log mean regret in log t"
GREEDY = "eps = 0: final regret over that of greedy, both truncated"
PLAIN = "eps = 0: final regret over that of greedy, neither truncated"
FEWER = "table, eps = 0.1: queries over those of eps = 0"
COST = "table, eps = 0.1: final regret over that of eps = 0"
COIN = "table, eps = 0.1: final regret over that of questions at random, 10%"
ASKS_LESS = "table: largest change of mean queries from one eps to the next"
PAYS_MORE = "table: smallest change of mean regret from one eps to the next"
STOPS = "table, eps > 0: largest growth of mean queries in the last half of the rounds"
ASKED = {
    (f"table, {SLOPE}", "<=", 0.8),
    (f"table, {GREEDY}", "<=", 0.5),
    (f"table, {PLAIN}", "<=", 0.5),
    (FEWER, "<=", 0.15),
    (COST, "<=", 2.0),
    (COIN, "<", 1.0),
    (ASKS_LESS, "<", 0.0),
    (PAYS_MORE, ">", 0.0),
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
    found["greedy, ties at random/regret"] = 1.2 * seeds * t
    found["greedy, ties at random, no truncation/regret"] = 2.2 * seeds * t
    for rate, factor in ((3, 1.3), (10, 1.0)):
        found[f"random {rate}%/regret"] = factor * seeds * t
        found[f"random {rate}%/queries"] = rate / 100 * seeds * t
    for eps in CONFIG.eps:
        found[f"eps = {eps:g}/regret"] = seeds * 4 * (1 + 5 * eps) * np.sqrt(t)
        found[f"eps = {eps:g}/queries"] = seeds * stopping.get(eps, t)
    found["eps = 0, no truncation/regret"] = found["eps = 0/regret"]
    return found


T = np.arange(1, CONFIG.rounds + 1)
SAMPLED = {
    f"PbTS, eps = {eps:g}/queries": share * T * np.ones((3, 1))
    for eps, share in ((0.0, 0.6), (0.1, 0.3))
}


def rates(regret: tuple = (0.8, 0.7, 0.6), queries: tuple = (0.2, 0.4, 0.6)) -> dict:
    """Final regret and queries that are powers of T, greedy's and the coins' of power 1."""
    times = np.asarray(CONFIG.horizons, float) / CONFIG.horizons[0]
    seeds = np.array([0.9, 1.0, 1.1])[:, None, None]
    linear = seeds * times * np.ones((3, 3, 1))
    return {
        "regret": seeds * 10 * times ** np.array(regret)[:, None],
        "queries": seeds * 5 * times ** np.array(queries)[:, None],
        "greedy/regret": 30 * linear,
        "coins/queries": 20 * linear[:, 0],
    }


B = (0.15, 0.25, 0.35)
RATES = {
    *((f"table, eps = T^-{b:g}: slope of log mean regret in log T", "<=", 1 - b) for b in B),
    *((f"table, eps = T^-{b:g}: slope of log mean queries in log T", "<=", 2 * b) for b in B),
    ("table: slope of regret at b = 0.35 less that at b = 0.15", "<", 0.0),
}


def test_the_claims_on_rates_are_the_exponents_of_the_theorem_and_can_fail():
    claims = rate_claims(CONFIG, rates())
    assert {(claim.statement, claim.op, claim.threshold) for claim in claims} == RATES
    assert [claim.verdict for claim in claims] == ["holds"] * 7
    assert float(claims[0].value) == pytest.approx(0.8)
    steep = rate_claims(CONFIG, rates(regret=(1.0, 1.0, 1.1), queries=(0.5, 0.7, 0.9)))
    assert [claim.verdict for claim in steep] == ["fails"] * 7
    lazy = rates()
    lazy["coins/queries"] = lazy["queries"][:, 0]
    lazy["greedy/regret"] = lazy["regret"]
    assert [claim.verdict for claim in rate_claims(CONFIG, lazy)] == ["undecided"] * 7


@pytest.mark.long
def test_too_little_room_is_named():
    size = {"horizons": (40, 44, 48), "rate_seeds": 2, "rates": (0.99,), "room": 32}
    with pytest.raises(ValueError, match="room must be at least"):
        rates_study(dataclasses.replace(pbrl_config.quick(), **size))


def claims_of(arrays: dict[str, np.ndarray]) -> list[Claim]:
    return pbrl_claims.table_claims(CONFIG, arrays, SAMPLED)


def failed(arrays: dict[str, np.ndarray]) -> set[str]:
    return {claim.statement for claim in claims_of(arrays) if not claim.holds}


@pytest.mark.long
def test_the_claims_have_the_paper_s_thresholds_and_hold_for_its_curves():
    claims = claims_of(curves())
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
    assert failed(always) == {FEWER, ASKS_LESS, STOPS}
    flat = curves()
    flat["eps = 0.3/regret"] = flat["eps = 0.2/regret"]
    assert failed(flat) == {PAYS_MORE}
    costly = curves()
    costly["eps = 0.1/regret"] = 2.5 * costly["eps = 0/regret"]
    assert failed(costly) >= {COST}
    costly = curves()
    costly["random 10%/regret"] = costly["eps = 0.1/regret"]
    assert failed(costly) == {COIN, COST}  # coins cost no more than the rule


@pytest.mark.long
def test_rivals_that_do_as_well_leave_claims_undecided():
    tied = curves()
    tied["greedy, ties at random/regret"] = 0.4 * tied["greedy/regret"]
    tied["greedy, ties at random, no truncation/regret"] = 0.4 * tied["greedy/regret"]
    assert failed(tied) == {f"table, {GREEDY}", f"table, {PLAIN}"}
    reverse = curves()
    for what in ("regret", "queries"):
        rates = [reverse[f"random {rate}%/{what}"] for rate in (3, 10)]
        reverse[f"random 3%/{what}"], reverse[f"random 10%/{what}"] = rates[::-1]
    assert failed(reverse) >= {ASKS_LESS, PAYS_MORE}
    assert {c.kind for c in claims_of(curves()) if c.statement in {FEWER, COST}} == {"ours"}


@pytest.mark.long
def test_worlds_that_disagree_leave_a_claim_undecided():
    """One world of three in which eps = 0 is as bad as greedy: mean share 0.47, but not surely."""
    mixed = curves()
    mixed["eps = 0/regret"] = mixed["eps = 0/regret"].copy()
    mixed["eps = 0/regret"][2] = mixed["greedy/regret"][2]
    claims = {claim.statement: claim for claim in claims_of(mixed)}
    assert float(claims[f"table, {GREEDY}"].value) == pytest.approx((2 * 80 - 8 + 440) / 1200, 0.2)
    assert claims[f"table, {GREEDY}"].verdict == "undecided"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
        ({"rounds": 10}, r"rounds must be in \[32, inf\)"),
        ({"slope": 0.0}, r"slope must be in \(0, inf\), got 0.0"),
        ({"sigma_values": -1.0}, r"sigma_values must be in \[0, inf\)"),
        ({"eps": (0.1, 0.2)}, "eps must rise from 0"),
        ({"rates": (1.5,)}, "rates must be in"),
        ({"exponents": (0.25,)}, "exponents must rise, 2 at least"),
        ({"horizons": (400, 200, 800)}, "horizons must rise, 3 at least"),
        ({"exponents": (0.5, 0.6)}, r"exponents must be in \(0, 0.5\]"),
        ({"room": 3}, r"room must be in \[32, inf\)"),
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
    ours = {each for each in told if "T^-" not in each[0] and "at b =" not in each[0]}
    assert ours == ASKED | ELSEWHERE
    assert len(told - ours) == 2 * len(config.exponents) + 1
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
        "rates",
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
