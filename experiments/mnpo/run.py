"""MNPO on exact games: where is it stable, where does it end, and what do more players change?"""

import jax
import numpy as np

from experiments.mnpo import studies
from experiments.mnpo.config import Config
from experiments.mnpo.report import write_report
from rlhf_jax.envs.games import rock_paper_scissors
from rlhf_jax.exact.regularised_nash import regularised_nash
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.reports.rates import fit_rate
from rlhf_jax.training import Run, run_stage

# Largest stable eta of the four histories, by the weight of the reference.
LIMITS = {0.02: (0.69, 1.43, 2.29, 4.59), 0.1: (1.51, 2.88, 4.18, 4.50)}
FIXED_POINT = (0.1, 1.0)  # the cell (rho, eta) in which fixed points are compared
# Exploitability of the average by T, from logits (0.5, -0.5, 0).
AVERAGES = {
    "ONPO": {100: 0.0166, 400: 0.0050, 1600: 0.00125, 6400: 0.00031},
    "Hedge": {100: 0.050, 400: 0.041, 1600: 0.0051, 6400: 0.0045},
}


def run(config: Config, job: Run) -> Outcome:
    """Four studies, each a stage, then the claims and the report."""
    found = {
        "grid": _stage(config, job, "grid", studies.grid),
        "optimism": _stage(config, job, "optimism", studies.optimism),
        "players": _stage(config, job, "players", studies.players),
        "oracles": _stage(config, job, "oracles", studies.own_oracles),
    }
    found["grid"] = {name: found["grid"][name] for name in studies.METHODS}  # sorted on disk
    limits = {
        name: [studies.stable_until(history, rho) for rho in config.ref_weights]
        for name, history in studies.HISTORIES.items()
    }
    claims = [
        *grid_claims(config, found["grid"], limits),
        *average_claims(config, found["optimism"]),
        *player_claims(found["players"]),
        *oracle_claims(**found["oracles"]),
    ]
    write_report(job, config, found, limits, claims)
    table = grid_table(config, found["grid"], limits)
    ends = {name: each["average"][:, -1] for name, each in found["players"].items()}
    numbers = {"limits": limits, "grid": table.rows, "players": ends}
    return Outcome(claims, numbers=numbers, table=table)


def _stage(config: Config, job: Run, name: str, study):
    """The arrays of a study, computed in float64 once."""

    def work(_):
        with jax.enable_x64(True):
            return study(config), {}

    return run_stage(job, name, work).arrays


def grid_claims(config: Config, grid: dict, limits: dict) -> list[Claim]:
    """Stable below the predicted limits, not above; one fixed point for every history."""
    cells, names = studies.cells(config), list(studies.HISTORIES)
    below = stable(config, limits)
    gaps = np.stack([grid[name]["gaps"] for name in names])  # [K, S, C, N]
    ends, peaks = gaps[..., -1], gaps[..., -config.tail :].max(axis=-1)
    expected = np.where(below, ends[:, 0] < 1e-6, ends[:, 0] > 0.3)
    wanted = np.array([LIMITS[rho] for rho in config.ref_weights]).T
    misfit = np.abs(np.array(list(limits.values())) - wanted).max()

    here = np.flatnonzero((cells == FIXED_POINT).all(axis=1))[0]
    with jax.enable_x64(True):
        refs, prefs = np.asarray(studies.references(config)), np.asarray(rock_paper_scissors())
    star = regularised_nash(prefs, refs, beta=FIXED_POINT[0] / FIXED_POINT[1])
    away = max(np.abs(grid[name]["logps"][:, here] - star).max() for name in names)
    egpo = grid["EGPO"]["gaps"][:, cells[:, 1] <= 1.0, -1].max()
    return [
        Claim("limits of eta: predicted less expected", misfit, "<=", 0.01),
        Claim("first reference: cells as predicted", expected.sum(), "==", below.size),
        Claim(
            "below the limit: last gap, all references", ends[_where(below, ends)].max(), "<", 1e-6
        ),
        Claim(
            "above the limit: peak of the tail, all references",
            peaks[_where(~below, ends)].min(),
            ">",
            0.3,
        ),
        Claim("fixed point of all histories: distance to regularised Nash", away, "<=", 1e-8),
        Claim("EGPO at eta <= 1: last gap, all references", egpo, "<", 1e-6),
    ]


def average_claims(config: Config, found: dict) -> list[Claim]:
    """ONPO's average is O(1 / T), Hedge's O(1 / sqrt T); known values from the first start."""
    times = np.array(config.horizons)
    claims = []
    for name, values in AVERAGES.items():
        wanted = np.array([values[t] for t in config.horizons])
        misfit = np.abs(found[name][0] / wanted - 1.0).max()
        claims.append(Claim(f"{name}: average gap, relative to expected", misfit, "<=", 0.02))
    rate = fit_rate(times, found["ONPO"], law="power", start=400.0)
    claims.append(
        Claim("ONPO: |slope + 1|, worst seed", np.abs(rate.slopes + 1.0).max(), "<=", 0.05)
    )
    below = (found["Hedge"] / found["bound"]).max()
    claims.append(Claim("Hedge: average gap over its bound", below, "<=", 1.0))
    wins = int((found["ONPO"][:, -1] < found["Hedge"][:, -1]).sum())
    claims.append(Claim("ONPO below Hedge at the last T: seeds", wins, "==", config.num_seeds))
    return claims


def player_claims(found: dict) -> list[Claim]:
    """Eq. 10: one draw's bar for every draw of first policies, and what regret guarantees."""
    worst = max(each["average"][:, -1].max() for each in found.values())
    share = max((each["average"] / each["bound"]).max() for each in found.values())
    return [
        Claim("Eq. 10: average gap at the last T, worst seed and player", worst, "<=", 0.005),
        Claim("Eq. 10: average gap over the regret bound", share, "<=", 1.0),
    ]


def oracle_claims(own: dict, shared: dict) -> list[Claim]:
    """HT-MNPO comes to rest, but not at an equilibrium; with one oracle for all it would."""
    ends = own["gaps"][:, :, -1].max(axis=-1)  # [S, rho]
    return [
        Claim("HT-MNPO: last increment", own["increments"][..., -1].max(), "<=", 1e-12),
        Claim(
            "HT-MNPO, rho 0.1: DualGap of the worst player, least seed",
            ends[:, 0].min(),
            ">=",
            1e-3,
        ),
        Claim(
            "HT-MNPO: DualGap at rho 0.5 over that at 0.1",
            (ends[:, 1] / ends[:, 0]).max(),
            "<",
            1.0,
        ),
        Claim("HT-MNPO, one oracle for all: DualGap", shared["gaps"][:, :, -1].max(), "<=", 1e-12),
    ]


def stable(config: Config, limits: dict) -> np.ndarray:
    """[K, C] True where the prediction is that a history converges in a cell."""
    by_rho = {
        rho: np.array([row[i] for row in limits.values()])
        for i, rho in enumerate(config.ref_weights)
    }
    return np.stack([eta < by_rho[rho] for rho, eta in studies.cells(config)], axis=1)


def grid_table(config: Config, grid: dict, limits: dict) -> Table:
    """The last gap of every cell, from the first reference."""
    headers = ("rho", "eta", *grid)
    rows = [
        (rho, eta, *(f"{each['gaps'][0, c, -1]:.1e}" for each in grid.values()))
        for c, (rho, eta) in enumerate(studies.cells(config).tolist())
    ]
    return Table(
        f"Last gap after {config.rounds} rounds, reference softmax(.7, 0, -.7)", headers, rows
    )


def _where(cells: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """[K, C] for every seed: [K, S, C]."""
    return np.broadcast_to(cells[:, None], ends.shape)
