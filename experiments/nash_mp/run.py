"""Nash-MP: does the last policy converge linearly, at a rate that the game does not change?"""

from collections.abc import Mapping

import numpy as np

from experiments.nash_mp.claims import (
    bound_claims,
    equal_call_claims,
    inner_claims,
    update_claims,
    update_rate,
)
from experiments.nash_mp.config import Config
from experiments.nash_mp.curves import game_curves, random_shares
from experiments.nash_mp.inner import exact_gaps, sampled_gaps
from experiments.nash_mp.report import write_report
from experiments.nash_mp.updates import needed_updates
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.reports.rates import Rate
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]


def run(config: Config, job: Run) -> Outcome:
    """Curves on three kinds of game, random games, counts of updates, inexact inner problems."""
    stages = {
        "curves": lambda: game_curves(config),
        "random": lambda: random_shares(config),
        "updates": lambda: needed_updates(config),
        "exact": lambda: exact_gaps(config),
        "sampled": lambda: sampled_gaps(config),
    }
    found = run_stages(job, stages)
    rates = {name: update_rate(config, found["updates"][name]) for name in ("Nash-MP", "OMD")}
    claims = [
        *bound_claims(found),
        *equal_call_claims(config, found["curves"]),
        *update_claims(config, found["updates"], rates),
        *inner_claims(found["exact"], found["sampled"]),
    ]
    table = updates_table(config, found["updates"], rates)
    write_report(job, config, found, claims, table)
    return Outcome(claims, numbers=summary(found), table=table)


def updates_table(config: Config, arrays: Arrays, rates: Mapping[str, Rate]) -> Table:
    """Methods as rows, betas as columns."""
    rows = []
    for name, counts in arrays.items():
        cells = [
            int(count) if count < config.most_updates else f"> {config.most_updates}"
            for count in counts[:, 0]
        ]
        rate = rates.get(name)
        slope = f"{rate.slope:.2f} [{rate.low:.2f}, {rate.high:.2f}]" if rate else None
        rows.append((name, *cells, slope))
    return Table(
        "Updates to a regularised gap below 1e-6, rock-paper-scissors, reference (0.7, 0, -0.7)",
        ("method", *(f"beta = {beta:g}" for beta in config.betas), "slope in 1 / beta [95%]"),
        rows,
        note=f"slopes over {config.num_seeds} references; an update of Nash-MP calls the oracle "
        "twice; OMD has its best constant step",
    )


def summary(found: Mapping[str, Arrays]) -> dict:
    """Shares of the bound and steps [games, betas]; gaps of inexact inner problems."""
    curves = found["curves"]
    return {
        "share": curves["share"].max(-1).T.tolist(),
        "step of OMD": np.median(curves["eta"], -1).T.tolist(),
        "random share": float(found["random"]["share"].max()),
        "exact": {name: gaps[0, -1].item() for name, gaps in found["exact"].items()},
        "exact, median": {
            name: np.median(gaps[:, -1]).item() for name, gaps in found["exact"].items()
        },
        "sampled": {name: gaps[:, -1].mean().item() for name, gaps in found["sampled"].items()},
    }
