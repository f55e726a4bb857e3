"""Fine-grained RLHF: do rewards of segments learn faster, and do their weights steer answers?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.fine_grained_rlhf.answers import answers_claims, answers_table, held_out
from experiments.fine_grained_rlhf.claims import (
    density_claims,
    facts_claims,
    measured,
    updates_to_share,
)
from experiments.fine_grained_rlhf.config import Config
from experiments.fine_grained_rlhf.density import train_density, updates_to
from experiments.fine_grained_rlhf.facts import MEASURES, settings, train_facts
from experiments.fine_grained_rlhf.report import write_report
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]


def run(config: Config, job: Run) -> Outcome:
    """Part A: density; part B: facts under three heads; part C, given its data: marked answers."""
    works = {"density": partial(train_density, config), "facts": partial(train_facts, config)}
    stages = run_stages(job, works)
    speeds = reached(config, stages["density"]["good"])
    claims = [*density_claims(config, speeds), *facts_claims(config, stages["facts"])]
    tables = [facts_table(config, stages["facts"])]
    numbers = summary(config, speeds, stages["facts"])
    if config.qa_feedback is not None:
        found = held_out(config, job)
        stages |= {
            "answers": {f"{head}/{x}": y for head, xs in found.items() for x, y in xs.items()}
        }
        claims += answers_claims(found)
        tables.append(answers_table(found))
        numbers["answers"] = [
            dict(zip(tables[1].headers, row, strict=True)) for row in tables[1].rows
        ]
    write_report(job, config, stages, speeds, claims, tables)
    return Outcome(claims, numbers=numbers, table=tables[-1])


def reached(config: Config, good: np.ndarray) -> np.ndarray:
    """[arms, lengths, seeds] updates to the goal; a run that never reaches it counts as the last
    update, which flatters it."""
    size = config.density
    found = updates_to(np.asarray(good, float), goal=size.goal, window=size.window)
    return np.where(np.isnan(found), size.updates, found)


def facts_table(config: Config, runs: Arrays) -> Table:
    """Settings as rows, means over seeds at the end."""
    last = config.facts.last
    rows = [
        (name, *(f"{x:.3f}" for x in runs[name][:, -last:].mean((0, 1))))
        for name in settings(config.facts)
    ]
    return Table(
        f"Facts: the last {last} of {config.facts.updates} updates, {config.num_seeds} seeds",
        ("setting", *MEASURES),
        rows,
        note="relevance, factuality: share of segments; coverage: of six facts; return: before KL."
        + (
            "" if config.qa_feedback else " The marked answers are left out: no --qa-feedback FILE."
        ),
    )


def summary(config: Config, speeds: np.ndarray, runs: Arrays) -> dict:
    """Updates [arms][lengths] as median, least, most; means of measures at the end."""
    last = config.facts.last
    spread = np.stack([np.median(speeds, -1), speeds.min(-1), speeds.max(-1)], -1)
    ends = {name: runs[name][:, -last:].mean((0, 1)).tolist() for name in settings(config.facts)}
    training = {name: runs[name][..., -1].mean().item() for name in ("full", "whole answer")}
    share = {
        name: updates_to_share(measured(runs[name])["return"], last).tolist() for name in training
    }
    return {"updates": spread.tolist(), "ends": ends, "training": training, "to 80%": share}
