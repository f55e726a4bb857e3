"""What does it cost, in labels, to be right for every group of people in every context?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.trilemma.claims import all_claims
from experiments.trilemma.collapse import measure_collapse
from experiments.trilemma.config import Config
from experiments.trilemma.report import triangle_table, write_report
from experiments.trilemma.studies import (
    CURVES,
    measure_cores,
    measure_linear,
    measure_mixes,
    measure_tables,
    measure_triangle,
)
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.training import Run, run_stages


def run(config: Config, job: Run) -> Outcome:
    """Labels to a target, four systems, the price of flips, the collapse, two ways out."""
    works = {
        "tables": measure_tables,
        "linear": measure_linear,
        "triangle": measure_triangle,
        "mixes": measure_mixes,
        "cores": measure_cores,
        "collapse": measure_collapse,
    }
    stages = run_stages(job, {name: partial(work, config) for name, work in works.items()})
    stages["costs"] = stages.pop("tables") | stages.pop("linear")
    claims, table = all_claims(config, stages), triangle_table(config, stages["triangle"])
    write_report(job, config, stages, claims, table)
    return Outcome(claims, summary(stages), table)


def summary(stages: Mapping[str, Mapping[str, np.ndarray]]) -> dict:
    """Medians of labels and of log-odds, means of errors, over seeds."""
    return {
        "labels": {name: np.median(stages["costs"][name], -1).tolist() for name in CURVES},
        "labels by attack": np.median(stages["costs"]["prices"], -1).tolist(),
        "errors by mix": stages["mixes"]["errors"].mean(-2).tolist(),
        "errors by core values": {name: float(x.mean()) for name, x in stages["cores"].items()},
        "log-odds": {name: np.median(x, -1).tolist() for name, x in stages["collapse"].items()},
    }
