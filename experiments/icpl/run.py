"""Do comparisons of trained policies find a reward program, and with how few of them?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.icpl.claims import all_claims
from experiments.icpl.config import Config
from experiments.icpl.networks import run_networks
from experiments.icpl.report import score_table, write_report
from experiments.icpl.searches import (
    BEST_ONLY,
    ICPL,
    NOISY,
    OPEN,
    run_long,
    run_numbers,
    run_searches,
)
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.reports.intervals import mean_interval
from rlhf_jax.training import Run, run_stages


def run(config: Config, job: Run) -> Outcome:
    """Searches by rounds, rewards of cells from pairs, more rounds, other sizes of a round."""
    works = {
        "searches": partial(run_searches, config),
        "networks": partial(run_networks, config),
        "long": partial(run_long, config),
        "numbers": partial(run_numbers, config),
    }
    stages = run_stages(job, works, x64=True)
    claims, table = all_claims(config, stages), score_table(config, stages)
    write_report(job, config, stages, claims, table)
    return Outcome(claims, summary(config, stages), table)


def grids_near_best(found: Mapping[str, np.ndarray], most: float) -> dict[str, int]:
    """Grids on which a search ends less than so far below the best policy."""
    return {name: int(np.sum(found["oracle"] - found[name][:, -1] < most)) for name in (ICPL, OPEN)}


def summary(config: Config, stages: Mapping[str, Mapping[str, np.ndarray]]) -> dict:
    """Means over grids."""
    found, scores = stages["searches"], stages["networks"]["score"]
    return {
        "by round": {x: found[x].mean(0).tolist() for x in (ICPL, BEST_ONLY, NOISY, OPEN, "fresh")},
        "grids not below OpenLoop": int(np.sum(found[ICPL][:, -1] >= found[OPEN][:, -1])),
        "grids without a way in round 1": int(np.sum(found[ICPL][:, 0] <= 0)),
        "ICPL minus OpenLoop, intervals by round": [
            mean_interval(x) for x in (found[ICPL] - found[OPEN]).T
        ],
        "ICPL minus OpenLoop by round": (found[ICPL] - found[OPEN]).mean(0).tolist(),
        "grids within 0.02 of the best policy": grids_near_best(found, 0.02),
        "grids within 0.3 of the best policy": grids_near_best(found, 0.3),
        "comparisons": int(found["queries"][0, -1]),
        "oracle": float(found["oracle"].mean()),
        "pairs": dict(zip(map(str, config.pairs), scores.mean(0).tolist(), strict=True)),
        "long": {name: x[:, -1].mean() for name, x in stages["long"].items()},
        "programs of a round": {name: x.mean() for name, x in stages["numbers"].items()},
    }
