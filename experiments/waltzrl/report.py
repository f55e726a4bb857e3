"""The figures and the page of the waltzrl experiment."""

from collections.abc import Sequence

import numpy as np

from experiments.waltzrl import CLAIM, PAPER
from experiments.waltzrl.claims import Arrays, curves, ends
from experiments.waltzrl.config import Config
from experiments.waltzrl.training import METHODS
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

JUDGING = ("both", "both, label term kept", "both, DIR alone")
WORDS = {
    "attacks": "attack success",
    "refusals": "over-refusal",
    "labels": "label accuracy",
    "triggers": "share of drafts flagged",
}


def write_report(
    job: Run, config: Config, runs: Arrays, claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, {"agents": runs})
    stages = (
        f"The conversation agent learns from step {config.first_stage} on, one agent from the "
        "start. All measures are exact."
    )
    figures = {
        "rates": show_panels(
            [panel(config, runs, x, tuple(METHODS)[:3]) for x in ("attacks", "refusals")],
            "Attacks and over-refusals",
            stages,
            f"with both agents both rates fall again after step {config.first_stage}, below one "
            "agent and below the frozen one",
            share_y=True,
        ),
        "labels": show_panels(
            [panel(config, runs, x, JUDGING) for x in ("labels", "triggers")],
            "What the feedback agent says",
            stages,
            "accuracy stays without the label term of the second stage, and is lost with DIR alone",
        ),
        "trade": show_panels(
            [trade_panel(runs)],
            "Attacks against over-refusals",
            "Each seed's end; before training, one agent and two.",
            "both agents are nearest to the lower left corner",
        ),
    }
    write_page(
        job.out,
        CLAIM,
        lead="A draft, feedback with a label, a revision if it is flagged; each turn is a sample "
        "of its own agent.",
        paper=PAPER,
        claims=claims,
        figures=figures,
        table=table,
    )


def panel(config: Config, runs: Arrays, measure: str, methods: Sequence[str]) -> Panel:
    """A measure against steps."""
    steps = np.arange(0, config.steps() + 1, config.every)
    series = {name: band(steps, curves(runs, measure, name)) for name in methods}
    return Panel(WORDS[measure], "step", WORDS[measure], series)


def trade_panel(runs: Arrays) -> Panel:
    """Both rates of every seed."""
    found = {}
    for name in ("one agent", "both"):
        x, y = (curves(runs, rate, name)[:1, 0] for rate in ("attacks", "refusals"))
        found[f"{name}, before"] = Series(x, y)
    for name in tuple(METHODS)[:3]:
        found[name] = Series(ends(runs, "attacks", name), ends(runs, "refusals", name))
    return Panel("", "attack success", "over-refusal", found)


def agent_table(config: Config, runs: Arrays) -> Table:
    """Means over seeds, before and at the end."""
    names = ("attacks", "refusals", "triggers", "labels", "spoils")
    before = [
        (f"{name}, before", *(curves(runs, x, name)[:, 0].mean() for x in names))
        for name in ("one agent", "both")
    ]
    after = [(name, *(ends(runs, x, name).mean() for x in names)) for name in METHODS]
    return Table(
        f"Means of {config.num_seeds} seeds",
        ("", "attacks", "over-refusals", "flagged", "label right", "spoilt"),
        [*before, *after],
        note="spoilt: a good draft and a bad last answer",
    )
