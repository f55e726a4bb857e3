"""Does a model that is trained on gaps over a reference improve answers, round after round?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.pit.claims import all_claims
from experiments.pit.config import Config
from experiments.pit.learners import PIT, run_closed, run_course, run_trained
from experiments.pit.report import course_table, round_table, write_report
from experiments.pit.world import World, make_worlds
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.training import Run, run_stages


def run(config: Config, job: Run) -> Outcome:
    """Closed forms in float64, then trained tables and a small model."""
    made = run_stages(job, {"worlds": lambda: make_worlds(config)._asdict()}, x64=True)["worlds"]
    worlds = World(**made)
    found = run_stages(job, {"closed": partial(run_closed, config, worlds)}, x64=True)
    works = {"trained": run_trained, "course": run_course}
    found |= run_stages(job, {name: partial(work, config, worlds) for name, work in works.items()})
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
