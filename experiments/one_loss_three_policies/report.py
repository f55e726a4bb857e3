"""The plot and the page of one_loss_three_policies."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.one_loss_three_policies import PAPER
from experiments.one_loss_three_policies.config import Config
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.pages import show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

FLOOR = 1e-8  # float32 rounding
POINTS = 300  # of a curve
Distances = Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]  # task, policy, method


def write_report(job: Run, config: Config, distances: Distances, claims: Sequence[Claim]) -> None:
    """Saves the figure and writes report.html with it."""
    lead = (
        "One loss function per method trains a table, a log-linear policy and a transformer. Every "
        "answer, or pair of answers, is weighted by its probability, so the optimum is known: "
        "pi_ref exp(u / beta) / Z, with u the reward, or for IPO the chance to beat a reference "
        "answer."
    )
    shown = show_panels(
        distance_panels(distances, config),
        "Distance to the closed form",
        "Largest distance over the states. The learning rate falls to zero along a cosine, and "
        "Adam's steps with it.",
        "total variation to the closed form falls to float32 rounding in all six panels",
        columns=3,
        share_y=True,
    )
    write_page(
        job.out,
        "One loss, three policies",
        paper=PAPER,
        lead=lead,
        claims=claims,
        figures={"distance": shown},
    )


def distance_panels(distances: Distances, config: Config) -> list[Panel]:
    """Tasks down, methods across; a line for each policy and beta."""
    first = next(iter(distances.values()))
    methods = list(next(iter(first.values())))
    return [
        Panel(
            f"{method}, {task}",
            "optimiser steps",
            "total variation",
            {
                f"{policy}, beta {beta:g}": thinned(curves[method][:, i])
                for policy, curves in by_policy.items()
                for i, beta in enumerate(config.betas)
            },
            log_y=True,
            floor=FLOOR,
        )
        for task, by_policy in distances.items()
        for method in methods
    ]


def thinned(runs: np.ndarray) -> Series:
    """Median and range over seeds of [seeds, steps + 1], at a few of all steps."""
    shown = np.unique(np.geomspace(1, runs.shape[-1], POINTS).astype(int)) - 1
    return band(shown, runs[:, shown])
