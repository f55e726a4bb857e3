"""INPO on cycles and random games: regression is mirror descent, and what breaks it."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from experiments.inpo import claims, stages
from experiments.inpo.claims import CYCLE, schedule_rate, tail
from experiments.inpo.config import Config
from experiments.inpo.report import write_report
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.reports.rates import fit_rate
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]
Runs = Mapping[str, Arrays]


def run(config: Config, job: Run) -> Outcome:
    """Rounds in three kinds of game, rates, a transformer."""
    folders = {name: name.replace("/", "-") for name in stages.NAMES}
    works = {
        **{f"rounds-{folders[name]}": partial(stages.run_rounds, config, name) for name in folders},
        "hedge": partial(stages.run_hedge, config),
        **{
            f"schedule-{folders[name]}": partial(stages.run_schedule, config, name)
            for name in folders
        },
    }
    found = run_stages(job, works, x64=True)
    gaps = {name: found[f"rounds-{folder}"] for name, folder in folders.items()}
    hedge = found["hedge"]
    schedules = {name: found[f"schedule-{folder}"] for name, folder in folders.items()}
    transformer = {"transformer": partial(stages.run_transformer, config)}
    language = run_stages(job, transformer)["transformer"]["gap"]

    late = {
        name: {method: tail(run).mean(-1) for method, run in runs.items()}
        for name, runs in gaps.items()
    }
    late[CYCLE]["INPO, transformer"] = tail(language).mean(-1)
    made = [
        *claims.convergence_claims(gaps, late),
        *claims.failure_claims(gaps, late),
        *claims.rival_claims(late),
        *claims.rate_claims(config, hedge, schedules),
    ]
    rows = [
        (method, *(cell(late[name].get(method)) for name in stages.NAMES)) for method in late[CYCLE]
    ]
    rows.insert(0, ("reference", *(cell(gaps[name]["INPO, sampled"][:, 0]) for name in gaps)))
    table = Table(
        "Regularised gap over the last quarter of the rounds, mean over seeds [smallest, largest]",
        ("method", *stages.NAMES),
        rows,
        note=f"beta 0.1, eta 1, {config.rounds} rounds, {config.num_seeds} seeds",
    )
    write_report(job, config, (gaps, hedge, schedules, language), made, table)
    numbers = {"rows": rows} | summary(config, gaps, hedge, schedules, late)
    return Outcome(made, numbers, table)


def summary(
    config: Config, gaps: Runs, hedge: Arrays, schedules: Runs, late: Runs
) -> dict[str, Any]:
    """Rates, floors and the best rival, to be kept beside the table."""
    return {
        "schedule, slope of KL": {
            name: schedule_rate(each).slope for name, each in schedules.items()
        },
        "schedule, largest share of the bound": {
            name: float((each["kl"] / each["bound"]).max()) for name, each in schedules.items()
        },
        "Hedge, slope of the average": fit_rate(
            config.hedge_updates, hedge["average"], law="power"
        ).slope,
        "Hedge, mean over games of the average": hedge["average"].mean(0).tolist(),
        "Hedge, last gap on RPS(1), from the reference": hedge["last"][0].tolist(),
        "Hedge, last gap on RPS(1), smallest over starts": hedge["last"].min(0).tolist(),
        "iterative DPO at its best": {
            name: claims.best_dpo(runs)[0] for name, runs in late.items()
        },
        "exact INPO, largest last gap": {
            name: float(runs["INPO, exact"][:, -1].max()) for name, runs in gaps.items()
        },
    }


def cell(values: np.ndarray | None) -> str | None:
    """Mean over seeds, and the range."""
    if values is None:
        return None
    return f"{values.mean():.2g} [{values.min():.2g}, {values.max():.2g}]"
