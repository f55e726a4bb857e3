"""PRO: does a longer ranking teach more than a pair, and do dynamic temperatures help?"""

from collections.abc import Mapping

import numpy as np

from experiments.pro.claims import world_claims
from experiments.pro.config import Config
from experiments.pro.methods import METHODS
from experiments.pro.report import write_report
from experiments.pro.world import MEASURES, train_all
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages


def run(config: Config, job: Run) -> Outcome:
    """One stage, its claims, the report."""
    found = run_stages(job, {"worlds": lambda: train_all(config)})["worlds"]
    claims = world_claims(config, found)
    table = measure_table(config, found)
    write_report(job, config, found, claims, table)
    return Outcome(claims, numbers_of(config, found), table)


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


def numbers_of(config: Config, found: Mapping[str, np.ndarray]) -> dict:
    """Means by method and n."""
    return {
        name: {
            f"n = {n}": dict(zip(MEASURES, runs[:, i].mean(axis=0).tolist(), strict=True))
            for i, n in enumerate(config.lengths)
        }
        for name, runs in found.items()
    }
