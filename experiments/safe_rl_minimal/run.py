"""Safe-set control: how much do demonstrations, unsupervised walks and forgetting matter?

Only the abstract of the paper was at hand. The agent is LS3 on a table, and forgetting is a reading
of the abstract: nothing here is the paper's algorithm.
"""

from collections.abc import Mapping

import numpy as np

from experiments.safe_rl_minimal.agents import run_all
from experiments.safe_rl_minimal.claims import (
    dead_ends,
    final_lengths,
    make_claims,
    name_of,
    robot_claims,
)
from experiments.safe_rl_minimal.config import Config
from experiments.safe_rl_minimal.report import write_report
from experiments.safe_rl_minimal.robot import ARMS, run_robots
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]


def run(config: Config, job: Run) -> Outcome:
    """All cells of the sweep at once, then the point robot with every memory."""
    stages = {"robot": lambda: run_robots(config), "agents": lambda: run_all(config)}
    robot, found = run_stages(job, stages).values()
    claims = [*make_claims(config, found), *robot_claims(config, robot)]
    table = cells_table(config, found)
    write_report(job, config, (found, robot), claims, table)
    numbers = summary(config, found) | {"point robot": robot_summary(config, robot)}
    return Outcome(claims, numbers=numbers, table=table)


def cells_table(config: Config, found: Arrays) -> Table:
    """A row for each cell."""
    rows = []
    for i, (cell, lengths) in enumerate(final_lengths(config, found).items()):
        rows.append(
            (
                name_of(config, cell),
                lengths.mean(),
                lengths.std(ddof=1) if len(lengths) > 1 else 0.0,
                int(np.sum(lengths > config.steps / 2)),
                found["success"][i].mean(),
                found["violation"][i].mean(),
                dead_ends(found)[i].mean(),
                found["safe cells"][i, :, -1].mean(),
            )
        )
    demo = found["demo length"].mean()
    return Table(
        "Final length, and rates over all rounds",
        (
            *("data", "length", "sd over seeds", f"seeds above {config.steps // 2}"),
            *("success", "violation", "dead ends", "safe cells"),
        ),
        rows,
        note=f"length: mean steps to the goal over the last {config.last} rounds, {config.steps} "
        f"for episodes that miss it; {config.num_seeds} seeds; demonstrations take {demo:.1f}",
    )


def summary(config: Config, found: Arrays) -> dict:
    """Of the data; of the cells see the table's file."""
    lengths = final_lengths(config, found)
    return {
        "demonstrations: length": float(found["demo length"].mean()),
        "demonstrations: success": float(found["demo success"].mean()),
        "walks: success, by rho": found["walk success"].mean((0, 2)).tolist(),
        "walks: violation, by rho": found["walk violation"].mean((0, 2)).tolist(),
        "length": {name_of(config, cell): float(each.mean()) for cell, each in lengths.items()},
        "median length": {
            name_of(config, cell): float(np.median(each)) for cell, each in lengths.items()
        },
    }


def robot_summary(config: Config, found: Arrays) -> dict:
    """Of every memory: final length with its sd over seeds, first length, and rates."""
    last, dead = config.robot.last, dead_ends(found)
    lengths = found["length"].mean(-1)
    return {
        "demonstrations: length": float(found["demo length"].mean()),
        "demonstrations: success": float(found["demo success"].mean()),
        "walks: success": float(found["walk success"].mean()),
        "walks: violation": float(found["walk violation"].mean()),
    } | {
        arm: {
            "length, first round": float(lengths[i, :, 0].mean()),
            "length": float(lengths[i, :, -last:].mean()),
            "length, sd over seeds": float(lengths[i, :, -last:].mean(-1).std(ddof=1)),
            "success": float(found["success"][i].mean()),
            "violation": float(found["violation"][i].mean()),
            "dead ends": float(dead[i].mean()),
        }
        for i, arm in enumerate(ARMS)
    }
