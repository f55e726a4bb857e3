"""The plots and the page of one_loss_three_policies."""

from collections.abc import Sequence

import numpy as np

from experiments.one_loss_three_policies.config import Config
from rlhf_jax.reports import html, plots
from rlhf_jax.reports.claims import Claim, write_text
from rlhf_jax.training import Run

FLOOR = 1e-8  # float32 rounding; zero has no place on a logarithmic axis


def write_report(
    job: Run,
    config: Config,
    distances: dict[str, dict[str, dict[str, np.ndarray]]],
    claims: Sequence[Claim],
) -> None:
    """One figure per task and method, saved as PNG, and report.html with all of them."""
    blocks = [html.section("Claims", html.claims_list(claims))]
    for task, by_name in distances.items():
        figures = []
        for method in next(iter(by_name.values())):
            by_policy = {name: curves[method] for name, curves in by_name.items()}
            figure = distance_figure(by_policy, config, f"{method} on the {task} task")
            path = plots.save(figure, job.out / "plots" / f"{task}_{method.lower()}.png")
            alt = f"{method}, {task}: total variation falls with steps for all three policies"
            figures.append(html.figure(path, alt=alt))
        blocks.append(html.section(f"The {task} task", *figures))
    lead = (
        "One loss function per method trains a table, a log-linear policy and a transformer. Every "
        "answer, or pair of answers, is weighted by its probability, so the optimum is known: "
        "pi_ref exp(r / beta) / Z, with r the chance to beat a reference answer in the case of IPO."
    )
    text = html.page("One loss, three policies", *blocks, lead=lead)
    write_text(job.out / "report.html", text)


def distance_figure(by_policy: dict[str, np.ndarray], config: Config, title: str):
    """Median over seeds with the band from best to worst, one curve per policy and beta."""
    series = {}
    for name, distances in by_policy.items():
        shown = np.unique(np.geomspace(1, distances.shape[-1], 200).astype(int)) - 1
        for b, beta in enumerate(config.betas):
            curve = np.maximum(distances[:, b, shown], FLOOR)
            series[f"{name}, beta {beta:g}"] = plots.Series(
                shown, np.median(curve, 0), curve.min(0), curve.max(0)
            )
    return plots.curves(
        series,
        title=title,
        x_label="optimiser steps",
        y_label="total variation to the optimum",
        log_y=True,
    )
