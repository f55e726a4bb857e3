"""The figures and the page of the waltzrl experiment."""

from collections.abc import Sequence

import numpy as np

from experiments.waltzrl import CLAIM, PAPER
from experiments.waltzrl.claims import Arrays, curves, ends
from experiments.waltzrl.config import Config
from experiments.waltzrl.shop import MEASURED, STAGES
from experiments.waltzrl.training import METHODS
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.intervals import mean_text
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
    job: Run,
    config: Config,
    runs: Arrays,
    claims: Sequence[Claim],
    table: Table,
    *,
    shop: Arrays,
) -> None:
    """Saves the data and the figures, and writes report.html; `shop` may be {}."""
    save_stages(job.out, {"agents": runs, **({"shop": shop} if shop else {})})
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
    if shop:
        figures["shop"] = show_panels(
            [shop_panel(shop)],
            "Language: two models of the shop",
            "Held-out prompts, a point for each seed.",
            "both agents are nearer to the lower left corner than one",
        )
    write_page(
        job.out,
        CLAIM,
        lead="A draft, feedback with a label, a revision if it is flagged; each turn is a sample "
        "of its own agent.",
        paper=PAPER,
        claims=claims,
        figures=figures,
        tables=[table, shop_table(config, shop)] if shop else [table],
    )


def shop_panel(shop: Arrays) -> Panel:
    """Over-refusals against attacks after each stage."""
    rates = np.stack([shop[x] for x in ("attacks", "refusals")])
    found = {name: Series(*x) for name, x in zip(STAGES, np.moveaxis(rates, -1, 0), strict=False)}
    return Panel("", "attack success", "over-refusal", found)


def shop_table(config: Config, shop: Arrays) -> Table:
    """Means over seeds after each stage, the rates with intervals."""

    def written(x: np.ndarray, name: str) -> str:
        if not np.isfinite(x).any():
            return "none"
        moves = name in ("attacks", "refusals") and np.ptp(x) > 0
        return mean_text(x) if moves else f"{np.nanmean(x):.3f}"

    rows = [
        (STAGES[i], *(written(shop[x][:, i], x) for x in MEASURED))
        for i in range(shop["attacks"].shape[1])
    ]
    return Table(
        f"Shop: means of {len(shop['attacks'])} seeds [95%]",
        (
            *("", "attacks", "over-refusals", "bad drafts", "flagged"),
            *("label right", "caught", "readable", "gold"),
        ),
        rows,
        note="caught: of bad drafts, those that were labelled right, in seeds that have any",
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
