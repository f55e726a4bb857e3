"""The egpo experiment at toy size: it runs whole, and its claims fail where methods are wrong."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.egpo import claims as egpo_claims
from experiments.egpo import config as egpo_config
from experiments.egpo import run as egpo_run
from experiments.egpo import suite
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.training import open_run

TOY = egpo_config.Config(
    num_seeds=2,
    games=2,
    answers=4,
    updates=(60, 60),
    noise_etas=(0.3, 1.0, 2.0),
    samples=(1, 2, 4),
    noise_updates=40,
    guard_updates=40,
    bias_updates=2000,
    network_updates=20,
    networks=1,
    network_answers=6,
)
CONTRACTION = "EGPO: largest KL over (1 - eta beta) times the last, all games"
BIAS = "EGPO, uniform reference: largest exploitability without the penalty over 2 beta log n"
ASKED = [
    (
        "beta 0.01, EGPO: share of games with a gap below 1e-6 in 1000 updates (2000 oracle "
        "calls), worst draw",
        ">=",
        1,
    ),
    (
        "beta 0.01, Online IPO 2: share of games with a gap below 1e-6 in 60 updates, best draw",
        "==",
        0,
    ),
    (
        "beta 0.01, Nash-MD-PG: share of games with a gap below 1e-6 in 60 updates, best draw",
        "==",
        0,
    ),
    ("beta 0.1, Nash-MD: share of games with a gap below 1e-6 in 60 updates, best draw", "==", 0),
    ("beta 0.01, OMD: share of games with a gap below 1e-6 in 60 updates, at most", "<=", 0.6),
    (
        "beta 0.1, Online IPO 2: share of games with a gap below 1e-6 in 60 updates, at least",
        ">=",
        0.6,
    ),
    (
        "beta 0.1, EGPO: median updates (two oracle calls each) to a gap of 1e-6, at least",
        ">=",
        130,
    ),
    ("beta 0.1, EGPO: median updates (two oracle calls each) to a gap of 1e-6, at most", "<=", 160),
    ("beta 0.1, OMD: median updates (one oracle call each) to a gap of 1e-6, at least", ">=", 140),
    ("beta 0.1, OMD: median updates (one oracle call each) to a gap of 1e-6, at most", "<=", 180),
    ("beta 0.1, EGPO: median oracle calls to a gap of 1e-6 over those of OMD", ">", 1),
    ("beta 0.01, EGPO: median oracle calls to a gap of 1e-6 over those of OMD", "<", 1),
    ("beta 0.1, Nash-MD, half mixture: median last gap, at least", ">=", 1.25e-5),
    ("beta 0.1, Nash-MD, half mixture: median last gap, at most", "<=", 5e-5),
    (
        "beta 0.01, EGPO: median oracle calls to a gap of 1e-6 over those of OMD at the best of 6 "
        "rates",
        "<",
        1,
    ),
    ("beta 0.1, EGPO: slope of log KL per update (two oracle calls)", "<=", np.log(0.9)),
    (f"beta 0.1, {CONTRACTION}", "<=", 1),
    ("beta 0.01, EGPO: slope of log KL per update (two oracle calls)", "<=", np.log(0.98)),
    (f"beta 0.01, {CONTRACTION}", "<=", 1),
    (BIAS, "<=", 1),
    ("noise, beta 0.1: steepest slope of a floor in m", ">=", -1.3),
    ("noise, beta 0.1: flattest slope of a floor in m", "<=", -0.7),
    ("noise, beta 0.1: floor of EGPO over that of OMD, same step and samples, least", ">=", 0.5),
    ("noise, beta 0.1: floor of EGPO over that of OMD, same step and samples, largest", "<=", 2),
    ("rock-paper-scissors, beta 0.1, EGPO at eta 4: largest last gap over starts", "<=", 1e-6),
    ("rock-paper-scissors, beta 0.1, EGPO at eta 6: least last gap over starts", ">=", 0.1),
    ("rock-paper-scissors, beta 0.01, EGPO at eta 3: largest last gap over starts", "<=", 1e-6),
    ("rock-paper-scissors, beta 0.01, EGPO at eta 4: least last gap over starts", ">=", 0.1),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Outcome]:
    """One run."""
    out = tmp_path_factory.mktemp("egpo")
    with open_run(out, slug="egpo", config=TOY) as job:
        return out, egpo_run.run(TOY, job)


def test_the_claims_are_those_of_the_acceptance_list(whole):
    claims = whole[1].claims
    assert [(c.statement, c.op) for c in claims] == [each[:2] for each in ASKED]
    np.testing.assert_allclose([c.threshold for c in claims], [each[2] for each in ASKED])
    assert np.isfinite([c.value for c in claims]).all()


def test_what_holds_in_every_game_holds_in_these(whole):
    """The theorem's factor, which plain mirror descent breaks, and the bound on the bias."""
    verdicts = {c.statement: c.verdict for c in whole[1].claims}
    for beta in (0.1, 0.01):
        assert verdicts[f"beta {beta}, {CONTRACTION}"] != "fails"
    assert verdicts[BIAS] == "holds"


@pytest.mark.parametrize("beta", [0.1, 0.01])
def test_regression_by_gradient_descent_is_mirror_prox(whole, beta):
    with np.load(whole[0] / "data" / f"suite-{beta}.npz") as kept:
        assert float(kept["closed form/apart"]) <= 1e-9


def suite_of(games: int) -> dict[str, dict[str, np.ndarray]]:
    """Every method at a gap of 1e-9 after 100 updates, KL falling by 0.8 an update."""
    times = np.arange(61)
    one = {
        "times": times,
        "kl": 0.8 ** times[:, None] * np.ones(games),
        "reached": np.full(games, 100),
        "end": np.full(games, 1e-9),
        "worst": np.asarray(0.9),
    }
    slow = one | {
        "kl": np.ones((61, games)),
        "reached": np.full(games, suite.NEVER),
        "end": np.full(games, 1e-4),
        "worst": np.asarray(1.1),
    }
    names = ("OMD", "Nash-MD", "Online IPO 2", "Nash-MD-PG")
    floor = {"Nash-MD, half mixture": slow | {"end": np.full(games, 2.5e-5)}}
    return {"EGPO": one} | dict.fromkeys(names, slow) | floor


def test_a_method_that_does_not_converge_fails_in_the_place_of_egpo():
    runs = suite_of(TOY.num_seeds * TOY.games)
    swapped = runs | {"EGPO": runs["OMD"]}
    for of in (egpo_claims.share_claims, egpo_claims.linear_claims):
        good, bad = (
            [c.verdict for c in of(TOY, x, x) if "EGPO:" in c.statement] for x in (runs, swapped)
        )
        assert set(good) == {"holds"}
        assert set(bad) == {"fails"}
    as_good = runs | dict.fromkeys(("Online IPO 2", "Nash-MD-PG", "Nash-MD"), runs["EGPO"])
    none = [c.verdict for c in egpo_claims.share_claims(TOY, as_good, as_good) if c.op == "=="]
    assert none == ["fails"] * 3
    floors = {c.statement: c.verdict for c in egpo_claims.median_claims(TOY, runs, runs)}
    assert [v for name, v in floors.items() if "half mixture" in name] == ["holds"] * 2
    # 2 x 100 oracle calls against never.
    assert [v for name, v in floors.items() if "oracle calls to" in name] == ["fails", "holds"]


def test_one_rate_of_omd_that_is_as_fast_is_enough_to_fail_the_claim_on_the_best():
    """EGPO needs 2 x 100 calls: the rival 1,000 or, at one of six rates, 150."""
    runs = suite_of(TOY.num_seeds * TOY.games)
    slow = np.full((6, TOY.num_seeds * TOY.games), 1000)
    assert egpo_claims.tuned_claim(TOY, runs, {"reached": slow}).verdict == "holds"
    tuned = slow.copy()
    tuned[4] = 150
    assert egpo_claims.tuned_claim(TOY, runs, {"reached": tuned}).verdict == "fails"
    as_fast = runs | {"Nash-MD": runs["EGPO"]}
    assert egpo_claims.tuned_claim(TOY, as_fast, {"reached": slow}).verdict == "undecided"


def test_a_policy_that_stays_breaks_the_bound_on_the_bias(whole):
    with np.load(whole[0] / "data" / "bias.npz") as kept:
        bias = dict(kept)
    stays = bias | {"exploitability": np.broadcast_to(bias["start"], bias["exploitability"].shape)}
    assert egpo_claims.bias_claim(stays).verdict == "fails"


def test_the_report_holds_its_figures_and_every_curve_is_kept(whole):
    out, outcome = whole
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "http://" not in page
    assert page.count("https://") == page.count("https://arxiv.org/abs/")
    assert {path.stem for path in (out / "data").glob("*.npz")} == {
        *("suite-0.1", "suite-0.01", "bias", "noise", "guard-0.1", "guard-0.01", "network")
    }
    assert json.dumps(dict(outcome.numbers))
    assert [row[0] for row in outcome.table.rows] == sorted(
        ["EGPO", "Nash-MD", "Nash-MD, half mixture", "Nash-MD-PG", "OMD", "Online IPO 2"]
    )


@pytest.mark.long
def test_without_the_second_step_the_guard_fails():
    """OMD in EGPO's place leaves the cycle's equilibrium at a step that EGPO can take."""
    with jax.enable_x64(True):
        ends = suite.run_guard(replace(TOY, guard_updates=2000), 0.1)
    assert all(c.holds for c in egpo_claims.guard_claims(0.1, ends))
    assert not all(c.holds for c in egpo_claims.guard_claims(0.1, ends | {"EGPO": ends["OMD"]}))


def test_floors_that_do_not_fall_fail(whole):
    m, eta = np.array(TOY.samples, float), np.array(TOY.noise_etas)
    good = (0.04 * eta[:, None] / m)[..., None] * np.ones(4)
    of = egpo_claims.noise_claims
    assert all(c.holds for c in of(TOY, {"EGPO": good, "OMD": 1.5 * good}))
    assert not all(c.holds for c in of(TOY, {"EGPO": good, "OMD": 2.5 * good}))
    flat = np.sqrt(good)
    assert not all(c.holds for c in of(TOY, {"EGPO": flat, "OMD": flat}))


def test_a_cycle_that_never_diverges_fails():
    """Both ends of the guard are claims."""
    etas = suite.GUARD_ETAS[0.1]
    converged = {"EGPO": np.zeros((len(etas), 3)), "OMD": np.ones((len(etas), 3))}
    assert [c.holds for c in egpo_claims.guard_claims(0.1, converged)] == [True, False]
    diverged = dict.fromkeys(converged, np.ones((len(etas), 3)))
    assert [c.holds for c in egpo_claims.guard_claims(0.1, diverged)] == [False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_seeds": 0}, r"num_seeds must be in \[1, inf\)"),
        ({"answers": 1}, r"answers must be in \[2, inf\)"),
        ({"updates": (1000, 3)}, r"updates must be in \[20, inf\)"),
        ({"noise_etas": ()}, "noise_etas must have a number"),
        ({"samples": (0, 1, 2)}, r"samples must be in \[1, inf\)"),
        ({"noise_updates": 1}, r"noise_updates must be in \[20, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        egpo_config.Config(**change)
