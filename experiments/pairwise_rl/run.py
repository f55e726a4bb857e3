"""Does a verdict over an anchor replace a reward that is calibrated over prompts?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.pairwise_rl.claims import all_claims
from experiments.pairwise_rl.config import Config
from experiments.pairwise_rl.judges import MEASURES, judge_study
from experiments.pairwise_rl.optimise import (
    BASELINES,
    at_budget,
    bandit_study,
    exact_at_budget,
)
from experiments.pairwise_rl.report import write_report
from experiments.pairwise_rl.strings import MODELS, string_study
from experiments.pairwise_rl.world import SOURCES
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]
ERRORS = ("one order", "mean probability", "mean margin")


def run(config: Config, job: Run) -> Outcome:
    """PPO on a bandit, tables that judge, transformers that judge."""
    works = {"bandit": bandit_study, "judges": judge_study, "strings": string_study}
    stages = run_stages(job, {name: partial(work, config) for name, work in works.items()})
    claims = all_claims(config, stages)
    table = budget_table(config, stages["bandit"])
    write_report(job, config, stages, claims, table)
    return Outcome(claims, numbers=summary(config, stages), table=table)


def budget_table(config: Config, bandit: Arrays) -> Table:
    """Win rate of each reward at the KL budget."""
    wins = {name: at_budget(config, bandit, name) for name in BASELINES}
    exact = exact_at_budget(bandit)
    rows = [
        (
            source,
            *(_win_rate(wins[name][source]) for name in BASELINES),
            _win_rate(exact[source]),
            f"{bandit['prompt share'][:, i].mean():.2f}",
        )
        for i, source in enumerate(SOURCES)
    ]
    return Table(
        f"Win rate over the anchor at KL {config.budget:g}, mean of {config.num_seeds} worlds",
        ("reward", "no baseline", "mean of the others", "exact optimum", "variance by prompt"),
        rows,
        note=f"reference policy {bandit['reference wins'].mean():.4f}; the exact optimum of the "
        "pairwise reward in two orders is the best policy of this KL; a dash: in some worlds every "
        "policy stays below this KL",
    )


def _win_rate(found: np.ndarray) -> str | None:
    """Mean over worlds, or None if one of them lacks a policy at the budget."""
    return f"{found.mean():.4f}" if np.isfinite(found).all() else None


def summary(config: Config, stages: Mapping[str, Arrays]) -> dict:
    """Means over worlds."""
    bandit, strings = stages["bandit"], stages["strings"]
    wins = {name: at_budget(config, bandit, name) for name in BASELINES}
    return {
        "wins": {
            name: {source: x.mean() for source, x in each.items()} for name, each in wins.items()
        },
        "worst and best world": {source: [x.min(), x.max()] for source, x in wins["none"].items()},
        "reference wins": bandit["reference wins"].mean(),
        "exact wins": {name: x.mean() for name, x in exact_at_budget(bandit).items()},
        "variance by prompt": dict(
            zip(SOURCES, bandit["prompt share"].mean(0).tolist(), strict=True)
        ),
        "errors of P": dict(zip(ERRORS, bandit["errors"].mean(0).tolist(), strict=True)),
        "one order right": bandit["one order right"].mean(),
        "judges": {
            name: dict(zip(MEASURES, x.mean(0).tolist(), strict=True))
            for name, x in stages["judges"].items()
        },
        "strings": {
            f"{size} pairs": dict(
                zip(MODELS, strings["accuracy"][:, i].mean(0).tolist(), strict=True)
            )
            for i, size in enumerate(config.strings.sizes)
        },
        "bias of the string judge": strings["bias"].mean(0).tolist(),
    }
