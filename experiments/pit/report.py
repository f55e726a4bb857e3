"""The plots and the page of pit."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.pit import CLAIM, PAPER
from experiments.pit.config import Config
from experiments.pit.learners import AGAIN, EDITOR, PIT, RANDOM, REVERSED
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
MEAN: dict[str, Any] = {"centre": "mean", "spread": "t", "units": "worlds"}


def write_report(
    job: Run,
    config: Config,
    found: Mapping[str, Arrays],
    claims: Sequence[Claim],
    tables: Sequence[Table],
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, found)
    figures = {
        "rounds": show_panels(
            round_panels(config, found["closed"]),
            "Quality by rounds",
            "Mean quality of answers, from those of a bad policy. Left: improvers and the best of "
            "as many answers of that policy by a reward model. Right: PIT by KL weight.",
            "PIT jumps in the first round and creeps after it; the editor crawls, as do labels at "
            "random",
        ),
        "training": show_panels(
            training_panels(config, found["trained"]),
            "A trained table",
            "Left: distance to the closed form. Right: mean quality after one round, with that of "
            "the closed form.",
            "the exact gradient falls to the closed form, PPO on drawn answers comes near",
        ),
    }
    write_page(
        job.out,
        CLAIM,
        lead="Fit the gap of an answer over a reference to pairs, train a policy that reads the "
        "reference on it, improve answers round by round.",
        paper=PAPER,
        claims=claims,
        figures=figures,
        tables=tables,
    )


def round_panels(config: Config, closed: Arrays) -> list[Panel]:
    """E q by rounds."""
    times = np.arange(config.rounds + 1)
    highest = {"highest": closed["highest"].mean()}
    named = {name: closed[name] for name in (PIT, AGAIN, EDITOR, RANDOM)}
    weights = {f"beta {config.beta:g}": closed[PIT]}
    weights |= {f"beta {b:g}": closed[f"{PIT}, beta {b:g}"] for b in config.betas}
    return [
        Panel(
            title,
            "round k",
            "E q",
            {name: band(times, x, **MEAN) for name, x in curves.items()},
            levels=levels,
        )
        for title, curves, levels in (
            ("improvers", named, {"RLHF": closed["RLHF"].mean()} | highest),
            ("KL weight", weights, highest),
        )
    ]


def training_panels(config: Config, trained: Arrays) -> list[Panel]:
    """Distance and quality against the share of the training."""
    shares = np.linspace(0, 1, trained["exact"].shape[1])
    curves = {"exact gradient": trained["exact"], "PPO, drawn answers": trained["sampled"]}
    levels = {
        "closed form": trained["optimum, exact"][:, 1].mean(),
        "closed form, drawn references": trained["optimum, sampled"][:, 1].mean(),
    }
    return [
        Panel(
            title,
            "share of the steps",
            label,
            {name: band(shares, x[..., i], **MEAN) for name, x in curves.items()},
            levels=marks,
        )
        for i, (title, label, marks) in enumerate(
            (
                ("distance", "total variation", {}),
                ("one round", "E q", levels),
            )
        )
    ]


def round_table(config: Config, closed: Arrays) -> Table:
    """Means over worlds by improver."""
    rows = []
    for name in (
        PIT,
        *(f"{PIT}, beta {b:g}" for b in config.betas),
        EDITOR,
        RANDOM,
        REVERSED,
        AGAIN,
    ):
        label = f"{PIT}, beta {config.beta:g}" if name == PIT else name
        copied = closed[f"copied: {name}"].mean() if f"copied: {name}" in closed else ""
        rows.append((label, *closed[name].mean(0), closed[f"win rate: {name}"].mean(), copied))
    return Table(
        f"E q by rounds, means of {config.num_seeds} worlds",
        ("improver", *(f"{k}" for k in range(config.rounds + 1)), "win rate", "copied"),
        rows,
        note="win rate of y_1 over y_0, ties at a half; copied: y_1 = y_0",
    )


def course_table(config: Config, course: Arrays) -> Table:
    """What a round of the small model brings, by the references it was trained on."""
    rows = []
    for name, x in course.items():
        low, high = (f"{y:.3f}" for y in x.std(0, ddof=1))
        rows.append((name, *x.mean(0), f"{low}, {high}"))
    return Table(
        f"Gain of one round by the references of the training, {config.course.steps} steps, means "
        f"of {config.num_seeds} worlds",
        ("references", "on answers of the data", "of the RLHF policy", "sd"),
        rows,
    )
