"""Safe-set control: how much do demonstrations, unsupervised walks and forgetting matter?

Only the abstract of the paper was at hand. The agents are LS3 on a table and on cells of a plane,
and forgetting is a reading of the abstract: nothing here is the paper's algorithm.
"""

from collections.abc import Mapping

import numpy as np

from experiments.safe_rl_minimal.agents import run_grid
from experiments.safe_rl_minimal.cells import grid_cells, name_of, robot_cells
from experiments.safe_rl_minimal.claims import (
    Sweep,
    safe_set_claim,
    slip_claim,
    wall_claims,
    world_claims,
)
from experiments.safe_rl_minimal.config import Config
from experiments.safe_rl_minimal.report import write_report
from experiments.safe_rl_minimal.robot import run_robot
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]


def run(config: Config, job: Run) -> Outcome:
    """All cells of the sweep in both worlds, and their claims."""
    stages = {
        "grid": lambda: run_grid(config),
        "robot": lambda: run_robot(config.robot, config.seed),
    }
    sweeps = make_sweeps(config, run_stages(job, stages))
    grid, robot = sweeps
    claims = [
        *world_claims(grid),
        slip_claim(grid),
        *world_claims(robot),
        *wall_claims(robot),
        safe_set_claim(robot),
    ]
    table = cells_table(sweeps)
    write_report(job, sweeps, claims, table)
    return Outcome(claims, numbers={each.world: summary(each) for each in sweeps}, table=table)


def make_sweeps(config: Config, found: Mapping[str, Arrays]) -> list[Sweep]:
    """Grid and robot."""
    return [
        Sweep("grid", config, grid_cells(config), found["grid"]),
        Sweep("robot", config.robot, robot_cells(config.robot), found["robot"]),
    ]


def cells_table(sweeps: list[Sweep]) -> Table:
    """A row for each cell of each world."""
    rows = []
    for sweep in sweeps:
        for cell in sweep.cells:
            lengths = sweep.final(cell)
            rows.append(
                (
                    f"{sweep.world}: {name_of(sweep.config, cell)}",
                    lengths.mean(),
                    lengths.std(ddof=1) if len(lengths) > 1 else 0.0,
                    *(sweep.rate(what, cell).mean() for what in ("success", "violation")),
                    sweep.rate("dead end", cell).mean(),
                    sweep.found["safe cells"][sweep.cells.index(cell), :, -1].mean(),
                )
            )
    demos = ", ".join(f"{each.found['demo length'].mean():.1f} ({each.world})" for each in sweeps)
    return Table(
        "Final length, and rates over all rounds",
        ("data", "length", "sd over seeds", "success", "violation", "dead end", "safe cells"),
        rows,
        note="length: mean steps to the goal over the last rounds, all steps for episodes that "
        "miss it; dead end: neither goal nor violation; demonstrations take " + demos,
    )


def summary(sweep: Sweep) -> dict:
    """Of the data, and final lengths of each cell."""
    found, config = sweep.found, sweep.config
    return {
        "seeds": config.num_seeds,
        "demonstrations: length": float(found["demo length"].mean()),
        "demonstrations: success": float(found["demo success"].mean()),
        "walks: success, by rho": found["walk success"].mean((0, 2)).tolist(),
        "walks: violation, by rho": found["walk violation"].mean((0, 2)).tolist(),
        "length": {name_of(config, cell): float(sweep.final(cell).mean()) for cell in sweep.cells},
        "median length": {
            name_of(config, cell): float(np.median(sweep.final(cell))) for cell in sweep.cells
        },
    }
