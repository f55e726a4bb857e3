"""Does one policy that reads a direction serve every trade-off between two rewards?"""

from functools import partial

import numpy as np

from experiments.dpa.claims import all_claims, lost, support
from experiments.dpa.config import Config
from experiments.dpa.learners import run_methods
from experiments.dpa.report import support_table, write_report
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.training import Run, run_stages


def run(config: Config, job: Run) -> Outcome:
    """Five methods in the same worlds, their claims, the report."""
    runs = run_stages(job, {"methods": partial(run_methods, config)})["methods"]
    claims, table = all_claims(config, runs), support_table(config, runs)
    write_report(job, config, runs, claims, table)
    return Outcome(claims, summary(config, runs), table)


def summary(config: Config, runs: dict[str, np.ndarray]) -> dict:
    """Means over worlds."""
    dpa = runs["DPA"]
    return {
        "support": {name: support(config, x).mean(0).tolist() for name, x in runs.items()},
        "front": dpa[:, -1].mean(0).tolist(),
        "lost": float(lost(config, dpa[:, -1]).max()),
    }
