"""MNPO on exact games: where is it stable, where does it end, and what do more players change?"""

from functools import partial

import numpy as np

from experiments.mnpo import claims, many, many_claims, studies
from experiments.mnpo.config import Config
from experiments.mnpo.report import write_report
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages


def run(config: Config, job: Run) -> Outcome:
    """Five studies, each a stage, then the claims and the report."""
    works = {
        "grid": partial(studies.grid, config),
        "optimism": partial(studies.optimism, config),
        "players": partial(studies.players, config),
        "oracles": partial(studies.own_oracles, config),
        "many": partial(many.one_against_many, config),
    }
    found = run_stages(job, works, x64=True)
    found["grid"] = {name: found["grid"][name] for name in studies.METHODS}  # sorted on disk
    limits = {
        name: [studies.stable_until(history, rho) for rho in config.ref_weights]
        for name, history in studies.HISTORIES.items()
    }
    made = [
        *claims.grid_claims(config, found["grid"], limits),
        *claims.average_claims(config, found["optimism"]),
        claims.tuned_claim(config, found["optimism"], found["players"]),
        *claims.player_claims(found["players"]),
        *claims.oracle_claims(**found["oracles"]),
        *many_claims.equilibrium_claims(config, found["many"]),
        *many_claims.average_claims(config, found["many"]),
        *many_claims.call_claims(config, found["many"]["calls"]),
        *many_claims.own_judge_claims(config, found["many"]),
    ]
    write_report(job, config, found, limits, made)
    table = grid_table(config, found["grid"], limits)
    ends = {name: each["average"][:, -1] for name, each in found["players"].items()}
    numbers = {"limits": limits, "grid": table.rows, "players": ends}
    numbers["one against many"] = many_numbers(config, found["many"])
    return Outcome(made, numbers=numbers, table=table)


def many_numbers(config: Config, found: dict) -> dict:
    """Means over populations: DualGaps of each equilibrium (rows) in each game (columns), and what
    equally many calls give."""
    games = [str(count) for count in config.players]
    return {
        "dual gap": np.mean([found[n]["dual gap"] for n in games], axis=1).T.tolist(),
        "own judges": {
            n: {
                "mirror descent": found[n]["own"][:, -1].mean().item(),
                "HT-MNPO by rho": found[n]["ht"][..., -1].mean(axis=0).tolist(),
            }
            for n in games
        },
        "calls": {
            name: np.mean(x).item() for name, x in found["calls"].items() if "setting" not in name
        },
        "settings": {n: found["calls"][f"{n}/setting"].tolist() for n in games},
    }


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
