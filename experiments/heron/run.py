"""HERON: does a ranking of factors do what the true weights do, in any units?"""

from collections.abc import Mapping
from functools import partial

import jax
import numpy as np

from experiments.heron.changes import run_changed
from experiments.heron.choices import RANKINGS, ranking_study, scale_study
from experiments.heron.claims import (
    pendulum_claims,
    ranking_claims,
    rival_claims,
    scale_claims,
    shortfall,
    standardised,
)
from experiments.heron.config import Config
from experiments.heron.report import write_report
from experiments.heron.swing_up import (
    sums,
    train_on_heron,
    train_on_standardised,
    train_on_sums,
)
from experiments.heron.traffic_report import run_traffic
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]
LAST = 5  # one part in so many of the rounds counts as the end of training


def run(config: Config, job: Run) -> Outcome:
    """Part A: units; part B: rankings and margins; part C: the pendulum.

    With `panel`, the junctions alone; with `changed`, part C alone in changed worlds.
    """
    if config.panel:
        return run_traffic(config, job)

    key, size = jax.random.key(config.seed), config.swing_up
    if config.changed:
        return run_changed(config, job, key)

    choices = {
        "scales": partial(scale_study, config),
        "rankings": partial(ranking_study, config),
    }
    trained = {
        "sums": partial(train_on_sums, size, key),
        "heron": partial(train_on_heron, size, key),
        "standardised": partial(train_on_standardised, size, key),
    }
    stages = run_stages(job, choices, x64=True) | run_stages(job, trained)
    summed, learnt = stages["sums"], stages["heron"]
    returns = dict(zip(sums(config.swing_up), summed["return"], strict=True))
    tuned = stages["standardised"]["return"]
    returns |= {standardised(beta): each for beta, each in zip(size.betas, tuned, strict=True)}
    returns["HERON, odd unit"] = learnt["return"]
    ends = {name: end(curves) for name, curves in returns.items()}
    untrained = learnt["return"][:, 0]
    claims = [
        *scale_claims(config, stages["scales"]),
        *ranking_claims(config, stages["rankings"]),
        *pendulum_claims(ends, untrained),
        *rival_claims(ends, untrained),
    ]
    table = returns_table(config, ends, untrained)
    write_report(job, config, stages, returns, claims, table)
    return Outcome(claims, numbers=summary(stages), table=table)


def end(curves: np.ndarray) -> np.ndarray:
    """Mean over the last rounds, of curves [..., rounds]."""
    return curves[..., -max(1, curves.shape[-1] // LAST) :].mean(-1)


def returns_table(config: Config, ends: Mapping[str, np.ndarray], untrained: np.ndarray) -> Table:
    """Methods as rows."""

    def row(name: str, values: np.ndarray, last: str | None) -> tuple[str | None, ...]:
        return (name, *(f"{f(values):.0f}" for f in (np.mean, np.min, np.max)), last)

    truth = ends["true reward"]
    rows = [row(name, each, f"{shortfall(truth, each).max():.3f}") for name, each in ends.items()]
    rows.append(row("nothing yet", untrained, None))
    size = config.swing_up
    return Table(
        f"Pendulum: true return at the end of training, {size.num_seeds} seeds",
        ("trained on", "mean", "worst seed", "best seed", "largest shortfall"),
        rows,
        note=f"mean over the last rounds, one in {LAST} of {size.warmup + size.rounds}; odd unit: "
        f"u^2 times {size.unit:g}",
    )


def summary(stages: Mapping[str, Arrays]) -> dict:
    """Means over seeds: chosen factors, shares decided at each level."""
    scales, rankings, learnt = stages["scales"], stages["rankings"], stages["heron"]
    methods = ("HERON", "weighted sum", "standardised sum")
    return {
        "scales": {name: scales[name].mean(1).tolist() for name in methods},
        "rankings": dict(zip(RANKINGS, rankings["chosen"].mean(2).tolist(), strict=True)),
        "decided": (1 - rankings["levels"][0, ..., -1].mean(1)).tolist(),
        "pendulum": {
            name: end(learnt[name]).mean().item() for name in ("return", "decided", "accuracy")
        },
    }
