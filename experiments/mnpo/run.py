"""MNPO on exact games: where is it stable, where does it end, and what do more players change?"""

import jax

from experiments.mnpo import claims, studies
from experiments.mnpo.config import Config
from experiments.mnpo.report import write_report
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stage


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
    made = [
        *claims.grid_claims(config, found["grid"], limits),
        *claims.average_claims(config, found["optimism"]),
        *claims.player_claims(found["players"]),
        *claims.oracle_claims(**found["oracles"]),
    ]
    write_report(job, config, found, limits, made)
    table = grid_table(config, found["grid"], limits)
    ends = {name: each["average"][:, -1] for name, each in found["players"].items()}
    numbers = {"limits": limits, "grid": table.rows, "players": ends}
    return Outcome(made, numbers=numbers, table=table)


def _stage(config: Config, job: Run, name: str, study):
    """The arrays of a study, computed in float64 once."""

    def work(_):
        with jax.enable_x64(True):
            return study(config), {}

    return run_stage(job, name, work).arrays


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
