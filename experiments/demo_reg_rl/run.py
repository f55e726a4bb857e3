"""Near the expert: how good is a clone, what does it save, does it replace pessimism?

Data lie in data/<stage>.npz; their axes are in the docstrings of the stages.
"""

from collections.abc import Mapping

import numpy as np

from experiments.demo_reg_rl.claims import (
    clone_claims,
    fast_claims,
    fast_slope,
    feedback_claims,
    lock_claims,
)
from experiments.demo_reg_rl.cloning import clone_kls, linear_kls
from experiments.demo_reg_rl.config import Config
from experiments.demo_reg_rl.feedback import feedback_gaps
from experiments.demo_reg_rl.law_report import run_law
from experiments.demo_reg_rl.linear import linear_runs
from experiments.demo_reg_rl.online import fast_rate, lock_runs, references
from experiments.demo_reg_rl.report import write_report
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.reports.rates import Rate, fit_rate
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]


def run(config: Config, job: Run) -> Outcome:
    """Clones, online learning on random MDPs and on locks, rewards from comparisons.

    With `panel`, the law alone.
    """
    if config.panel:
        return run_law(config, job)

    stages = {
        "cloning": lambda: clone_kls(config),
        "linear": lambda: linear_kls(config),
        "fast": lambda: fast_rate(config),
        "lsvi": lambda: linear_runs(config),
        "lock": lambda: lock_runs(config),
        "feedback": lambda: feedback_gaps(config),
    }
    found = run_stages(job, stages)
    rates = {beta: fast_slope(found["fast"], i) for i, beta in enumerate(config.betas)}
    claims = [
        *clone_claims(config, found["cloning"]),
        *fast_claims(found["fast"], config.betas),
        *lock_claims(config, found["lock"]),
        *feedback_claims(config, found["feedback"]),
    ]
    table = lock_table(config, found["lock"])
    write_report(job, config, found, claims, table)
    return Outcome(claims, numbers=summary(config, found, rates), table=table)


def lock_means(config: Config, arrays: Arrays) -> dict[str, np.ndarray]:
    """[references] gaps, means over seeds and the episodes asked for."""
    times = np.asarray(config.lock_times) - 1
    return {name: arrays[name][..., times].mean((0, 2)) for name in ("regret", "optimistic")}


def lock_table(config: Config, arrays: Arrays) -> Table:
    """References as rows, gaps as columns."""
    means = lock_means(config, arrays)
    times = np.asarray(config.lock_times) - 1
    rows = []
    for i, name in enumerate(references(config)):
        gaps = arrays["regret"][:, i].mean(0)[times]
        known = [arrays[key][:, i].mean() for key in ("kl", "beta", "clone")]
        rows.append((name, *known, *gaps, means["regret"][i], means["optimistic"][i]))
    return Table(
        "Combination lock: V* - V",
        (
            *("reference", "KL(expert || ref)", "beta", "reference alone"),
            *(f"T = {time}" for time in config.lock_times),
            *("mean", "mean, optimistic policy"),
        ),
        rows,
        note=f"means over {config.num_seeds} locks; soft greedy in the empirical model, in "
        "the last column soft greedy in the upper bound",
    )


def summary(config: Config, found: Mapping[str, Arrays], rates: Mapping[float, Rate]) -> dict:
    """Constants of cloning, slopes with intervals, gaps of learned rewards."""
    cloning, linear, feedback = (found[name] for name in ("cloning", "linear", "feedback"))
    clones = fit_rate(config.demos, cloning["kl"], law="power")
    return {
        "cloning slope": [clones.slope, clones.low, clones.high],
        "cloning slopes, range": [clones.slopes.min(), clones.slopes.max()],
        "N KL of tables": (cloning["kl"] * np.asarray(config.demos)).mean(0).tolist(),
        "limit for tables": cloning["limit"].mean(),
        "N KL of the log-linear class": (linear["kl"] * np.asarray(config.log_linear)).mean(0),
        "limit for the log-linear class": float(linear["limit"]),
        "fast rate": {f"{beta:g}": [r.slope, r.low, r.high] for beta, r in rates.items()},
        "fast rate, model's policy": {
            f"{beta:g}": fast_slope(found["fast"], i, name="soft regret").slope
            for i, beta in enumerate(config.betas)
        },
        "fast rate, uniform policy": {
            f"{beta:g}": fast_slope(found["fast"], i, name="aimless").slope
            for i, beta in enumerate(config.betas)
        },
        "fast rate, linear MDPs": {
            f"{beta:g}": fast_slope(found["lsvi"], i).slope for i, beta in enumerate(config.betas)
        },
        "feedback": feedback["gap"].mean(0).tolist(),
        "feedback, clone": feedback["clone"].mean(),
        "feedback, true rewards at beta = 0.5": feedback["true"].mean(),
        "feedback, largest gradient left": feedback["residual"].max(),
    }
