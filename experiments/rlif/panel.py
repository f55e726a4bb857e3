"""The run and the page of the pendulum."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from experiments.rlif import PAPER
from experiments.rlif.claims import best_clone, swing_claims
from experiments.rlif.config import Config
from experiments.rlif.pendulum import SWINGERS, swing_scores
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.reports.intervals import mean_text
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]


def run_pendulum(config: Config, job: Run) -> Outcome:
    """All experts, RLIF in all its variants, and the imitators."""
    found = run_stages(job, {"pendulum": partial(swing_scores, config)})["pendulum"]
    claims, table = swing_claims(config, found), swing_table(config, found)
    write_pendulum(job, config, found, claims, table)
    numbers = {
        "returns": {name: found[name].tolist() for name in ("low", "high")},
        "means": {name: x[..., -1].mean(1).tolist() for name, x in found.items() if x.ndim == 3},
    }
    return Outcome(claims, numbers=numbers, table=table)


def swing_table(config: Config, found: Arrays) -> Table:
    """Learners as rows, experts as columns."""
    last = {name: x[..., -1] for name, x in found.items() if x.ndim == 3}
    rivals = [best_clone(config, last, i) for i in range(len(config.swing.shares))]
    rows = [("expert", *(mean_text(x) for x in found["expert"]))]
    rows += [(f"RLIF, {name}", *(mean_text(x) for x in last[name])) for name in SWINGERS]
    rows.append(
        (
            "best imitator",
            *(f"{mean_text(last[name][i])} ({name})" for i, name in enumerate(rivals)),
        )
    )
    return Table(
        "Score: mean over seeds and its interval",
        ("learner", *(f"expert at {share:.0%}" for share in config.swing.shares)),
        rows,
        note="0 is uniform torques, 1 the best agent",
    )


def write_pendulum(
    job: Run, config: Config, found: Arrays, claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figure, and writes report.html."""
    save_stages(job.out, {"pendulum": found})
    drawn = {
        "pendulum": show_panels(
            swing_panels(config, found),
            "The pendulum",
            "Networks: score without noise from uniform torques (0) to the best agent (1), whose "
            "critic is the teacher; experts are its earlier checkpoints. Then the curves of each "
            "expert.",
            "RLIF stays high as the expert gets worse, the imitators fall with it",
            columns=2,
            share_y=True,
        )
    }
    write_page(
        job.out,
        "Interventions as reward: the pendulum",
        paper=PAPER,
        lead="Reward -1 for each intervention, 0 otherwise, and nothing else; networks.",
        claims=claims,
        figures=drawn,
        table=table,
    )


def swing_panels(config: Config, found: Arrays) -> list[Panel]:
    """Score against that of the expert, then curves, a panel for each expert."""
    swing = config.swing
    order = np.argsort(swing.shares)
    last = {name: x[..., -1] for name, x in found.items() if x.ndim == 3}
    rivals = [best_clone(config, last, i) for i in range(len(swing.shares))]
    lines = {name: last[name] for name in SWINGERS} | {"expert": found["expert"]}
    lines["best imitator"] = np.stack([last[name][i] for i, name in enumerate(rivals)])
    x = np.array(swing.shares)[order]
    steps = np.arange(1, swing.points + 1) * (swing.steps // swing.points)
    items = [
        Panel(
            "after training",
            "score asked of the expert",
            "score",
            {name: seeds(x, values[order].T) for name, values in lines.items()},
            levels={"best agent": 1.0},
        )
    ]
    for i, share in enumerate(swing.shares):
        curves = {name: found[name][i] for name in SWINGERS}
        curves["best imitator"] = found[rivals[i]][i]
        drawn = {name: seeds(steps, values) for name, values in curves.items()}
        levels = {"expert, mean": found["expert"][i].mean()}
        items.append(Panel(f"expert at {share:.0%}", "steps", "score", drawn, levels=levels))
    return items


def seeds(x: Sequence[float] | np.ndarray, values: np.ndarray) -> Series:
    """Mean and range over seeds of values [seeds, X]."""
    return band(x, values, centre="mean")
