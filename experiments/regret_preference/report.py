"""The plots and the page of regret_preference."""

from collections.abc import Mapping, Sequence

import matplotlib
import matplotlib.patches
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.regret_preference import PAPER
from experiments.regret_preference.config import Config
from experiments.regret_preference.learners import LABELS, MODELS
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import Shown, save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import INK, STYLE, WIDTH, Series
from rlhf_jax.training import Run

# Code of a cell without its ground -> name and colour.
OBJECTS = {1: ("goal", "#b7e1cd"), 2: ("house", "#666666"), 3: ("sheep", "#f4b8b0")}
OBJECTS |= {4: ("coin", "#fff2b3"), 5: ("roadblock", "#d5c4e8")}
BRICK = "#e3cbb5"
ARROWS = ((0, -0.33), (0, 0.33), (-0.33, 0), (0.33, 0))


def write_report(
    job: Run,
    config: Config,
    scores: Mapping,
    lotteries: Mapping,
    delivery: Mapping,
    claims: Sequence[Claim],
    table: Table,
) -> None:
    """Saves the scores and the figures, and writes report.html with them."""
    kept = {"boards": {"sizes": config.sizes, **scores}, "delivery": delivery}
    save_stages(job.out, kept | {"lotteries": {"wins": config.win_weights, **lotteries}})
    figures = {
        "regret": show_panels(
            score_panels(config, scores),
            "Labels from regret",
            "Scaled return 1 is optimal, 0 is uniform actions, cut at -1. Right: share of boards "
            "above 0.9.",
            "regret is at 1 from 100 pairs on; partial return stays below it",
        ),
        "lotteries": show_panels(
            lottery_panels(config, lotteries),
            "Sheep as lotteries",
            f"Share of boards above 0.9 with {config.lottery_pairs} labels, against what winning "
            "pays; losing costs 50, the goal pays 50, so a lottery is worth it above about 150.",
            "regret is near-optimal on both sides of 150",
        ),
        "delivery": Shown(
            board_figure(delivery),
            "The delivery board",
            f"Optimal actions and values under the true weights, and under those learned from "
            f"{config.delivery_pairs} noiseless labels of regret by each model. Arrows "
            "are all the best actions; numbers are values in the unit of each reward.",
            "the policy learned by regret goes to the goal as the true one does",
        ),
    }
    lead = (
        "Which of two segments is better: the one with more reward, or the one with less deviation "
        "from optimal decisions? Linear rewards are fitted under both models to labels of each."
    )
    write_page(
        job.out,
        "Regret preferences",
        paper=PAPER,
        lead=lead,
        claims=claims,
        figures=figures,
        table=table,
    )


def score_panels(config: Config, scores: Mapping) -> list[Panel]:
    """Mean scaled return, and share of near-optimal boards, for each kind of labels."""
    x = np.asarray(config.sizes)
    items = []
    for j, labels in enumerate(LABELS):
        means, shares = {}, {}
        for learner in MODELS:
            values = scores[learner][:, j]
            means[f"{learner} (learner)"] = band(
                x, values, centre="mean", spread="quartiles", units="boards"
            )
            shares[f"{learner} (learner)"] = Series(x, (values > 0.9).mean(0))
        levels = {"optimal": 1.0, "uniform actions": 0.0}
        title, pairs = f"{labels} labels", "pairs of segments"
        items.append(Panel(title, pairs, "scaled return", means, levels=levels, log_x=True))
        items.append(Panel(title, pairs, "share of boards > 0.9", shares, log_x=True))
    return items


def lottery_panels(config: Config, scores: Mapping) -> list[Panel]:
    """Share of near-optimal boards against the reward of a win, for each kind of labels."""
    words = {
        MODELS[0]: "regret on its own labels",
        MODELS[1]: "partial return on labels of regret",
        f"{MODELS[1]}, converse": "partial return on its own labels",
    }
    return [
        Panel(
            f"{labels} labels",
            "reward of a win",
            "share of boards > 0.9",
            {
                shown: Series(np.asarray(config.win_weights), (scores[name][..., j] > 0.9).mean(1))
                for name, shown in words.items()
            },
        )
        for j, labels in enumerate(LABELS)
    ]


def board_figure(delivery: Mapping) -> Figure:
    """The board three times: true, learned by regret, learned by partial return."""
    names = ("true weights", *(f"learned, {model}" for model in MODELS))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.1), layout="constrained", facecolor="white")
        for i, axes in enumerate(figure.subplots(1, 3)):
            draw_board(axes, delivery["cells"], delivery["values"][i], delivery["probs"][i])
            weights = ", ".join(f"{w:.3g}" for w in delivery["weights"][i])
            title = f"{names[i]}: scaled return {delivery['scaled'][i]:.2f}"
            axes.set_title(f"{title}\n({weights})", loc="left", fontsize=6.5)
        patches = [
            matplotlib.patches.Patch(color=colour, label=name)
            for name, colour in [*OBJECTS.values(), ("brick", BRICK)]
        ]
        figure.legend(handles=patches, loc="outside lower center", ncols=6, frameon=False)
    return figure


def draw_board(axes: Axes, cells: np.ndarray, values: np.ndarray, probs: np.ndarray) -> None:
    """Cells as colours, arrows for the actions taken, values beneath them."""
    height, width = cells.shape
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal")
    axes.set(xticks=[], yticks=[])
    for state, code in enumerate(cells.ravel()):
        row, column = divmod(state, width)
        corner = (column - 0.5, row - 0.5)
        ground = BRICK if code >= 6 else "white"
        axes.add_patch(
            matplotlib.patches.Rectangle(corner, 1, 1, facecolor=ground, edgecolor="#cccccc")
        )
        if code % 6 in OBJECTS:
            colour = OBJECTS[code % 6][1]
            inner = (column - 0.4, row - 0.4)
            axes.add_patch(matplotlib.patches.Rectangle(inner, 0.8, 0.8, facecolor=colour))
        if code % 6 in (1, 2, 3):
            continue
        for action in np.flatnonzero(probs[state] > 0):
            right, down = ARROWS[action]
            axes.annotate(
                "",
                (column + right, row + down),
                (column, row),
                arrowprops={
                    "arrowstyle": "->",
                    "color": INK,
                    "linewidth": 0.6,
                    "mutation_scale": 4,
                },
            )
        axes.text(column + 0.47, row + 0.45, f"{values[state]:.0f}", fontsize=4.5, ha="right")
