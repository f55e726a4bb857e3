"""RLBFF: what does a reward gain by being told which principle the feedback was about?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.rlbff.claims import all_claims
from experiments.rlbff.comments import NAMES
from experiments.rlbff.config import Config
from experiments.rlbff.report import write_report
from experiments.rlbff.shop import AS_WELL, REWARDS, STEPS, share, shop_study
from experiments.rlbff.toy import (
    BEST,
    CONSENSUS,
    MODELS,
    SIZES,
    TOGETHER,
    consensus_study,
    offset_study,
    principle_study,
)
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]


def run(config: Config, job: Run) -> Outcome:
    """Four studies, their claims, the report."""
    works = {
        "principles": partial(principle_study, config),
        "offsets": partial(offset_study, config),
        "consensus": partial(consensus_study, config),
        "shop": partial(shop_study, config),
    }
    stages = run_stages(job, works)
    claims = all_claims(config, stages)
    table = model_table(config, stages["principles"])
    write_report(job, config, stages, claims, table)
    return Outcome(claims, numbers=summary(stages), table=table)


def model_table(config: Config, found: Arrays) -> Table:
    """Means over seeds."""
    rows = [
        (
            name,
            *(found[f"{measure}/{name}"].mean() for measure in ("accuracy", "average", "error")),
            found[f"best/{name}"][:, SIZES.index(16)].mean(),
        )
        for name in MODELS
    ]
    return Table(
        f"Rewards from {config.items} items of feedback each, mean of {config.num_seeds} seeds",
        ("reward", "accuracy, principle", "accuracy, average", "calibration error", "best of 16"),
        rows,
        note="best of 16: gold of the chosen principle, by the oracle "
        f"{found['best/oracle'][:, SIZES.index(16)].mean():.3f}",
    )


def summary(stages: Mapping[str, Arrays]) -> dict:
    """Means over seeds."""
    toy, offsets, consensus, shop = (
        stages[name] for name in ("principles", "offsets", "consensus", "shop")
    )
    best = zip((*REWARDS, *AS_WELL), shop["best"].mean(0).tolist(), strict=True)
    return {
        "seeds with a gap of 0.25": int(
            np.sum(toy["accuracy/entailment"] - toy["accuracy/Bradley-Terry"] >= 0.25)
        ),
        "best of n": {name: toy[f"best/{name}"].mean(0).tolist() for name in BEST},
        "least served, best of n": {
            name: toy[f"together/{name}"].mean(0).tolist() for name in TOGETHER
        },
        "offsets": {name: each.mean() for name, each in offsets.items()},
        "consensus": {
            name: {measure: consensus[measure][:, i].mean() for measure in consensus}
            for i, name in enumerate(CONSENSUS)
        },
        "shop, points": {
            name: {measure: shop[f"{measure}/{name}"].mean() for measure in ("kept", "right")}
            for name in STEPS
        },
        "shop, span check": {
            name: shop[name].mean() for name in ("invented", "removed/invented", "removed/quoted")
        },
        "shop, area under the curve": {
            name: {
                principle: share(area[np.isfinite(area)])
                for principle, area in zip(NAMES, shop["area"][:, i].T, strict=True)
            }
            for i, name in enumerate(REWARDS)
        },
        "shop, best of the pool": {
            name: dict(zip(NAMES, each, strict=True)) for name, each in best
        },
    }
