"""The plots and the page of feedback_types."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.feedback_types import PAPER
from experiments.feedback_types.config import Config
from experiments.feedback_types.learner import RULES
from experiments.feedback_types.tabular import LOOP_RULES
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import Shown, save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel, band_words, panels
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]


def write_report(
    job: Run, config: Config, found: Mapping[str, Arrays], claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, found)
    curves = type_panel(found["types"])
    drawn = {
        "queries": show_panels(
            query_panels(found["queries"]),
            "Which question",
            "Left: cosine of the estimate (posterior mean) and the hidden reward. Right: share of "
            "the questions so far that were near-copies, half of every pool.",
            "information rules rise fast and ask no near-copies, entropy and volume removal ask "
            "them most of the time and end below random",
        ),
        "types": Shown(
            type_figure(found["types"], curves),
            "Which feedback",
            "Left: the same learner on records of one type. Right: every seed after "
            f"{config.records} records, with their means. {band_words([curves])}",
            "stops, rankings and demonstrations teach most in a record, comparisons and critiques "
            "least; the mixture is between its parts",
        ),
        "loop": show_panels(
            loop_panels(found["loop"]),
            "Questions about trajectories of a tabular world",
            "Loss of soft value by planning with the estimate, against the number of answers. The "
            "pool is rolled out with the present plan and with the uniform policy.",
            "regret falls with every rule",
        ),
    }
    write_page(
        job.out,
        "Active queries and types of feedback",
        lead="One likelihood, reward-rational choice, reads every kind of feedback; a particle "
        "posterior on the sphere says which question to ask next.",
        paper=PAPER,
        claims=claims,
        figures=drawn,
        table=table,
    )


def means(runs: np.ndarray, *, start: int = 0) -> Series:
    """Mean and middle half over seeds of [seeds, N]."""
    x = start + np.arange(runs.shape[1])
    return band(x, runs, centre="mean", spread="quartiles")


def query_panels(arrays: Arrays) -> list[Panel]:
    """Cosines, and what was asked."""
    so_far = np.cumsum(arrays["copies"], -1) / np.arange(1, arrays["copies"].shape[-1] + 1)
    both = {
        ("Estimate", "cosine to the hidden reward"): (arrays["cosine"], 0),
        ("Questions", "share of near-copies so far"): (so_far, 1),
    }
    return [
        Panel(
            title,
            "queries",
            label,
            {name: means(each, start=start) for name, each in zip(RULES, runs, strict=True)},
            levels={"0.95": 0.95} if start == 0 else {},
        )
        for (title, label), (runs, start) in both.items()
    ]


def type_panel(arrays: Arrays) -> Panel:
    """Cosine against records of each type."""
    series = {name: means(runs, start=1) for name, runs in arrays.items()}
    return Panel("Estimate", "records", "cosine to the hidden reward", series)


def type_figure(arrays: Arrays, left: Panel) -> Figure:
    """The curves, and a point for each seed beside its mean."""
    figure = panels([left, Panel("After the last record", "", left.y_label, {})])
    curves, axes = figure.axes
    colours = {name: line.get_color() for name, line in zip(arrays, curves.lines, strict=True)}
    order = sorted(arrays, key=lambda name: -arrays[name][:, -1].mean())
    for place, name in enumerate(order):
        last = arrays[name][:, -1]
        axes.hlines(last.mean(), place - 0.35, place + 0.35, color=colours[name], linewidth=2)
        x = place + np.linspace(-0.22, 0.22, len(last))
        axes.plot(x, np.sort(last), "o", color=colours[name], markersize=3)
    least = min(runs[:, -1].min() for runs in arrays.values())
    axes.set_ylim(least - 0.1 * (1 - least), 1 + 0.05 * (1 - least))
    axes.set_xticks(range(len(order)), order, rotation=25, ha="right")
    curves.set_ylim(bottom=0)
    return figure


def loop_panels(arrays: Arrays) -> list[Panel]:
    """Regret, in the unit of rewards and as a share of that before the first answer."""
    series = dict(zip(LOOP_RULES, arrays["regret"], strict=True))
    shares = {name: runs / runs[:, :1].mean() for name, runs in series.items()}
    return [
        Panel(
            "Regret",
            "queries",
            "soft value lost",
            {name: means(runs) for name, runs in series.items()},
        ),
        Panel(
            "Regret over that before any answer",
            "queries",
            "share",
            {name: means(runs) for name, runs in shares.items()},
            levels={"0.1": 0.1},
            log_y=True,
        ),
    ]
