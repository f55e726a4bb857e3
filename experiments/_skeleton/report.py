"""The figure and the page of the _skeleton experiment."""

from collections.abc import Sequence

import numpy as np

from experiments._skeleton import CLAIM, PAPER
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import Shown, write_page
from rlhf_jax.reports.panels import Panel, panels
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run


def write_report(job: Run, distances: np.ndarray, claims: Sequence[Claim], table: Table) -> None:
    """Saves the data and the figure, and writes report.html."""
    (job.out / "data").mkdir(exist_ok=True)
    np.savez(job.out / "data" / "distances.npz", distances=distances)
    shown = Shown(
        panels([distance_panel(distances)]),
        "Training",
        "Total variation to the closed form. Median over seeds; the band reaches from the smallest "
        "to the largest.",
        "the distance falls to rounding error",
    )
    write_page(job.out, CLAIM, lead=PAPER, claims=claims, table=table, figures={"distance": shown})


def distance_panel(distances: np.ndarray) -> Panel:
    """Distances [num_seeds, steps + 1] against updates."""
    updates = np.arange(distances.shape[1])
    curve = Series(updates, np.median(distances, 0), distances.min(0), distances.max(0))
    return Panel("", "update", "total variation", {"trained": curve}, log_y=True)
