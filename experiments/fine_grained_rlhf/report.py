"""The plots and the page of fine_grained_rlhf."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.fine_grained_rlhf import CLAIM, PAPER
from experiments.fine_grained_rlhf.config import Config
from experiments.fine_grained_rlhf.density import ARMS
from experiments.fine_grained_rlhf.facts import MEASURES
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]


def write_report(
    job: Run,
    config: Config,
    stages: Mapping[str, Arrays],
    speeds: np.ndarray,
    claims: Sequence[Claim],
    tables: Sequence[Table],
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, stages)
    figures = {
        "density": show_panels(
            density_panels(config, stages["density"]["good"], speeds),
            "Density",
            "Left, updates until "
            f"{config.density.goal:.0%} of the segments are good (mean of {config.density.window} "
            "batches), against the number of segments; right, the share of good segments at the "
            "largest number. Both arms have the same returns.",
            "the gap between the two grows with the number of segments",
        ),
        "steering": show_panels(
            steering_panels(config, stages["facts"]),
            "Weight of relevance",
            "Left, coverage of the six facts against the share of relevant segments as w1 varies "
            f"({', '.join(f'{w:g}' for w in config.facts.sweep)}); right, segments of an answer.",
            "relevance is bought with coverage, and the answer shrinks",
        ),
        "training": show_panels(
            training_panels(stages["facts"]),
            "The same rewards, paid at once or at the end",
            "Return before the KL penalty, and segments of an answer, under the full reward.",
            "rewards of segments are ahead early; both end alike",
        ),
    }
    write_page(
        job.out,
        CLAIM,
        paper=PAPER,
        lead="Reward heads score the segments of an answer, each its own kind, and are paid at the "
        "ends of their segments. PPO on tables, with the sum of the same rewards as baseline.",
        claims=claims,
        tables=tables,
        figures=figures,
    )


def density_panels(config: Config, good: np.ndarray, speeds: np.ndarray) -> list[Panel]:
    """Updates to the goal [arms, lengths, seeds], and the curves of the longest answers."""
    size = config.density
    to_goal = {arm: band(size.lengths, each.T) for arm, each in zip(ARMS, speeds, strict=True)}
    updates = np.arange(good.shape[-1])
    curves = {arm: band(updates, each[-1]) for arm, each in zip(ARMS, good, strict=True)}
    return [
        Panel("", "segments", "updates to the goal", to_goal, log_x=True, log_y=True),
        Panel(
            f"{size.lengths[-1]} segments",
            "update",
            "share of good segments",
            curves,
            levels={"goal": size.goal},
        ),
    ]


def steering_panels(config: Config, runs: Arrays) -> list[Panel]:
    """Ends along the sweep of w1."""
    size = config.facts
    ends = np.stack([runs[f"w1 = {w:g}"][:, -size.last :].mean(1) for w in size.sweep])
    relevance, coverage = (ends[..., MEASURES.index(name)] for name in ("relevance", "coverage"))
    length = ends[..., MEASURES.index("length")]
    front = Series(relevance.mean(1), coverage.mean(1))
    return [
        Panel("", "share of relevant segments", "coverage", {"mean over seeds": front}),
        Panel("", "w1", "segments", {"length": band(size.sweep, length.T)}, log_x=True),
    ]


def training_panels(runs: Arrays) -> list[Panel]:
    """Return and length of both arms at every update."""
    arms = dict(zip(ARMS, ("full", "whole answer"), strict=True))
    updates = np.arange(runs["full"].shape[1])
    items = []
    for measure, label in (("return", "return"), ("length", "segments")):
        place = MEASURES.index(measure)
        curves = {
            arm: band(updates, runs[name][..., place], centre="mean") for arm, name in arms.items()
        }
        items.append(Panel("", "update", label, curves))
    return items
