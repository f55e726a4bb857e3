"""Is it better to learn only from the answers of which a reward model is sure?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.pf_ppo.bandit import bandit_study
from experiments.pf_ppo.claims import all_claims, final, leads
from experiments.pf_ppo.config import Config
from experiments.pf_ppo.filtered import NAMES
from experiments.pf_ppo.puzzles import REWARDS, puzzle_study
from experiments.pf_ppo.report import write_report
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.reports.intervals import mean_interval
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]


def run(config: Config, job: Run) -> Outcome:
    """The bandit under every reward model, and number puzzles."""
    works = {"bandit": bandit_study, "puzzles": puzzle_study}
    stages = run_stages(job, {name: partial(work, config) for name, work in works.items()})
    claims = all_claims(config, stages["bandit"])
    table = filter_table(config, stages)
    write_report(job, config, stages, claims, table)
    return Outcome(claims, numbers=summary(config, stages), table=table)


def filter_table(config: Config, stages: Mapping[str, Arrays]) -> Table:
    """R^2 and gold of each filter."""
    bandit, puzzles = stages["bandit"], stages["puzzles"]
    rows = [
        (
            name,
            bandit["r2"][:, 0, i].mean(),
            final(bandit, 0, name).mean(),
            final(bandit, 1, name).mean(),
            puzzles["r2"][:, i].mean(),
            puzzles["gold"][:, 0, i, -1].mean(),
            puzzles["gold"][:, 1, i, -1].mean(),
        )
        for i, name in enumerate(NAMES)
    ]
    headers = (
        "filter",
        "R^2",
        "gold, whitened after",
        "before",
        "puzzles: R^2",
        "right",
        "by verifier",
    )
    return Table(
        f"After {config.iterations} iterations, mean of {config.num_seeds} worlds",
        headers,
        rows,
        note=f"puzzles: {puzzles['start'].mean():.3f} right before PPO; the reward model orders "
        f"{puzzles['accuracy'].mean():.3f} of right and wrong answers",
    )


def summary(config: Config, stages: Mapping[str, Arrays]) -> dict:
    """Means over worlds, and 95% intervals of leads over no filter."""
    bandit, puzzles = stages["bandit"], stages["puzzles"]
    models = {"whitened after": 0, "whitened before": 1} | {
        f"edge {edge:g}, amplitude {amplitude:g}": i + 2
        for i, (edge, amplitude) in enumerate(config.models()[1:])
    }
    right = puzzles["gold"][..., -1]
    return {
        "gold": {
            model: {name: final(bandit, i, name).mean() for name in NAMES}
            for model, i in models.items()
        },
        "lead": {
            model: {
                name: [
                    leads(bandit, i, name).mean(),
                    *mean_interval(leads(bandit, i, name)),
                    int(np.sum(leads(bandit, i, name) > 0)),
                ]
                for name in NAMES[1:]
            }
            for model, i in models.items()
        },
        "r2": {
            model: dict(zip(NAMES, bandit["r2"][:, i].mean(0).tolist(), strict=True))
            for model, i in models.items()
        },
        "groups that differ": bandit["informative"].mean((0, 2)).tolist(),
        "puzzles: lead": {
            reward: {
                name: [x.mean(), *mean_interval(x)]
                for name, x in zip(NAMES[1:], (right[:, i, 1:] - right[:, i, :1]).T, strict=True)
            }
            for i, reward in enumerate(REWARDS)
        },
        "puzzles: change by PPO": {
            reward: dict(zip(NAMES, (right[:, i].T - puzzles["start"]).mean(-1), strict=True))
            for i, reward in enumerate(REWARDS)
        },
        "puzzles: groups that differ": puzzles["informative"].mean((0, 2)).tolist(),
        "puzzles: accuracy": puzzles["accuracy"].mean(),
    }
