"""The mnpo experiment in its quick size, and claims that fail when the method is another."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.mnpo import claims as mnpo_claims
from experiments.mnpo import many, studies
from experiments.mnpo import many_claims as mnpo_claims_of_many
from experiments.mnpo import run as mnpo
from experiments.mnpo.config import Config, default, quick
from rlhf_jax.algos.games import mirror_descent
from rlhf_jax.algos.games.oracles import exact_oracle
from rlhf_jax.envs.games import bradley_terry_game
from rlhf_jax.ops.games import regularised_gap
from rlhf_jax.training import open_run

CELLS = "first reference: cells of a history, rho and eta as predicted, of 40"
BELOW = "cells below the limit of their history: largest last gap, all references"
FIXED = "all histories, rho 0.1, eta 1: largest log-ratio to the regularised Nash policy"
BAR = "Eq. 10, 2, 3, 5 players: average gap at the last T, worst draw"
NO_REST = "HT-MNPO, rho 0.1: DualGap of the worst player, mean over draws"
SOLVED = [
    f"Eq. 7, {n} players, one preference: DualGap after 400 updates of self-play, mean over "
    "populations"
    for n in (2, 3, 5)
]
AVERAGE = [
    f"Eq. 7 without KL, {n} players: what a best response gains against the average policy, over "
    "regret / T, mean over populations"
    for n in (2, 3, 5)
]
OWN = [
    f"Eq. 7, {n} players, a judge each: DualGap of the worst player after 400 updates of mirror "
    "descent from one's own policy, mean over populations"
    for n in (2, 3, 5)
]
CALLS = {
    f"1,600 calls each, {n} players: chance that an answer of their policy {words}, mean over "
    "populations": (">", chance)
    for n in (3, 5)
    for words, chance in (
        ("beats that of two players", 0.5),
        (f"is named among {n - 1} answers of two players'", 1 / n),
    )
}
MANY = (
    dict.fromkeys(SOLVED, ("<=", 1e-6))
    | dict.fromkeys(AVERAGE, ("<=", 1.0))
    | CALLS
    | dict.fromkeys(OWN, ("<=", 1e-6))
)
SLOPE = "ONPO, average: slope of log gap in log T"
TUNED = "average after 6,400 updates: mean gap of ONPO over that of Hedge at the best of 6 steps"
ASKED = {
    CELLS: ("==", 40),
    BELOW: ("<", 1e-6),
    "cells above it: least peak of the gap in 100 rounds, all references": (">", 0.3),
    FIXED: ("<=", 1e-8),
    "EGPO, eta <= 1: largest last gap, all references": ("<", 1e-6),
    "ONPO, first start: largest relative change of the average gap by T": ("<=", 0.02),
    "Hedge, first start: largest relative change of the average gap by T": ("<=", 0.02),
    SLOPE: ("<=", -0.95),
    "Hedge, average: largest gap over 2 regret / T, all starts and T": ("<=", 1),
    "starts, of 4, from which ONPO's average ends below Hedge's": ("==", 4),
    TUNED: ("<", 1.0),
    BAR: ("<=", 0.005),
    "Eq. 10: largest average gap over 2 regret / T, all draws, players and T": ("<=", 1),
    "HT-MNPO: largest last increment of a log-prob, all draws": ("<=", 1e-12),
    NO_REST: (">=", 1e-3),
    "HT-MNPO: DualGap at rho 0.5 over that at rho 0.1, mean over draws": ("<", 1),
} | MANY
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
    # The bar for Eq. 10 is that of one draw; the README says what others give, and what of the
    # paper's claims on more players is so. Four seeds leave ONPO's slope undecided, and against
    # tuned Hedge its baseline passes.
    assert {c.statement for c in outcome.claims if c.verdict == "fails"} <= {BAR, *AVERAGE, *CALLS}
    undecided = {c.statement for c in outcome.claims if c.verdict == "undecided"}
    assert undecided <= {BAR, *AVERAGE, *CALLS, SLOPE, TUNED}
    assert len(outcome.table.rows) == 10


def test_the_report_is_one_self_contained_page(finished):
    out, _ = finished
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert "http://" not in page
    assert page.count("https://") == page.count("https://arxiv.org/abs/")
    assert sorted(path.stem for path in (out / "data").glob("*.npz")) == [
        "averages",
        "grid",
        "many",
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


LOGPS = np.full((4, 10, 3), -np.log(3.0))  # uniform, which is no fixed point


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


def test_the_policy_of_other_players_fails_one_against_many(finished):
    """Each number of players has an equilibrium of its own; HT-MNPO's rest is none."""
    flat = load(finished[0] / "data" / "many.npz")
    kinds = ("dual gap", "own", "ht", "average", "start", "bound")
    found = {str(n): {kind: flat[f"{n}/{kind}"] for kind in kinds} for n in (2, 3, 5)}
    for each in found.values():
        each["dual gap"] = each["dual gap"][:, [2, 0, 1]]
        each["own"] = each["ht"][:, 0]
        each["average"] = each["start"]
    verdicts = [
        *(c.verdict for c in mnpo_claims_of_many.equilibrium_claims(quick(), found)),
        *(c.verdict for c in mnpo_claims_of_many.own_judge_claims(quick(), found)),
    ]
    assert set(verdicts) == {"fails"}
    calls = {name.removeprefix("calls/"): x for name, x in flat.items() if "calls/" in name}
    for n in (3, 5):
        for yard in ("pairwise", "arena"):
            calls[f"{n}/{yard}"] = calls[f"{n}/again/{yard}"]
    verdicts = {c.verdict for c in mnpo_claims_of_many.call_claims(quick(), calls)}
    assert "holds" not in verdicts
    averages = mnpo_claims_of_many.average_claims(quick(), found)
    assert "holds" not in {c.verdict for c in averages}


def test_two_players_of_one_population_play_its_pairwise_game():
    with jax.enable_x64(True):
        scores, refs, _ = many.draw_populations(quick())
        pairs = many.shared_prefs(scores, 2)
        mixed = sum(bradley_terry_game(scores[:, judge]) for judge in range(many.JUDGES))
        np.testing.assert_allclose(pairs, mixed / many.JUDGES)
        key, config = jax.random.key(0), replace(quick(), many_updates=3)
        both = jnp.stack([refs[0]] * 2)
        method = mirror_descent(both, eta=many.ETA, beta=many.BETA)
        state, gaps = many.follow(config, method, pairs[:1], both, key)
        alone = mirror_descent(refs[0], eta=many.ETA, beta=many.BETA)
        one = alone.init(refs[0])
        for _ in range(3):
            one = alone.update(one, exact_oracle(pairs[0]), key)[0]
        np.testing.assert_allclose(state.logps, jnp.stack([one.logps] * 2))
        gap = regularised_gap(pairs[0], one.logps, refs[0], beta=many.BETA)
        np.testing.assert_allclose(2.0 * gaps[-1], [gap, gap])


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
        ({"players": (3, 5)}, "players must be 2 and then others"),
        ({"players": (2, 7)}, "players must be 6 at most"),
        ({"populations": 3}, r"populations must be in \[4, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    assert isinstance(default(), Config)
    with pytest.raises(ValueError, match=message):
        replace(default(), **change)
