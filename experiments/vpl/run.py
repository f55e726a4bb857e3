"""VPL: does a latent inferred from eight comparisons serve users who want opposite things?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.vpl.claims import all_claims
from experiments.vpl.config import Config
from experiments.vpl.grid import grid_users
from experiments.vpl.report import write_report
from experiments.vpl.studies import RULES, four_users, scales, sweep, two_users
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]
SWEPT = ("vpl", "identified", "identified by a draw", "kl")


def run(config: Config, job: Run) -> Outcome:
    """Five stages, their claims, the report."""
    works = {
        "two": partial(two_users, config),
        "four": partial(four_users, config),
        "sweep": partial(sweep, config),
        "scales": partial(scales, config),
        "grid": partial(grid_users, config),
    }
    stages = run_stages(job, works)
    claims = all_claims(config, stages)
    table = accuracy_table(config, stages)
    write_report(job, config, stages, claims, table)
    return Outcome(claims, numbers=summary(config, stages), table=table)


def accuracy_table(config: Config, stages: Mapping[str, Arrays]) -> Table:
    """Accuracy on unseen pairs by comparisons shown."""
    rows = []
    for name, users in (("two", "u and -u"), ("four", "four random users")):
        each = stages[name]
        means, worst = each["vpl"].mean(0), each["vpl"][:, -1].min()
        rows.append((f"{users}, VPL", *(f"{x:.3f}" for x in means), f"{worst:.3f}"))
        for other in ("no latent", "oracle"):
            flat = f"{each[other].mean():.3f}"
            rows.append(
                (f"{users}, {other}", *[flat] * len(config.sizes), f"{each[other].min():.3f}")
            )
    return Table(
        f"Accuracy on unseen comparisons, {config.num_seeds} seeds",
        ("users and model", *(f"{size} shown" for size in config.sizes), "worst seed"),
        rows,
        note="against the noiseless preference; no latent is Bradley-Terry, the oracle knows who "
        "the user is; neither looks at what is shown",
    )


def summary(config: Config, stages: Mapping[str, Arrays]) -> dict:
    """Means over seeds."""
    sweep, scaled, grid = stages["sweep"], stages["scales"], stages["grid"]
    rules = {
        name: dict(zip(RULES, stages[name]["active"].mean(0).tolist(), strict=True))
        for name in ("two", "four")
    }
    return {
        "identified": {name: stages[name]["identified"].mean() for name in ("two", "four")},
        "worst_identified": stages["two"]["identified"].min(),
        "sweep": {
            f"{beta:g}": {name: sweep[name][:, i].mean() for name in SWEPT}
            for i, beta in enumerate(config.betas)
        },
        "ranges": {name: scaled[f"{name} range"].mean(0).tolist() for name in ("raw", "win rate")},
        "accuracy_of_scaled_users": scaled["vpl"].mean(),
        "active": rules,
        "goals": {name: grid[name][:, :, -1].mean(0).tolist() for name in ("vpl", "no latent")},
    }
