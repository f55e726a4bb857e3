"""Reward models on pairs with a spurious feature: which losses ignore it, and at what price?"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from experiments.causal_survey import adapted, fair, linear
from experiments.causal_survey.claims import all_claims
from experiments.causal_survey.config import Config
from experiments.causal_survey.report import write_report
from experiments.causal_survey.shop import TESTS, shop_study
from experiments.causal_survey.world import LENGTHS
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages

Stages = Mapping[str, Any]


def run(config: Config, job: Run) -> Outcome:
    """Linear rewards, fairness, an adapter, and with `panel` the shop."""
    stages = run_stages(
        job,
        {
            "linear": partial(linear.study, config),
            "fair": partial(fair.study, config),
            "adapted": partial(adapted.study, config),
        },
    )
    shop = shop_study(config, job) if config.panel else {}
    claims = all_claims(stages)
    table = linear_table(config, stages["linear"][LENGTHS])
    write_report(job, config, stages, shop, claims, table)
    return Outcome(claims, numbers=summary(stages, shop), table=table)


def linear_table(config: Config, found: Stages) -> Table:
    """Accuracy by the correlation of the test, and the weight of the length."""
    rows = [
        (
            name,
            *(f"{linear.at(found, name, rho).mean():.3f}" for rho in (0.7, 0.0, -0.9)),
            f"{linear.ratio_of(found, name).mean():.2f}",
        )
        for name in linear.NAMES
    ]
    return Table(
        f"Linear rewards, mean of {config.num_seeds} worlds",
        ("", "rho 0.7", "rho 0", "rho -0.9", "length / quality"),
        rows,
        note="accuracy on pairs in which the length goes with the label by rho, trained at "
        f"{config.rhos[0]:g} and {config.rhos[1]:g}; last, the weight of the length",
    )


def summary(stages: Stages, shop: Mapping[str, np.ndarray]) -> dict:
    """Means over worlds of what the table leaves out."""
    numbers = stages["fair"]["numbers"].mean(0)
    right = stages["adapted"]["right"].mean(0)
    found: dict[str, Any] = {
        world: {
            **{name: named(linear.NAMES, each[name].mean(0)) for name in ("accuracy", "ratio")},
            **{name: named(linear.PLAYED, each[name].mean(0)) for name in ("drift", "gold")},
            "largest drift": named(linear.PLAYED, np.abs(each["drift"]).max(0)),
        }
        for world, each in stages["linear"].items()
    }
    found["fair"] = {
        method: named(fair.NUMBERS, row) for method, row in zip(fair.METHODS, numbers, strict=True)
    }
    found["adapted"] = {
        f"{part}, {loss}": named(adapted.TESTS, right[i, j])
        for i, part in enumerate(adapted.PARTS)
        for j, loss in enumerate(adapted.LOSSES)
    }
    found["shop"] = {name: named(TESTS, each.mean((0, 2))) for name, each in shop.items()}
    return found


def named(names: Sequence[str], values: np.ndarray) -> dict[str, Any]:
    """The values by name."""
    return dict(zip(names, values.tolist(), strict=True))
