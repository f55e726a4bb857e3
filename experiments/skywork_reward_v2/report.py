"""The figures and the page of skywork_reward_v2."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.skywork_reward_v2 import CLAIM, PAPER
from experiments.skywork_reward_v2.config import Config
from experiments.skywork_reward_v2.rounds import CURATED
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.training import Run

DRAWN = ("raw", "filter", "filter + flip", "judge relabels", "judge labels all", "clean labels")


def write_report(
    job: Run, config: Config, found: Mapping, claims: Sequence[Claim], table: Table
) -> None:
    """Saves the numbers and the figures, and writes report.html with them."""
    save_stages(job.out, {"rounds": {"sizes": config.sizes, **found}})
    figures = {
        "accuracy": show_panels(
            [accuracy_panel(config, found, kind) for kind in ("all", "hard")],
            "Accuracy against pairs",
            f"Noise-free test labels. Hard: style points to the worse answer. A share "
            f"{config.style:g} of the pool's labels is style.",
            "raw stays flat and far below on hard pairs; curated recipes are near 0.95 on both",
            share_y=True,
        ),
        "pairs": show_panels(
            [precision_panel(config, found, way) for way in ("kept", "flipped")],
            "How many curated labels are right",
            f"Share of the kept and of the flipped pairs with the true label; of the pool it is "
            f"{1.0 - 0.5 * config.style:.2f}.",
            "kept pairs are mostly right, flipped ones less so if all discarded pairs are flipped",
        ),
    }
    lead = (
        "Pairs whose labels are partly style are used raw, or kept, flipped and dropped by a gold "
        "model of a few verified pairs, the last round's model and a judge. All reward models are "
        "linear Bradley-Terry fits."
    )
    write_page(job.out, CLAIM, paper=PAPER, lead=lead, claims=claims, figures=figures, table=table)


def accuracy_panel(config: Config, found: Mapping, kind: str) -> Panel:
    """Accuracy against the size of the pool for each recipe."""
    sizes = np.asarray(config.sizes)
    curves = {name: band(sizes, found[f"{kind}/{name}"]) for name in DRAWN}
    levels = {"gold only": float(np.median(found[f"{kind}/gold only"]))}
    return Panel(
        f"{kind} pairs", "pairs in the pool", "accuracy", curves, levels=levels, log_x=True
    )


def precision_panel(config: Config, found: Mapping, way: str) -> Panel:
    """Share of right labels among kept or flipped pairs, where every seed has some."""
    sizes = np.asarray(config.sizes)
    curves = {
        recipe: band(sizes, found[f"rightly {way}/{recipe}"] / found[f"{way}/{recipe}"])
        for recipe in CURATED
        if (found[f"{way}/{recipe}"] > 0).all()
    }
    return Panel(f"{way} pairs", "pairs in the pool", "share right", curves, log_x=True)
