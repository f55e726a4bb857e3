"""Does a model that is trained on gaps over a reference improve answers, round after round?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.pit.claims import all_claims
from experiments.pit.config import Config
from experiments.pit.learners import PIT, run_closed, run_course, run_trained
from experiments.pit.report import course_table, round_table, write_report
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.training import Run, run_stages


def run(config: Config, job: Run) -> Outcome:
    """Closed forms in float64, then trained tables and a small model."""
    found = run_stages(job, {"closed": partial(run_closed, config)}, x64=True)
    works = {"trained": partial(run_trained, config), "course": partial(run_course, config)}
    found |= run_stages(job, works)
    claims = all_claims(config, found["closed"], found["trained"])
    tables = [round_table(config, found["closed"]), course_table(config, found["course"])]
    write_report(job, config, found, claims, tables)
    return Outcome(claims, summary(found), tables[0])


def summary(found: Mapping[str, Mapping[str, np.ndarray]]) -> dict:
    """Means over worlds, and the lowest win rate of a world."""
    closed = {name: x.mean(0).tolist() for name, x in found["closed"].items()}
    ends = {name: x[:, -1].mean(0).tolist() for name, x in found["trained"].items() if x.ndim > 2}
    course = {name: x.mean(0).tolist() for name, x in found["course"].items()}
    lowest = float(found["closed"][f"win rate: {PIT}"].min())
    return {"closed": closed, "trained": ends, "course": course, "lowest win rate": lowest}
