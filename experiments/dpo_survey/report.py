"""The table, the figures and the page of dpo_survey."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.dpo_survey import PAPER
from experiments.dpo_survey.config import Config
from experiments.dpo_survey.variants import variants
from experiments.dpo_survey.worlds import conditions, draw_worlds, measure, optimum
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import Shown, save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series, heat_map
from rlhf_jax.training import Run

Numbers = Mapping[str, Mapping[str, np.ndarray]]
# File -> metric, darkest value, unit, words of the caption.
MAPS = {
    "gain": ("gain", 1.2, "reward", "Expected reward above that of the reference"),
    "kl": ("KL from the optimum", 1.0, "nats", "KL(pi* || pi), pi* the optimum at right labels"),
    "drift": ("drift", 2.0, "tokens", "Expected length above that of the reference"),
    "accuracy": (
        "accuracy",
        1.0,
        "share",
        "Pairs that log pi - log pi_ref orders right",
    ),
}
DRAWN = ("DPO", "rDPO", "KTO", "SimPO", "R-DPO", "chi2-PO", "ORPO", "TR-DPO")
FRONTIER = np.geomspace(0.15, 20.0, 30)  # multiples of beta


def result_table(numbers: Numbers) -> Table:
    """Means over the bandits, a row for each variant."""
    cells = [("gain", 0), ("gain", 1), ("gain", 2), ("gain", 3), ("KL from the optimum", 0)]
    rows = [
        (name, each.dimension, *(float(numbers[name][m][c].mean()) for m, c in cells))
        for name, each in variants().items()
    ]
    best = [float(numbers["optimum"][m][c].mean()) for m, c in cells]
    headers = ("", "dimension", "clean, many", "clean, few", "flips", "length", "KL from pi*")
    return Table(
        "Gain in reward over the reference; last column: KL(pi* || pi) on many clean pairs",
        headers,
        [("optimum pi*", "", *best), *rows],
    )


def write_report(
    job: Run, config: Config, numbers: Numbers, claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, {"measured": numbers})
    write_page(
        job.out,
        "Variants of DPO on one bandit",
        paper=PAPER,
        lead="Every loss trains a table on the counts of labelled pairs, from the same bandits "
        "and labels, under four conditions: many clean pairs, few, flipped labels, labellers who "
        "like length.",
        claims=claims,
        table=table,
        figures={"frontier": frontiers(config, numbers)}
        | {name: shown_map(config, numbers, name) for name in MAPS},
    )


def shown_map(config: Config, numbers: Numbers, name: str) -> Shown:
    """Variants by conditions."""
    metric, high, unit, words = MAPS[name]
    names = [*variants(), "optimum"]
    values = np.stack([numbers[each][metric].mean(-1) for each in names])
    figure = heat_map(
        values, names, tuple(conditions(config)), title=metric, low=0.0, high=high, unit=unit
    )
    caption = f"{words}; mean of {config.num_seeds} bandits, {config.prompts} prompts each."
    return Shown(figure, metric[0].upper() + metric[1:], caption, f"{metric} of each variant")


def frontiers(config: Config, numbers: Numbers) -> Shown:
    """Gain against KL to the reference, one point for each variant."""
    curve = best_gains(config)
    panels = [
        Panel(
            condition,
            "KL(pi || pi_ref), nats",
            "gain in reward",
            {name: point(numbers[name], i) for name in DRAWN},
            bounds={"pi_ref exp(r / b) / Z": curve},
        )
        for i, condition in enumerate(conditions(config))
    ]
    return show_panels(
        panels,
        "What a gain costs",
        f"Means of {config.num_seeds} bandits. The line is the largest gain at each KL; a policy "
        f"to the right of the optimum at beta = {config.beta:g} has gone further than was asked. "
        "Eight of the variants.",
        "points below a rising curve; rDPO is near it under flips, R-DPO under biased length",
        share_y=True,
    )


def point(found: Mapping[str, np.ndarray], condition: int) -> Series:
    """The end of training."""
    x, y = (found[name][condition].mean() for name in ("KL to the reference", "gain"))
    return Series([float(x)], [float(y)])


def best_gains(config: Config) -> Series:
    """Gain and KL of the optimum at other weights of the KL."""
    worlds = draw_worlds(config)
    each = [measure(worlds, optimum(worlds, config.beta * x), config.beta) for x in FRONTIER]
    kl, gain = ([x[name].mean() for x in each] for name in ("KL to the reference", "gain"))
    return Series(kl, gain)
