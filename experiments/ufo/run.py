"""Does training on episodes of several tries, told only "wrong, try again", end repetition?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.ufo.claims import all_claims, shop_claims
from experiments.ufo.config import Config
from experiments.ufo.guessing import kinds, study
from experiments.ufo.report import write_report
from experiments.ufo.shop import POLICIES, shop_study
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.reports.intervals import mean_interval
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]


def run(config: Config, job: Run) -> Outcome:
    """Every training on guess among K, evaluated with the same number of tries; the shop."""
    stages = nested(config, run_stages(job, {"guessing": partial(flat_study, config)})["guessing"])
    claims = all_claims(config, stages)
    table = training_table(config, stages)
    shop = shop_study(config, job) if config.panel else {}
    claims += shop_claims(config, shop) if shop else []
    tables = [table, shop_table(config, shop)] if shop else [table]
    write_report(job, config, stages, claims, tables, shop=shop)
    found = {name: x.tolist() for name, x in shop.items()}
    return Outcome(claims, numbers=summary(stages) | {"shop": found}, table=table)


def flat_study(config: Config) -> dict[str, np.ndarray]:
    """`study` as one stage, "training: array"."""
    return {
        f"{name}: {key}": x for name, found in study(config).items() for key, x in found.items()
    }


def nested(config: Config, stage: Arrays) -> dict[str, dict[str, np.ndarray]]:
    """The trainings by name."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, x in stage.items():
        training, _, key = name.partition(": ")
        found.setdefault(training, {})[key] = np.asarray(x)
    return {name: found[name] for name in ("before", *kinds(config))}


def training_table(config: Config, stages: Mapping[str, Arrays]) -> Table:
    """Means over seeds."""
    tries = config.turns
    rows = [
        (
            name,
            *(x["succ"][:, -1].mean(), x["unique"].mean(), x["turns"].mean()),
            *(x["succ"][:, 0].mean(), x["pass"][:, -1].mean()),
            " ".join(f"{each:.1f}" for each in x["params"][:, -1].mean(0)),
        )
        for name, x in stages.items()
    ]
    headers = ("training", f"Succ@{tries}", "unique", "tries", "Succ@1", f"Pass@{tries}", "th")
    return Table(
        f"Guess among {config.candidates}, {tries} tries, mean of {config.num_seeds} seeds",
        headers,
        rows,
        note="unique: different answers over tries where the first is wrong; th: log scale of the "
        "belief, and what a tried candidate's logit gains",
    )


def shop_table(config: Config, shop: Arrays) -> Table:
    """Means over seeds."""
    rows = [
        (name, *shop["succ"][:, i].mean(0), shop["unique"][:, i].mean())
        for i, name in enumerate(POLICIES)
    ]
    headers = ("policy", *(f"Succ@{k + 1}" for k in range(config.shop.turns)), "unique")
    return Table(f"Look-ups by the shop's base model, means of {config.shop.seeds}", headers, rows)


def summary(stages: Mapping[str, Arrays]) -> dict:
    """Means and 95% intervals over seeds."""

    def each(x: np.ndarray) -> list[float]:
        return [float(x.mean()), *mean_interval(x)]

    return {
        name: {
            "succ": [each(column) for column in x["succ"].T],
            "pass": [each(column) for column in x["pass"].T],
            "unique": each(x["unique"]),
            "turns": each(x["turns"]),
        }
        for name, x in stages.items()
    }
