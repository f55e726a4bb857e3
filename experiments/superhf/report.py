"""The plots and the page of superhf."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.superhf import CLAIM, PAPER
from experiments.superhf.config import Config
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Runs = Mapping[str, Mapping[str, np.ndarray]]
MEAN: dict[str, Any] = {"centre": "mean", "spread": "t", "units": "worlds"}


def write_report(
    job: Run,
    config: Config,
    found: Mapping[str, Mapping],
    claims: Sequence[Claim],
    tables: Sequence[Table],
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, {study.replace(" ", "-"): flat(x) for study, x in found.items()})
    figures = {
        "fixed_points": show_panels(
            point_panels(found["fixed points"]),
            "Where training ends",
            f"Online fixed points for B = {config.samples}; each point is a beta, from "
            f"{config.betas[0]:g} at the right to {config.betas[-1]:g} at the left. Collision: the "
            "chance that two prompts get the same answer.",
            "proxy rises with collision and gold falls",
        ),
        "rates": show_panels(
            rate_panels(config, found["rates"], found["absent"]),
            "Learning rates",
            f"Gained after {config.superbatches} superbatches. SuperHF draws {config.samples} "
            "answers to a prompt for each update, PPO one; PPO does not diverge here, it only "
            "depends more on the rate. Never met: the overrated answer has no mass.",
            "SuperHF gains as much proxy at all rates from 0.1 on; its gold falls unless the "
            "overrated answer is absent",
        ),
        "early": show_panels(
            early_panels(config, found["early"]),
            "Stopped early",
            f"Gold after {config.early} superbatches, and mass on the overrated answer, which the "
            f"reference gives {config.rare:g}.",
            "gold falls with beta, faster for the reverse direction",
        ),
    }
    write_page(
        job.out,
        CLAIM,
        lead="Sample B answers to a prompt, keep the best by a proxy, maximise its likelihood with "
        "a KL prior to the first model, repeat.",
        paper=PAPER,
        claims=claims,
        figures=figures,
        tables=tables,
    )


def flat(arrays: Mapping) -> dict[str, np.ndarray]:
    """name/measure -> array."""
    found = {}
    for name, value in arrays.items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{k}": x for k, x in value.items()}
        else:
            found[name] = value
    return found


def point_panels(points: Mapping[str, np.ndarray]) -> list[Panel]:
    """Rewards and the calibration error against collision, traced by beta."""
    collision = points["collision"].mean(0)
    order = np.argsort(collision)

    def traced(name: str) -> Series:
        return band(collision[order], points[name][:, order], **MEAN)

    return [
        Panel(
            "reward",
            "collision across prompts",
            "mean reward",
            {"proxy": traced("proxy"), "gold": traced("gold")},
        ),
        Panel(
            "calibration",
            "collision across prompts",
            "expected error",
            {"calibration": traced("calibration")},
        ),
    ]


def rate_panels(config: Config, rates: Runs, absent: Runs) -> list[Panel]:
    """Gains against the rate."""

    def gain(runs: Mapping[str, np.ndarray], measure: str) -> Series:
        return band(config.rates, runs[measure][..., -1] - runs[measure][..., 0], units="worlds")

    return [
        Panel(
            title,
            "rate",
            f"gain of {measure}",
            {name: gain(runs, measure) for name, runs in study.items()},
            log_x=True,
        )
        for title, study, measure in (
            ("proxy", rates, "proxy"),
            ("gold", rates, "gold"),
            ("gold, overrated answer never met", absent, "gold"),
        )
    ]


def early_panels(config: Config, early: Runs) -> list[Panel]:
    """Ends against beta, in both directions."""
    return [
        Panel(
            title,
            "beta",
            label,
            {
                f"{name} KL": band(config.early_betas, runs[measure][..., -1], **MEAN)
                for name, runs in early.items()
            },
        )
        for title, label, measure in (
            ("gold", "mean gold", "gold"),
            ("overrated answer", "mass", "hack"),
        )
    ]
