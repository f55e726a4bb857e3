"""Does a shift of rewards by prompt matter, to P3O and to PPO?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.p3o.bandit import bandit_study, gradient_study, group_study
from experiments.p3o.claims import all_claims, ends, string_ends
from experiments.p3o.config import Config
from experiments.p3o.learners import GROUPED, LEARNERS
from experiments.p3o.report import write_report
from experiments.p3o.strings import METHODS, string_study
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]


def run(config: Config, job: Run) -> Outcome:
    """Gradients by enumeration, a bandit, groups of more answers, a transformer."""
    works = {
        "gradients": gradient_study,
        "bandit": bandit_study,
        "groups": group_study,
        "strings": string_study,
    }
    stages = run_stages(job, {name: partial(work, config) for name, work in works.items()})
    claims = all_claims(config, stages)
    table = objective_table(config, stages["bandit"])
    write_report(job, config, stages, claims, table)
    return Outcome(claims, numbers=summary(config, stages), table=table)


def objective_table(config: Config, bandit: Arrays) -> Table:
    """Where each method ends, by shift."""
    count = 2 + len(config.shifts)
    shifts = [s for s, _ in config.settings()[:count]]
    columns = [i for _, i in sorted(zip(shifts, range(count), strict=True))]
    found = [ends(config, bandit, i) for i in range(count)]
    rows = [(name, *(found[i][name].mean() for i in columns)) for name in LEARNERS]
    return Table(
        f"E r - beta KL after {config.iterations} iterations, mean of {config.num_seeds} worlds",
        ("method", *(f"s = {shifts[i]:g}" for i in columns)),
        rows,
        note=f"the optimum has {bandit['optimum'][:, 0].mean():.3f}",
    )


def summary(config: Config, stages: Mapping[str, Arrays]) -> dict:
    """Means over worlds."""
    bandit, strings = stages["bandit"], stages["strings"]
    return {
        "optimum": bandit["optimum"][:, 0].mean(),
        "objective": [
            {"shift": shift, "beta": beta}
            | {name: x.mean() for name, x in ends(config, bandit, i).items()}
            for i, (shift, beta) in enumerate(config.settings())
        ],
        "range over worlds": {
            name: [[x.min(), x.max()] for x in (ends(config, bandit, i)[name] for i in range(2))]
            for name in LEARNERS
        },
        "groups": {
            name: {k: stages["groups"][f"{name}/{k}"].mean() for k in config.groups}
            for name in GROUPED
        },
        "strings": {name: string_ends(config, strings, name).mean(0).tolist() for name in METHODS},
    }
