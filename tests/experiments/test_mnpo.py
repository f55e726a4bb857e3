"""The mnpo experiment in its quick size, and claims that fail when the method is another."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.mnpo import claims as mnpo_claims
from experiments.mnpo import run as mnpo
from experiments.mnpo import studies
from experiments.mnpo.config import Config, default, quick
from rlhf_jax.training import open_run

CELLS = "first reference: cells of a history, rho and eta as predicted, of 40"
BELOW = "cells below the limit of their history: largest last gap, all references"
FIXED = "all histories, rho 0.1, eta 1: largest log-ratio to the regularised Nash policy"
BAR = "Eq. 10, 2, 3, 5 players: average gap at the last T, worst draw"
NO_REST = "HT-MNPO, rho 0.1: DualGap of the worst player, least draw"
ASKED = {
    CELLS: ("==", 40),
    BELOW: ("<", 1e-6),
    "cells above it: least peak of the gap in 100 rounds, all references": (">", 0.3),
    FIXED: ("<=", 1e-8),
    "EGPO, eta <= 1: largest last gap, all references": ("<", 1e-6),
    "ONPO, first start: largest relative change of the average gap by T": ("<=", 0.02),
    "Hedge, first start: largest relative change of the average gap by T": ("<=", 0.02),
    "ONPO, average: slope of log gap in log T": ("<=", -0.95),
    "Hedge, average: largest gap over 2 regret / T, all starts and T": ("<=", 1),
    "starts, of 2, from which ONPO's average ends below Hedge's": ("==", 2),
    BAR: ("<=", 0.005),
    "Eq. 10: largest average gap over 2 regret / T, all draws, players and T": ("<=", 1),
    "HT-MNPO: largest last increment of a log-prob, all draws": ("<=", 1e-12),
    NO_REST: (">=", 1e-3),
    "HT-MNPO: DualGap at rho 0.5 over that at rho 0.1, largest of the draws": ("<", 1),
}
# Largest stable eta of the four histories, by the weight of the reference.
LIMITS = {0.02: (0.69, 1.43, 2.29, 4.59), 0.1: (1.51, 2.88, 4.18, 4.50)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The quick run: its folder and its outcome; resumed, it loads every stage."""
    out = tmp_path_factory.mktemp("mnpo")
    with open_run(out, slug="mnpo", config=quick()) as job:
        outcome = mnpo.run(quick(), job)
    with open_run(out, slug="mnpo", config=quick(), resume=True) as job:
        again = mnpo.run(quick(), job)
    assert [claim.value for claim in outcome.claims] == [claim.value for claim in again.claims]
    return out, outcome


def test_the_claims_are_those_asked(finished):
    _, outcome = finished
    assert {c.statement: (c.op, c.threshold) for c in outcome.claims} == ASKED
    assert np.isfinite([float(c.value) for c in outcome.claims]).all()
    # The bar for Eq. 10 is that of one draw; the README says what others give.
    assert {c.statement for c in outcome.claims if not c.holds} <= {BAR}
    assert len(outcome.table.rows) == 10


def test_the_report_is_one_self_contained_page(finished):
    out, _ = finished
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "http://" not in page
    assert page.count("https://") == page.count("https://arxiv.org/abs/")
    assert sorted(path.stem for path in (out / "data").glob("*.npz")) == [
        "averages",
        "grid",
        "own_oracles",
        "players",
    ]


def test_a_history_that_is_not_one_fails_the_grid(finished):
    """INPO's runs under the name of three old policies: cells below their limit do not converge."""
    out, _ = finished
    arrays = load(out / "data" / "grid.npz")
    grid = {name: {"gaps": arrays[name], "logps": LOGPS} for name in studies.METHODS}
    limits = {
        name: [studies.stable_until(history, rho) for rho in quick().ref_weights]
        for name, history in studies.HISTORIES.items()
    }
    claims = {c.statement: c for c in mnpo_claims.grid_claims(quick(), grid, limits)}
    assert claims[CELLS].holds
    assert not claims[FIXED].holds
    grid["(1/3, 1/3, 1/3)"] = grid["INPO = (1)"]
    claims = {c.statement: c for c in mnpo_claims.grid_claims(quick(), grid, limits)}
    assert not claims[CELLS].holds
    assert not claims[BELOW].holds


LOGPS = np.full((2, 10, 3), -np.log(3.0))  # uniform, which is no fixed point


def test_hedge_is_not_onpo_and_a_last_policy_is_not_the_average(finished):
    out, _ = finished
    averages = load(out / "data" / "averages.npz")
    slow = mnpo_claims.average_claims(quick(), averages | {"ONPO": averages["Hedge"]})
    # Relative change, slope and the starts in which it is below Hedge.
    assert [slow[i].verdict for i in (0, 4)] == ["fails"] * 2
    assert slow[2].verdict != "holds"
    last = mnpo_claims.average_claims(quick(), averages | {"Hedge": averages["Hedge, last"]})
    assert [last[i].verdict for i in (1, 3)] == ["fails"] * 2
    players = load(out / "data" / "players.npz")
    last = {
        n: {"average": players[f"{n}/last"], **{k: players[f"{n}/{k}"] for k in ("last", "bound")}}
        for n in ("2", "3", "5")
    }
    assert [c.verdict for c in mnpo_claims.player_claims(last)] == ["fails"] * 2


def test_one_oracle_for_all_is_one_game_and_is_solved(finished):
    out, outcome = finished
    (claim,) = (c for c in outcome.claims if c.statement == NO_REST)
    assert float(claim.baseline[1]) <= 1e-12
    own = load(out / "data" / "own_oracles.npz")
    solved = own | {"gaps": 1e-12 * own["gaps"]}
    verdicts = {c.statement: c.verdict for c in mnpo_claims.oracle_claims(solved, solved)}
    assert verdicts[NO_REST] == "fails"


def test_the_limits_of_eta_are_the_known_ones():
    for rho, wanted in LIMITS.items():
        limits = [studies.stable_until(history, rho) for history in studies.HISTORIES.values()]
        np.testing.assert_allclose(limits, wanted, atol=0.01)


def load(path):
    with np.load(path) as file:
        return dict(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
        ({"tail": 3000}, r"tail must be in \[1, 3000\)"),
        ({"ref_weights": (0.0,)}, "ref_weights must hold 0.1"),
        ({"players": (1,)}, r"players must be in \[2, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    assert isinstance(default(), Config)
    with pytest.raises(ValueError, match=message):
        replace(default(), **change)
