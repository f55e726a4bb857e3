"""The figure and the page of the seq2seq_rm experiment."""

from collections.abc import Sequence

import numpy as np

from experiments.seq2seq_rm import CLAIM, PAPER
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.training import Run


def write_report(job: Run, distances: np.ndarray, claims: Sequence[Claim], table: Table) -> None:
    """Saves the data and the figure, and writes report.html."""
    save_stages(job.out, {"train": {"tv": distances}})
    shown = show_panels(
        [distance_panel(distances)],
        "Training",
        "Total variation to the closed form.",
        "the distance falls to rounding error",
    )
    write_page(
        job.out,
        CLAIM,
        paper=PAPER,
        lead=PAPER,
        claims=claims,
        table=table,
        figures={"distance": shown},
    )


def distance_panel(distances: np.ndarray) -> Panel:
    """Distances [num_seeds, steps + 1] against updates."""
    curve = band(np.arange(distances.shape[1]), distances)
    return Panel("", "update", "total variation", {"DPO": curve}, log_y=True)
