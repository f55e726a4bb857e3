"""The plot and the page of one_loss_three_policies."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.one_loss_three_policies.config import Config
from rlhf_jax.reports import html, plots
from rlhf_jax.reports.claims import Claim, write_text
from rlhf_jax.training import Run

FLOOR = 1e-8  # float32 rounding; zero has no place on a logarithmic axis
Distances = Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]  # task, policy, method


def write_report(job: Run, config: Config, distances: Distances, claims: Sequence[Claim]) -> None:
    """Saves the figure as PNG and writes report.html with it."""
    figure = distance_figure(distances, config)
    path = plots.save_figure(figure, job.out / "plots" / "distance.png")
    lead = (
        "One loss function per method trains a table, a log-linear policy and a transformer. Every "
        "answer, or pair of answers, is weighted by its probability, so the optimum is known: "
        "pi_ref exp(u / beta) / Z, with u the reward, or for IPO the chance to beat a reference "
        "answer."
    )
    caption = (
        f"Median over {config.num_seeds} seeds, of the largest distance over the states. The "
        "learning rate falls to zero along a cosine, and Adam's steps with it."
    )
    alt = "total variation to the closed form falls to float32 rounding in all six panels"
    page = html.page(
        "One loss, three policies",
        html.section("Claims", html.claims_list(claims)),
        html.section("Distance to the closed form", html.figure(path, alt=alt, caption=caption)),
        lead=lead,
    )
    write_text(job.out / "report.html", page)


def distance_figure(distances: Distances, config: Config) -> Figure:
    """Tasks down, methods across; colour is the policy, line style is beta."""
    first = next(iter(distances.values()))
    methods = list(next(iter(first.values())))
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(10, 5.6), layout="constrained", facecolor="white")
        panels = figure.subplots(len(distances), len(methods), sharex=True, sharey=True)
        for row, (task, by_policy) in enumerate(distances.items()):
            for column, method in enumerate(methods):
                axes = panels[row, column]
                for i, curves in enumerate(by_policy.values()):
                    draw(axes, curves[method], plots.COLOURS[i])
                axes.set_title(f"{method}, {task}", loc="left")
                axes.set_yscale("log")
                axes.grid(visible=True, color=plots.PALE, linewidth=0.6)
                axes.spines[["top", "right"]].set_visible(False)
        for axes in panels[:, 0]:
            axes.set_ylabel("total variation")
        for axes in panels[-1]:
            axes.set_xlabel("optimiser steps")
        names = [Line2D([], [], color=plots.COLOURS[i], label=name) for i, name in enumerate(first)]
        names += [
            Line2D([], [], color="#555555", linestyle=plots.LINES[i], label=f"beta {beta:g}")
            for i, beta in enumerate(config.betas)
        ]
        figure.legend(handles=names, loc="outside lower center", ncols=len(names), frameon=False)
    return figure


def draw(axes, distances: np.ndarray, colour: str) -> None:
    """One line for each beta, from distances [seeds, betas, steps + 1]."""
    shown = np.unique(np.geomspace(1, distances.shape[-1], 300).astype(int)) - 1
    for i, curve in enumerate(np.median(distances, axis=0)):
        look = {"color": colour, "linestyle": plots.LINES[i % len(plots.LINES)], "linewidth": 1.2}
        axes.plot(shown, np.maximum(curve[shown], FLOOR), **look)
