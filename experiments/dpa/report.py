"""The plots and the page of dpa."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.dpa import CLAIM, PAPER
from experiments.dpa.claims import lost, single, support
from experiments.dpa.config import Config
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
MEAN: dict[str, Any] = {"centre": "mean", "spread": "t", "units": "worlds"}


def write_report(
    job: Run, config: Config, runs: Arrays, claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, {"methods": runs})
    figures = {
        "front": show_panels(
            front_panels(config, runs),
            "The front by rounds",
            f"Means over worlds. Each curve is one policy asked for {config.asked} directions from "
            f"-{config.angle:g} to {config.angle:g} degrees, left to right. Single points are "
            "policies without directions.",
            "curves of later rounds lie further out; one direction gives a point beyond the last",
        ),
        "support": show_panels(
            support_panels(config, runs),
            "Support value and control",
            "Left: mean over directions v of the highest E[v . r] that any direction asked for "
            "gives. Right: the second reward by the angle asked for, minus that at 0 degrees.",
            "the support value rises steeply at first and the curves of the second reward steepen",
        ),
    }
    write_page(
        job.out,
        CLAIM,
        lead="Draw a direction for each prompt, sample K answers, keep the best under v . r, "
        "fine-tune the policy that reads v on it, repeat.",
        paper=PAPER,
        claims=claims,
        figures=figures,
        table=table,
    )


def front_panels(config: Config, runs: Arrays) -> list[Panel]:
    """(E r_2, E r_1) of every round, and of the others at the end."""
    dpa, middle = runs["DPA"].mean(0), config.asked // 2
    rounds = {
        f"DPA, round {t}": Series(dpa[t, :, 1], dpa[t, :, 0]) for t in range(1, config.rounds + 1)
    }
    labels = runs["labels"].mean(0)[-1]
    ends = {
        f"DPA, round {config.rounds}": rounds[f"DPA, round {config.rounds}"],
        "labels of their own": Series(labels[:, 1], labels[:, 0]),
    }
    for name in ("one direction", "direction not read", "K = 1"):
        point = runs[name].mean(0)[-1, middle]
        ends[name] = Series(point[1:], point[:1])
    labels_of_axes = ("mean second reward", "mean first reward")
    return [
        Panel("rounds", *labels_of_axes, rounds),
        Panel("at the end", *labels_of_axes, ends),
    ]


def support_panels(config: Config, runs: Arrays) -> list[Panel]:
    """Support values by rounds; the second reward by angle."""
    times = np.arange(config.rounds + 1)
    found = {
        "DPA": support(config, runs["DPA"]),
        "one direction": single(config, runs["one direction"]),
        "direction not read": single(config, runs["direction not read"]),
        "K = 1": support(config, runs["K = 1"]),
    }
    angles = np.linspace(-config.angle, config.angle, config.asked)
    second = runs["DPA"][..., 1]
    turned = second - second[..., config.asked // 2, None]
    control = {
        f"DPA, round {t}": band(angles, turned[:, t], **MEAN) for t in range(1, config.rounds + 1)
    }
    level = support(config, runs["labels"])[:, -1].mean()
    return [
        Panel(
            "support value",
            "round",
            "mean of E[v . r]",
            {name: band(times, x, **MEAN) for name, x in found.items()},
            levels={"labels of their own, 1 round": level},
        ),
        Panel("control", "angle asked for (degrees)", "second reward minus that at 0", control),
    ]


def support_table(config: Config, runs: Arrays) -> Table:
    """Support by rounds, and what the direction asked for loses."""
    rows = []
    for name, x in runs.items():
        read = name in ("DPA", "labels", "K = 1")
        means = (support if read else single)(config, x).mean(0)
        later = (means[2], means[-1]) if len(means) > 2 else ("", "")
        largest = lost(config, x[:, -1]).max() if read else ""
        rows.append((name, means[0], means[1], *later, largest))
    return Table(
        f"Support value, means of {config.num_seeds} worlds",
        ("learned by", "start", "1 round", "2", f"{config.rounds}", "lost"),
        rows,
        note="lost: by asking for v itself and not for the best direction for v, the most in any "
        "world and direction, at the end",
    )
