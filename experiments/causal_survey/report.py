"""The figures and the page of causal_survey."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from experiments.causal_survey import CLAIM, PAPER, adapted, fair, linear
from experiments.causal_survey.config import Config
from experiments.causal_survey.linear import COPIES, ERM, MARGINAL, ORACLE, TUNED
from experiments.causal_survey.world import FLAGS, LENGTHS, TEST_RHOS
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import Shown, save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Stages = Mapping[str, Any]
over_worlds = partial(band, centre="mean", spread="t", units="worlds")
WITH_ENVIRONMENTS = (ERM, TUNED, "group DRO, environments", "V-REx", "IRM", ORACLE)
WITH_FEATURE = (ERM, "balanced cells", "MMD", "correlation", "worst case", COPIES, MARGINAL)
X = "correlation of the feature with the label in the test"


def write_report(
    job: Run,
    config: Config,
    stages: Stages,
    shop: Mapping[str, np.ndarray],
    claims: Sequence[Claim],
    table: Table,
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(
        job.out,
        {
            **{f"linear_{world}": found for world, found in stages["linear"].items()},
            "fair": stages["fair"],
            "adapted": stages["adapted"],
            **({"shop": shop} if shop else {}),
        },
    )
    write_page(
        job.out,
        "A causal view of reward models",
        lead=CLAIM + ".",
        paper=PAPER,
        claims=claims,
        figures=figures_of(config, stages, shop),
        table=table,
    )


def figures_of(config: Config, stages: Stages, shop: Mapping[str, np.ndarray]) -> dict[str, Shown]:
    """All figures, that of the shop if it was run."""
    length = stages["linear"][LENGTHS]
    figures = {
        "length": show_panels(
            [
                rho_panel(length, WITH_ENVIRONMENTS, "what two environments can say"),
                rho_panel(length, WITH_FEATURE, "what the feature itself can say"),
            ],
            "Length-biased reward models",
            "Accuracy on pairs in which the length goes with the label more, less or the other way "
            "round; trained at 0.9 and 0.5.",
            "plain fits fall below one half at the left; those that know the feature are flat",
            share_y=True,
        ),
        "flattery": show_panels(
            [rho_panel(stages["linear"][FLAGS], WITH_FEATURE, "")],
            "Flattery in place of length",
            "The same code on a flag: the answer agrees with the user, or not.",
            "the same order of the methods",
        ),
        "fairness": show_panels(
            fair_panels(stages["fair"]["numbers"]),
            "Labels that favour one group",
            "Left: accuracy on fair labels where the better answer is by an author of group A, and "
            "of B. Right: how far the scores of the groups lie apart.",
            "the plain fit is right about A and wrong about B; the others are closer to even",
        ),
        "adapter": show_panels(
            adapter_panels(config.adapted.rhos, stages["adapted"]),
            "Only an adapter is trained, or all weights",
            "Accuracy of a small transformer on pairs in which the mark goes with the label as in "
            "training, not at all, and the other way round.",
            "copies are flat whichever part is trained",
            share_y=True,
        ),
    }
    if shop:
        figures["shop"] = show_panels(
            [shop_panel(config, shop)],
            "Language: answers of the shop with a mark",
            "Held-out accuracy of a head on the shipped SFT policy.",
            "plain Bradley-Terry falls most where the mark is reversed",
        )
    return figures


def rho_panel(found: Stages, names: Sequence[str], title: str) -> Panel:
    """Accuracy against the correlation of the test."""
    series = {
        name: over_worlds(TEST_RHOS, found["accuracy"][:, linear.NAMES.index(name)])
        for name in names
    }
    return Panel(title, X, "accuracy", series, levels={"coin": 0.5})


def fair_panels(numbers: np.ndarray) -> list[Panel]:
    """numbers [S, METHODS, NUMBERS], each method at its own x."""
    found = dict(zip(fair.NUMBERS, np.moveaxis(numbers, -1, 0), strict=True))
    x = np.arange(len(fair.METHODS))
    label = "; ".join(f"{i}: {name}" for i, name in enumerate(fair.METHODS))
    right = {name: over_worlds(x, found[name]) for name in ("A better", "B better")}
    apart = {"A less B": over_worlds(x, found["score gap"])}
    return [
        Panel("", label, "accuracy on fair labels", right),
        Panel("", label, "gap of the scores (standard deviations)", apart, levels={"even": 0.0}),
    ]


def adapter_panels(rhos: Sequence[float], found: Stages) -> list[Panel]:
    """One for each part that is trained."""
    x = (float(np.mean(rhos)), 0.0, adapted.SHIFTED)  # of TESTS
    return [
        Panel(
            f"{part} trained",
            X,
            "accuracy",
            {
                loss: over_worlds(x, found["right"][:, i, j])
                for j, loss in enumerate(adapted.LOSSES)
            },
            levels={"coin": 0.5},
        )
        for i, part in enumerate(adapted.PARTS)
    ]


def shop_panel(config: Config, shop: Mapping[str, np.ndarray]) -> Panel:
    """Accuracy by test set, mean over seeds and pairs."""
    sizes = config.shop
    x = (float(np.mean(sizes.rhos)), 0.0, sizes.shifted)  # of TESTS
    return Panel(
        "", X, "accuracy", {name: Series(x, each.mean((0, 2))) for name, each in shop.items()}
    )
