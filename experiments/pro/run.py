"""PRO: does a longer ranking teach more than a pair, and do dynamic temperatures help?"""

from collections.abc import Mapping

import numpy as np

from experiments.pro.claims import string_claims, world_claims
from experiments.pro.config import Config
from experiments.pro.methods import METHODS
from experiments.pro.report import write_report
from experiments.pro.strings import train_strings
from experiments.pro.world import MEASURES, train_all
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages


def run(config: Config, job: Run) -> Outcome:
    """Log-linear policies, a transformer on strings, the claims, the report."""
    stages = run_stages(
        job, {"worlds": lambda: train_all(config), "strings": lambda: train_strings(config)}
    )
    worlds, strings = stages["worlds"], stages["strings"]
    claims = [*world_claims(config, worlds), *string_claims(config, strings)]
    table = measure_table(config, worlds)
    write_report(job, config, stages, claims, table)
    return Outcome(claims, numbers_of(config, stages), table)


def measure_table(config: Config, worlds: Mapping[str, np.ndarray]) -> Table:
    """Accuracy and reward of each method for each n."""
    heads = [f"{what}, n = {n}" for what in MEASURES for n in config.lengths]
    rows = [(name, *(float(x) for x in worlds[name].mean(axis=0).T.ravel())) for name in METHODS]
    return Table(
        f"Pairs of held-out answers in gold's order, and gold of the policy, {config.num_seeds} "
        "worlds",
        ("", *heads),
        rows,
    )


def numbers_of(config: Config, stages: Mapping[str, Mapping[str, np.ndarray]]) -> dict:
    """Means by stage, method and n; those of strings at the shortest and the longest n."""
    lengths = {"worlds": config.lengths, "strings": (config.lengths[0], config.lengths[-1])}
    return {
        stage: {
            name: {
                f"n = {n}": dict(zip(MEASURES, runs[:, i].mean(axis=0).tolist(), strict=True))
                for i, n in enumerate(lengths[stage])
            }
            for name, runs in found.items()
        }
        for stage, found in stages.items()
    }
