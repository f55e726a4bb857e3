"""The plots and the page of feedback_types."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.feedback_types import PAPER
from experiments.feedback_types.claims import after
from experiments.feedback_types.config import Config
from experiments.feedback_types.kinds import KINDS, MIXED, TYPES
from experiments.feedback_types.rules import ASKED
from experiments.feedback_types.stages import DOUBTED, IN_ORDER, wrong_minds
from experiments.feedback_types.tabular import LOOPS
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
    curves = type_panel(found["kinds"])
    drawn = {
        "queries": show_panels(
            query_panels(found["queries"]),
            "Which question",
            "Left: cosine of the estimate (posterior mean) and the hidden reward. Right: share of "
            "the questions so far that were near-copies, half of every pool.",
            "information rules rise fast and ask no near-copies, entropy and volume removal ask "
            "them most of the time and end below random",
        ),
        "wrong": show_panels(
            [wrong_panel(config, found["queries"]["wrong"])],
            "A learner who is wrong about the teacher",
            f"Cosine after {config.compared} queries; the learner takes its own beta for right.",
            "information is ahead of random, and entropy behind it, at every wrong belief",
            columns=1,
        ),
        "kinds": show_panels(
            [information_panel(config, found["kinds"])],
            "What a record of a kind is worth",
            f"Mean error after {config.records} records against what their Fisher information "
            "says; one point for each kind, from the most informative to the least.",
            "all kinds lie near one line",
            columns=1,
        ),
        "types": Shown(
            type_figure(config, found["kinds"], curves),
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
            {name: means(each, start=start) for name, each in zip(ASKED, runs, strict=True)},
            levels={"0.95": 0.95} if start == 0 else {},
        )
        for (title, label), (runs, start) in both.items()
    ]


def type_panel(arrays: Arrays) -> Panel:
    """Cosine against records of each type."""
    shown = {name: arrays[f"{name}, {IN_ORDER}"] for name in (*TYPES, MIXED)}
    series = {name: means(runs, start=1) for name, runs in shown.items()}
    return Panel("Estimate", "records", "cosine to the hidden reward", series)


def wrong_panel(config: Config, cosines: np.ndarray) -> Panel:
    """Cosine of each rule against the learner's beta over the teacher's; mistakes are a table."""
    factors = [factor for _, factor, mistakes in wrong_minds(config) if not mistakes]
    series = {
        name: band(
            factors, cosines[: len(factors), i, :, config.compared].T, centre="mean", spread="t"
        )
        for i, name in enumerate(DOUBTED)
    }
    label = "cosine to the hidden reward"
    return Panel("Wrong beta", "learner's beta over the teacher's", label, series, log_x=True)


def information_panel(config: Config, kinds: Arrays) -> Panel:
    """Mean error of each kind against tr J^-1 / 2, with the line on which both are equal."""
    last = after(config, kinds, IN_ORDER)
    told = {name: kinds[f"{name}, told"].mean() for name in KINDS}
    order = sorted(KINDS, key=lambda name: told[name])
    x = np.array([told[name] for name in order])
    errors = 1 - np.stack([last[name] for name in order], axis=1)
    return Panel(
        "Error and information",
        "tr J^-1 / 2",
        "1 - cosine",
        {"12 kinds": band(x, errors, centre="mean", spread="t")},
        guides={"equal": Series(x, x)},
        log_x=True,
        log_y=True,
    )


def type_figure(config: Config, arrays: Arrays, left: Panel) -> Figure:
    """The curves, and a point for each seed beside its mean."""
    title = f"After {config.records} records"
    figure = panels([left, Panel(title, "", left.y_label, {})])
    curves, axes = figure.axes
    found = after(config, arrays, IN_ORDER)
    shown = {name: found[name] for name in left.series}
    colours = {name: line.get_color() for name, line in zip(shown, curves.lines, strict=True)}
    order = sorted(shown, key=lambda name: -shown[name].mean())
    for place, name in enumerate(order):
        last = shown[name]
        axes.hlines(last.mean(), place - 0.35, place + 0.35, color=colours[name], linewidth=2)
        x = place + np.linspace(-0.22, 0.22, len(last))
        axes.plot(x, np.sort(last), "o", color=colours[name], markersize=3)
    least = min(each.min() for each in shown.values())
    axes.set_ylim(least - 0.1 * (1 - least), 1 + 0.05 * (1 - least))
    axes.set_xticks(range(len(order)), order, rotation=25, ha="right")
    curves.set_ylim(bottom=0)
    return figure


def loop_panels(arrays: Arrays) -> list[Panel]:
    """Regret, in the unit of rewards and as a share of that before the first answer."""
    series = dict(zip(LOOPS, arrays["regret"], strict=True))
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
