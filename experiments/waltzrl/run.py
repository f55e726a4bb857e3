"""Do two agents who are trained together attack and refuse less than one?"""

from functools import partial

import numpy as np

from experiments.waltzrl.claims import Arrays, all_claims, curves, ends, shop_claims
from experiments.waltzrl.config import Config
from experiments.waltzrl.report import agent_table, write_report
from experiments.waltzrl.shop import shop_study
from experiments.waltzrl.training import METHODS, train_all
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.training import Run, run_stages


def run(config: Config, job: Run) -> Outcome:
    """All methods on the same seeds, with `panel` the shop, their claims, the report."""
    runs = run_stages(job, {"agents": partial(train_all, config)})["agents"]
    claims, table = all_claims(config, runs), agent_table(config, runs)
    shop = shop_study(config, job) if config.panel else {}
    claims += shop_claims(config, shop) if shop else []
    write_report(job, config, runs, claims, table, shop=shop)
    found = {name: x.tolist() for name, x in shop.items()}
    return Outcome(claims, summary(runs) | {"shop": found}, table)


def summary(runs: Arrays) -> dict:
    """Means over seeds, at the start and at the end, and each seed's labels of DIR alone."""
    name = "both, DIR alone"
    labels = {f"label accuracies, {name}": np.sort(ends(runs, "labels", name)).tolist()}
    return labels | {
        name: {
            x: {"before": float(curves(runs, x, name)[:, 0].mean()), "after": float(end.mean())}
            for x in runs
            for end in [ends(runs, x, name)]
        }
        for name in METHODS
    }
