"""The plots and the page of heron."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.heron import PAPER
from experiments.heron.choices import RANKINGS
from experiments.heron.config import Config
from experiments.heron.swing_up import STEPS
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
FACTORS = ("z1", "z2", "z3")


def write_report(
    job: Run,
    config: Config,
    stages: Mapping[str, Arrays],
    returns: Mapping[str, np.ndarray],
    claims: Sequence[Claim],
    table: Table,
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, stages)
    figures = {
        "scales": show_panels(
            scale_panels(config, stages["scales"]),
            "Units of factor 2",
            "Mean factors, in their own units, of the best of "
            f"{config.candidates} offers by each reward, when factor 2 is measured in other units. "
            "Factor 2 is made to conflict with factor 1.",
            "HERON and the standardised sum are flat, the weighted sum drops factor 1 at 100",
            columns=3,
            share_y=True,
        ),
        "rankings": show_panels(
            ranking_panels(config, stages["rankings"]),
            "Ranking and margins",
            "Mean factors of the chosen offers against the margin multiplier sigma, under two "
            "rankings; right, the share of pairs that each level decides under 1, 2, 3.",
            "the factor ranked first leads at small sigma, and gives way as sigma grows",
            columns=3,
        ),
        "pendulum": show_panels(
            pendulum_panels(config, stages, returns),
            "Pendulum",
            "Left, the benchmark's own return of the actor without noise, over "
            f"{config.swing_up.starts} starts that all methods share, against steps in the world; "
            "in the odd unit u^2 is multiplied by "
            f"{config.swing_up.unit:g}. Right, the reward network at its refreshes.",
            "HERON ends where training on the true reward does; the sum in the odd unit stays low",
        ),
    }
    write_page(
        job.out,
        "HERON: factors ranked, not weighed",
        lead="Pairs are compared by a decision tree over ranked factors, a Bradley-Terry reward is "
        "fitted to the verdicts, and a policy is trained on it.",
        paper=PAPER,
        claims=claims,
        figures=figures,
        table=table,
    )


def scale_panels(config: Config, arrays: Arrays) -> list[Panel]:
    """A panel for each factor."""
    methods = ("HERON", "weighted sum", "standardised sum")
    return [
        Panel(
            f"factor {i + 1}",
            "scale of factor 2",
            f"mean {name} of the chosen",
            {method: means(config.scales, arrays[method][..., i].T) for method in methods},
            log_x=True,
        )
        for i, name in enumerate(FACTORS)
    ]


def ranking_panels(config: Config, arrays: Arrays) -> list[Panel]:
    """A panel for each ranking, and one for the levels."""
    items = [
        Panel(
            f"ranking {ranking}",
            "sigma",
            "mean factor of the chosen",
            {
                name: means(config.sigmas, arrays["chosen"][r, ..., i].T)
                for i, name in enumerate(FACTORS)
            },
        )
        for r, ranking in enumerate(RANKINGS)
    ]
    levels = ("decided by z1", "decided by z2", "decided by z3", "undecided")
    shares = {
        name: means(config.sigmas, arrays["levels"][0, ..., level].T)
        for level, name in enumerate(levels)
    }
    return [*items, Panel("levels", "sigma", "share of pairs", shares)]


def pendulum_panels(
    config: Config, stages: Mapping[str, Arrays], returns: Mapping[str, np.ndarray]
) -> list[Panel]:
    """Returns of all methods, and the reward network."""
    size = config.swing_up
    steps = STEPS * size.worlds * (1 + np.arange(size.warmup + size.rounds))
    labels = {"decided": "pairs decided", "accuracy": "decided pairs it gets right"}
    return [
        Panel(
            "true return",
            "steps in the world",
            "return of 200 steps",
            {name: means(steps, curves) for name, curves in returns.items()},
            levels={"untrained": float(stages["heron"]["return"][:, 0].mean())},
        ),
        Panel(
            "HERON's reward network",
            "steps in the world",
            "share",
            {shown: means(steps, stages["heron"][name]) for name, shown in labels.items()},
        ),
    ]


def means(x: Sequence[float] | np.ndarray, values: np.ndarray) -> Series:
    """Mean and range over seeds of values [seeds, X]."""
    return band(x, values, centre="mean")
