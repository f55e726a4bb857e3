"""The plots and the page of rlhs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.rlhs import CLAIM, PAPER
from experiments.rlhs.chains import gap_bound
from experiments.rlhs.claims import NAMES, ORACLE, SATISFACTION, UTILITY, final, hindsight
from experiments.rlhs.config import Config
from experiments.rlhs.learners import label_kinds
from experiments.rlhs.shop import MEASURES, SHOWN
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.intervals import mean_text
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
MEAN: dict[str, Any] = {"centre": "mean", "spread": "t"}
DRAWN = ("foresight", "hindsight, q = 1", "hindsight, q = 0.75", "hindsight, q = 0.5")


def write_report(
    job: Run,
    config: Config,
    stages: Mapping[str, Arrays],
    claims: Sequence[Claim],
    table: Table,
    *,
    shop: Mapping[str, Arrays],
) -> None:
    """Saves the data and the figures, and writes report.html; `shop` may be {}."""
    save_stages(job.out, {**stages, **({"shop": shop["values"]} if shop else {})})
    market, chains = stages["market"], stages["chains"]
    figures = {
        "training": show_panels(
            [panel for name in NAMES for panel in training_panels(config, name, market[name])],
            "Utility and satisfaction while training",
            f"Exact means over states. Labels of {config.pairs:,} pairs of the reference's "
            "messages.",
            "by foresight satisfaction climbs to 1 and utility falls; by hindsight they meet",
        ),
        "accuracy": show_panels(
            [accuracy_panel(config, name, market[name]) for name in NAMES],
            "How good must the world model be?",
            "At the end of training. q is the probability that the model is right about a fact; "
            "1/2 knows nothing. Outcomes are simulated for each message alone, or for both "
            "messages of a pair in one imagined world.",
            "from q = 3/4 on utility is that of the oracle",
        ),
        "chains": show_panels(
            chain_panels(config, chains),
            "Steps seen",
            f"{config.chain_pairs:,} pairs of paths in each of {config.chains} chains of "
            f"{config.states} states, discount {config.gamma:g}. Beliefs about what is not seen "
            "are uniform.",
            "the error falls by the discount at each step, below the bound of the theorem",
        ),
    }
    if shop:
        figures["shop"] = show_panels(
            [shop_panel(shop["values"])],
            "Language: the shop's SFT policy",
            f"DPO on the same pairs, labelled by each customer; tempting prompts, a point for each "
            f"of {config.shop.worlds} worlds.",
            "foresight lies to the right of SFT, hindsight above it",
        )
    write_page(
        job.out,
        CLAIM,
        lead="A customer judges two messages before the purchase, or after an outcome that a world "
        "model simulates; DPO and PPO learn from the labels.",
        paper=PAPER,
        claims=claims,
        figures=figures,
        tables=[table, shop_table(config, shop["values"])] if shop else [table],
    )


def shop_panel(values: Arrays) -> Panel:
    """Each world's mean utility against its mean satisfaction."""
    rows = MEASURES.index("satisfaction"), MEASURES.index("utility")
    found = {
        name: Series(*(each[:, row].mean(-1) for row in rows)) for name, each in values.items()
    }
    return Panel("", "satisfaction at once", "utility after the purchase", found)


def shop_table(config: Config, values: Arrays) -> Table:
    """Means over held-out prompts, with intervals over worlds."""
    rows = [(name, *(mean_text(x) for x in values[name].mean(-1).T)) for name in SHOWN]
    return Table(
        f"Shop: {config.shop.worlds} x {config.shop.prompts} held-out tempting prompts [95%]",
        ("labels", *MEASURES),
        rows,
        note="complained: of a broken promise; this and bought are shares; kl: nats to SFT",
    )


def training_panels(config: Config, algorithm: str, runs: np.ndarray) -> list[Panel]:
    """Utility and satisfaction against steps."""
    places = {name: i for i, (name, _, _) in enumerate(label_kinds(config))}
    times = np.arange(runs.shape[2])
    label = "step" if algorithm == "dpo" else "iteration"

    def curves(column: int) -> dict[str, Series]:
        return {name: band(times, runs[:, places[name], :, column], **MEAN) for name in DRAWN}

    short = algorithm.upper()
    return [
        Panel(
            f"{short}: true utility", label, "utility", curves(UTILITY), levels={"oracle": ORACLE}
        ),
        Panel(f"{short}: satisfaction", label, "satisfaction", curves(SATISFACTION)),
    ]


def accuracy_panel(config: Config, algorithm: str, runs: np.ndarray) -> Panel:
    """Final utility and satisfaction by the accuracy of the world model."""
    found = final(config, runs, UTILITY)
    shared = np.stack([found[f"one imagined world, q = {q:g}"] for q in config.accuracies], -1)
    qs = np.array(config.accuracies)
    series = {
        "utility": band(qs, hindsight(config, runs, UTILITY), **MEAN),
        "satisfaction": band(qs, hindsight(config, runs, SATISFACTION), **MEAN),
        "utility, one imagined world": band(qs, shared, **MEAN),
    }
    levels = {"utility by foresight": found["foresight"].mean(), "oracle": ORACLE}
    return Panel(algorithm.upper(), "accuracy q", "mean", series, levels=levels)


def chain_panels(config: Config, chains: Arrays) -> list[Panel]:
    """Errors and accuracy by steps seen."""
    steps = np.array(config.horizons, float)
    about: dict[str, Any] = {**MEAN, "units": "chains"}
    errors = {
        "largest of all pairs": band(steps, chains["largest"], **about),
        "mean": band(steps, chains["mean"], **about),
    }
    accuracy = {"accuracy": band(steps, chains["accuracy"], **about)}
    bound = {"theorem": Series(steps, gap_bound(config))}
    label = "steps seen"
    return [
        Panel("error of the gap", label, "|error|", errors, bounds=bound, log_y=True),
        Panel("labels", label, "right labels", accuracy, levels={"chance": 0.5}),
    ]
