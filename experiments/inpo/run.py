"""INPO on cycles and random games: regression is mirror descent, and what breaks it."""

from collections.abc import Callable

import jax
import numpy as np

from experiments.inpo import stages
from experiments.inpo.config import Config
from experiments.inpo.report import write_report
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.reports.rates import fit_rate, rate_claim
from rlhf_jax.training import Run, run_stage

CYCLE = "RPS(0.9)"
REF_GAP = 0.0834  # of the reference on the cycle


def run(config: Config, job: Run) -> Outcome:
    """Checks of one round, rounds in three kinds of game, rates, a transformer."""

    def stage(name: str, work: Callable, *args) -> dict:
        def double(_):
            with jax.enable_x64(True):
                return work(config, *args), {}

        return run_stage(job, name.replace("/", "-"), double).arrays

    checks = stage("checks", stages.run_checks)
    gaps = {name: stage(f"rounds-{name}", stages.run_rounds, name) for name in stages.NAMES}
    hedge = stage("hedge", stages.run_hedge)
    schedules = {
        name: stage(f"schedule-{name}", stages.run_schedule, name) for name in stages.NAMES
    }
    language = run_stage(job, "transformer", lambda _: (stages.run_transformer(config), {})).arrays[
        "gap"
    ]

    averages = {
        name: {method: tail(run).mean(-1) for method, run in runs.items()}
        for name, runs in gaps.items()
    }
    averages[CYCLE]["INPO, transformer"] = tail(language).mean(-1)
    claims = [
        Claim("one round: regression less mirror step", checks["solved"].max(), "<", 1e-10),
        Claim("one round: Eq. 7 less Eq. 8, range", checks["constant"].max(), "<=", 1e-12),
        *round_claims(gaps, averages),
        *rate_claims(config, hedge, schedules),
    ]
    rows = [
        (method, *(cell(averages[name].get(method)) for name in stages.NAMES))
        for method in averages[CYCLE]
    ]
    rows.insert(0, ("reference", *(cell(gaps[name]["INPO, sampled"][:, 0]) for name in gaps)))
    table = Table(
        "Regularised gap over the last quarter of the rounds, mean over seeds [smallest, largest]",
        ("method", *stages.NAMES),
        rows,
        note=f"beta 0.1, eta 1, {config.rounds} rounds, {config.num_seeds} seeds",
    )
    write_report(job, config, (gaps, hedge, schedules, language), claims, table)
    numbers = {
        "rows": rows,
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
        "exact INPO, largest last gap": {
            name: float(runs["INPO, exact"][:, -1].max()) for name, runs in gaps.items()
        },
    }
    return Outcome(claims, numbers, table)


def tail(gaps: np.ndarray) -> np.ndarray:
    """The last quarter of the rounds of [S, rounds + 1]."""
    return gaps[:, -(gaps.shape[1] // 4) :]


def cell(values: np.ndarray | None) -> str | None:
    """Mean over seeds, and the range."""
    if values is None:
        return None
    return f"{values.mean():.2g} [{values.min():.2g}, {values.max():.2g}]"


def schedule_rate(result: dict):
    """Of KL, after the transient and above rounding."""
    return fit_rate(result["times"], result["kl"], law="power", start=10.0, floor=1e-20)


def round_claims(gaps: dict, averages: dict) -> list[Claim]:
    """Items 2, 3, 6 and 7 of the acceptance list, and the transformer."""
    cycle, random = averages[CYCLE], averages["random"]
    best, better = cycle["best and worst of 8"], cycle["better of 2"]
    uniform = gaps[CYCLE]["uniform pairs"][:, -1]
    exact = max(float(runs["INPO, exact"][:, -1].max()) for runs in gaps.values())
    dpo = tail(gaps[CYCLE]["iterative DPO"]).min()
    return [
        Claim("cycle, sampled INPO: gap, worst seed", cycle["INPO, sampled"].max(), "<=", 0.002),
        Claim("cycle, transformer: gap, worst seed", cycle["INPO, transformer"].max(), "<=", 0.01),
        Claim("exact INPO: last gap, worst game and start", exact, "<=", 1e-10),
        Claim("cycle, iterative DPO: smallest gap", dpo, ">=", 0.4),
        Claim("cycle, uniform pairs: |gap - 0.0834|", abs(uniform - REF_GAP).max(), "<=", 5e-4),
        Claim("random, uniform pairs: median gap", np.median(random["uniform pairs"]), ">=", 0.01),
        Claim("cycle, best and worst of 8: gap, best seed", best.min(), ">", REF_GAP),
        Claim("cycle, best and worst of 8: mean gap, least", best.mean(), ">=", 0.105),
        Claim("cycle, best and worst of 8: mean gap, most", best.mean(), "<=", 0.12),
        Claim("cycle, better of 2: mean gap, least", better.mean(), ">=", 0.0015),
        Claim("cycle, better of 2: mean gap, most", better.mean(), "<=", 0.0025),
    ]


def rate_claims(config: Config, hedge: dict, schedules: dict) -> list[Claim]:
    """Items 4 and 5: Hedge on average and in the last iterate, and Theorem 4's steps."""
    slope = fit_rate(config.hedge_updates, hedge["average"], law="power").slope
    last = hedge["last"][0].min()
    share = max(float((each["kl"] / each["bound"]).max()) for each in schedules.values())
    return [
        Claim("Hedge, average: slope in T, steepest", slope, ">=", -0.6),
        Claim("Hedge, average: slope in T, flattest", slope, "<=", -0.4),
        Claim("Hedge, last on RPS(1) from the reference: smallest gap", last, ">=", 0.25),
        *(
            rate_claim(
                f"decaying steps, {name}: slope of KL",
                schedule_rate(each),
                -1.0,
                source="Theorem 4",
            )
            for name, each in schedules.items()
        ),
        Claim("decaying steps: KL over 32 C^2 / (beta^2 (T + 1))", share, "<=", 1.0),
    ]
