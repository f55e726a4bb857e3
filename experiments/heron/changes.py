"""Part C where mass and friction are changed after training; the unit is a seed."""

from collections.abc import Mapping
from functools import partial

import jax
import numpy as np

from experiments.heron import PAPER
from experiments.heron.claims import shortfall, standardised
from experiments.heron.config import Config
from experiments.heron.swing_up import (
    CHANGED,
    train_on_heron,
    train_on_standardised,
    train_on_sums,
)
from rlhf_jax.reports.claims import Claim, Outcome, Table, behind_gates
from rlhf_jax.reports.intervals import mean_claim
from rlhf_jax.reports.pages import save_stages, write_page
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]
SUMS = ("true reward", "weighted sum, odd unit")
MOST, LEARNT = 0.15, -200  # as without a change


def run_changed(config: Config, job: Run, key: jax.Array) -> Outcome:
    """The pendulum, true returns of the last actors in every world."""
    size = config.swing_up
    works = {
        "sums": partial(train_on_sums, size, key, SUMS),
        "heron": partial(train_on_heron, size, key),
        "standardised": partial(train_on_standardised, size, key),
    }
    stages = run_stages(job, works)
    returns = dict(zip(SUMS, stages["sums"]["changed"], strict=True))
    tuned = stages["standardised"]["changed"]
    returns |= {standardised(beta): each for beta, each in zip(size.betas, tuned, strict=True)}
    returns["HERON, odd unit"] = stages["heron"]["changed"]
    claims, table = changed_claims(returns), changed_table(returns)
    save_stages(job.out, stages)
    write_page(
        job.out,
        "HERON: a pendulum of another mass",
        lead="Policies of the pendulum where mass or friction are not those of training.",
        paper=PAPER,
        claims=claims,
        figures={},
        table=table,
    )
    return Outcome(claims, {"best sum": best_sum(returns)[0]}, table)


def best_sum(returns: Arrays) -> tuple[str, np.ndarray]:
    """The standardised sum with the best mean return as trained, over the same seeds."""
    swept = [name for name in returns if name.startswith("standardised")]
    name = max(swept, key=lambda name: returns[name][:, 0].mean())
    return name, returns[name]


def changed_claims(returns: Arrays) -> list[Claim]:
    """HERON against the true reward and the tuned sum in each world."""
    truth, heron = returns["true reward"], returns["HERON, odd unit"]
    plain, (_, rival) = returns["weighted sum, odd unit"], best_sum(returns)
    about = {"kind": "paper", "source": "robust to changed environments"}
    gate = mean_claim(
        "pendulum, true reward, as trained: mean true return of the last actor",
        truth[:, 0],
        ">=",
        LEARNT,
        kind="ours",
        source="the task is learnt; 0 at best",
        baseline=("weighted sum, odd unit", plain[:, 0].mean()),
    )
    claims = []
    for i, world in enumerate(CHANGED):
        claims += [
            mean_claim(
                f"pendulum, {world}: mean shortfall of HERON from the true reward",
                shortfall(truth[:, i], heron[:, i]),
                "<=",
                MOST,
                baseline=("weighted sum, odd unit", shortfall(truth[:, i], plain[:, i]).mean()),
                **about,
            ),
            mean_claim(
                f"pendulum, {world}: lead of HERON over the best standardised sum",
                heron[:, i] - rival[:, i],
                ">",
                0,
                baseline=("weighted sum, odd unit", (plain - rival)[:, i].mean()),
                **about,
            ),
        ]
    return behind_gates([gate], claims)


def changed_table(returns: Arrays) -> Table:
    """Methods as rows, worlds as columns."""

    def cell(values: np.ndarray) -> str:
        return f"{values.mean():.0f} [{values.min():.0f}, {values.max():.0f}]"

    rows = [
        (name, *(cell(each[:, i]) for i in range(len(CHANGED)))) for name, each in returns.items()
    ]
    return Table(
        "Pendulum: true return of the last actor, mean [worst, best seed]",
        ("trained on", *CHANGED),
        rows,
    )
