"""The egpo experiment at toy size: it runs whole, and its claims fail where methods are wrong."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

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
ASKED = [
    ("beta 0.01, EGPO: of 10 by update 1000, worst draw", ">=", 10),
    ("beta 0.01, OMD: of 10 by the end", "<=", 6),
    ("beta 0.01, online IPO 2: of 10", "==", 0),
    ("beta 0.01, Nash-MD-PG: of 10", "==", 0),
    ("beta 0.1, EGPO: median updates, least", ">=", 130),
    ("beta 0.1, EGPO: median updates, most", "<=", 160),
    ("beta 0.1, OMD: median updates, least", ">=", 140),
    ("beta 0.1, OMD: median updates, most", "<=", 180),
    ("beta 0.1, online IPO 2: of 10", ">=", 6),
    ("beta 0.1, Nash-MD: of 10", "==", 0),
    ("beta 0.1, Nash-MD, half mixture: floor, least", ">=", 1.25e-5),
    ("beta 0.1, Nash-MD, half mixture: floor, most", "<=", 5e-5),
    ("beta 0.1, EGPO: slope of log KL per update", "<=", float(np.log(0.9))),
    ("beta 0.1, EGPO: KL over (1 - eta beta) KL before", "<=", 1.0),
    ("beta 0.1, EGPO: gap, SGD less mirror prox", "<=", 1e-9),
    ("beta 0.01, EGPO: slope of log KL per update", "<=", float(np.log(0.98))),
    ("beta 0.01, EGPO: KL over (1 - eta beta) KL before", "<=", 1.0),
    ("beta 0.01, EGPO: gap, SGD less mirror prox", "<=", 1e-9),
    ("exploitability over 2 beta log n, worst", "<=", 1.0),
    ("noise: steepest slope of the floor in m", ">=", -1.3),
    ("noise: flattest slope of the floor in m", "<=", -0.7),
    ("noise: floor of EGPO over OMD's, least", ">=", 0.5),
    ("noise: floor of EGPO over OMD's, most", "<=", 2.0),
    ("cycle, beta 0.1, eta 4: largest gap", "<=", 1e-6),
    ("cycle, beta 0.1, eta 6: smallest gap", ">=", 0.1),
    ("cycle, beta 0.01, eta 3: largest gap", "<=", 1e-6),
    ("cycle, beta 0.01, eta 4: smallest gap", ">=", 0.1),
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
    """The theorem's factor, the bound on the bias, and SGD = mirror prox."""
    held = {c.statement: c.holds for c in whole[1].claims}
    for beta in (0.1, 0.01):
        assert held[f"beta {beta}, EGPO: KL over (1 - eta beta) KL before"]
        assert held[f"beta {beta}, EGPO: gap, SGD less mirror prox"]
    assert held["exploitability over 2 beta log n, worst"]


def test_the_report_holds_its_figures_and_every_curve_is_kept(whole):
    out, outcome = whole
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "http://" not in page
    assert "https://" not in page
    assert {path.stem for path in (out / "data").glob("*.npz")} == {
        *("suite-0.1", "suite-0.01", "bias", "noise", "guard-0.1", "guard-0.01", "network")
    }
    assert json.dumps(dict(outcome.numbers))
    assert [row[0] for row in outcome.table.rows] == sorted(
        ["EGPO", "Nash-MD", "Nash-MD, half mixture", "Nash-MD-PG", "OMD", "Online IPO 2"]
    )


def test_without_the_second_step_the_guard_fails():
    """OMD in EGPO's place leaves the cycle's equilibrium at a step that EGPO can take."""
    with jax.enable_x64(True):
        ends = suite.run_guard(replace(TOY, guard_updates=2000), 0.1)
    assert all(c.holds for c in egpo_run.guard_claims(0.1, ends))
    assert not all(c.holds for c in egpo_run.guard_claims(0.1, {"EGPO": ends["OMD"]}))


def test_floors_that_do_not_fall_fail(whole):
    m, eta = np.array(TOY.samples, float), np.array(TOY.noise_etas)
    good = (0.04 * eta[:, None] / m)[..., None] * np.ones(4)
    of = egpo_run.noise_claims
    assert all(c.holds for c in of(TOY, {"EGPO": good, "OMD": 1.5 * good}))
    assert not all(c.holds for c in of(TOY, {"EGPO": good, "OMD": 2.5 * good}))
    flat = np.sqrt(good)
    assert not all(c.holds for c in of(TOY, {"EGPO": flat, "OMD": flat}))


def test_a_cycle_that_never_diverges_fails():
    """Both ends of the guard are claims."""
    etas = suite.GUARD_ETAS[0.1]
    converged = {"EGPO": np.zeros((len(etas), 3))}
    assert [c.holds for c in egpo_run.guard_claims(0.1, converged)] == [True, False]
    diverged = {"EGPO": np.ones((len(etas), 3))}
    assert [c.holds for c in egpo_run.guard_claims(0.1, diverged)] == [False, True]


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
