"""Does max-min over a mixture of rewards serve a minority that one reward fails?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.maxmin_rlhf.claims import all_claims, rates, shop_claims
from experiments.maxmin_rlhf.config import Config
from experiments.maxmin_rlhf.methods import (
    POLICIES,
    fit_groups,
    move_together,
    pooled_errors,
    serve_groups,
)
from experiments.maxmin_rlhf.report import rate_table, write_report
from experiments.maxmin_rlhf.shop import shop_study
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.reports.intervals import mean_interval
from rlhf_jax.training import Run, run_stages


def run(config: Config, job: Run) -> Outcome:
    """Groups at several ratios, policy and weights in turns, the bound on one reward, the shop."""
    stages = run_stages(job, {"fits": partial(fit_groups, config)})
    works = {
        "groups": partial(serve_groups, config, stages["fits"]),
        "moving": partial(move_together, config),
        "pooled": pooled_errors,
    }
    stages |= run_stages(job, works, x64=True)
    claims, table = all_claims(config, stages), rate_table(config, stages["groups"])
    shop = shop_study(config, job) if config.panel else {}
    claims += shop_claims(config, shop) if shop else []
    write_report(job, config, stages, claims, table, shop=shop)
    found = {name: x.tolist() for name, x in shop.items()}
    return Outcome(claims, summary(stages) | {"shop": found}, table)


def summary(stages: Mapping[str, Mapping[str, np.ndarray]]) -> dict:
    """Means over worlds, and what MaxMin gains on equal weights in the worse group, in 95%."""
    served = stages["groups"]
    worse = [rates(served, name)[-1].min(-1) for name in ("MaxMin", "equal weights")]
    gain = worse[0] - worse[1]
    return {
        "win rates": {name: rates(served, name).mean(1).tolist() for name in POLICIES},
        "MaxMin minus equal weights": [gain.mean(), *mean_interval(gain)],
        "recall": stages["fits"]["recall"].mean(1).tolist(),
        "weight on the majority": served["weight"].mean(1).tolist(),
        "lacking at the end": {
            name: float(np.median(x[:, -1])) for name, x in stages["moving"].items()
        },
    }
