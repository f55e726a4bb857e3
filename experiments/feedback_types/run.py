"""Active queries, one likelihood for all feedback, and both together in a tabular world."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.feedback_types import stages, tabular
from experiments.feedback_types.claims import (
    TARGET,
    after,
    best_rival,
    kind_claims,
    loop_claims,
    needed,
    query_claims,
    type_claims,
    wrong_claims,
)
from experiments.feedback_types.config import Config
from experiments.feedback_types.kinds import KINDS
from experiments.feedback_types.report import write_report
from experiments.feedback_types.rules import ASKED, RANDOM
from experiments.feedback_types.stages import DOUBTED, IN_ORDER, ORDERS, PICKED
from experiments.feedback_types.tabular import LOOPS
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]
TARGETS = (0.9, 0.95, 0.98)


def run(config: Config, job: Run) -> Outcome:
    """Rules over one pool, wrong beliefs, kinds of feedback, questions about trajectories."""
    pairs = {
        "queries": partial(stages.active_queries, config),
        "loop": partial(tabular.tabular_loop, config),
    }
    kinds = {"kinds": partial(stages.feedback_kinds, config)}
    # In float32 scores of pairs near a coin flip tie; kinds have none, and half the cost.
    found = run_stages(job, pairs, x64=True) | run_stages(job, kinds)
    cosines = dict(zip(ASKED, found["queries"]["cosine"], strict=True))
    regrets = dict(zip(LOOPS, found["loop"]["regret"], strict=True))
    claims = [
        *query_claims(config, cosines),
        *wrong_claims(config, found["queries"]["wrong"]),
        *type_claims(config, found["kinds"]),
        *kind_claims(config, found["kinds"], cosines),
        *loop_claims(config, regrets),
    ]
    table = query_table(config, cosines, found["queries"]["copies"])
    write_report(job, config, found, claims, table)
    return Outcome(claims, numbers=summary(config, found, cosines, regrets), table=table)


def query_table(config: Config, cosines: Arrays, copies: np.ndarray) -> Table:
    """Rules as rows."""
    marks = sorted({config.queries // 4, config.compared, config.queries})
    rows = []
    for i, (name, runs) in enumerate(cosines.items()):
        medians = [np.median(needed(runs, target)) for target in TARGETS]
        shown = [f"{m:g}" if m <= config.queries else f"> {config.queries}" for m in medians]
        wins = int((runs[:, config.compared] > cosines[RANDOM][:, config.compared]).sum())
        rows.append((name, *runs[:, marks].mean(0), *shown, wins, copies[i].mean()))
    return Table(
        "Cosine of estimate and hidden reward, and queries needed",
        (
            "rule",
            *(f"cosine after {mark}" for mark in marks),
            *(f"queries to {target:g}" for target in TARGETS),
            f"ahead of random after {config.compared}",
            "near-copies asked",
        ),
        rows,
        note=f"means and medians over {config.num_seeds} seeds; half of every pool of "
        f"{config.pool} are near-copies",
    )


def summary(config: Config, found: Mapping[str, Arrays], cosines: Arrays, regrets: Arrays) -> dict:
    """What the table leaves out."""
    kinds, at = found["kinds"], {name: runs[:, config.compared] for name, runs in cosines.items()}
    marks = {"0": 0, "compared": config.compared, "all": config.queries}
    wrong = {
        name: dict(zip(DOUBTED, runs[..., config.compared].mean(-1).tolist(), strict=True))
        for (name, *_), runs in zip(
            stages.wrong_minds(config), found["queries"]["wrong"], strict=True
        )
    }
    return {
        "cosine by rule": {name: runs.mean(0).tolist() for name, runs in cosines.items()},
        "best of the rules for far pairs": {best_rival(at): float(at[best_rival(at)].mean())},
        "learner wrong, mean cosine": wrong,
        "kinds, mean": {
            order: {name: float(x.mean()) for name, x in after(config, kinds, order).items()}
            for order in ORDERS
        },
        "kinds, least": {
            name: float(x.min()) for name, x in after(config, kinds, IN_ORDER).items()
        },
        f"kinds, median records to {TARGET:g}": {
            name: [
                float(np.median(needed(kinds[f"{name}, {order}"], TARGET)) + 1)
                for order in (IN_ORDER, PICKED)
            ]
            for name in KINDS
        },
        "kinds, tr J^-1 / 2": {name: float(kinds[f"{name}, told"].mean()) for name in KINDS},
        "loop, mean regret": {
            name: {mark: float(runs[:, at].mean()) for mark, at in marks.items()}
            for name, runs in regrets.items()
        },
    }
