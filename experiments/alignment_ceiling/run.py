"""Objective mismatch: what do accuracy, score, gold and a downstream metric say of each other?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.alignment_ceiling.claims import (
    around_peak,
    gradient_claims,
    inside,
    known,
    link,
    pool_claims,
    population_claims,
)
from experiments.alignment_ceiling.config import Config
from experiments.alignment_ceiling.gradients import KINDS, LEARNERS, gradient_study
from experiments.alignment_ceiling.report import write_report
from experiments.alignment_ceiling.sweeps import (
    SCORES,
    light_study,
    pool_study,
    population_study,
)
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]


def run(config: Config, job: Run) -> Outcome:
    """Exact optima on a pool, many reward models, policy gradients on tables."""
    stages = run_stages(
        job,
        {
            "pool": partial(pool_study, config),
            "light": partial(light_study, config),
            "population": partial(population_study, config),
        },
    )
    work = partial(gradient_study, config, stages["pool"]["weights"])
    stages |= run_stages(job, {"gradients": work})
    claims = [
        *pool_claims(config, stages["pool"], stages["light"]),
        *population_claims(config, stages["population"]),
        *gradient_claims(stages["gradients"]),
    ]
    table = policy_table(config, stages["pool"])
    write_report(job, config, stages, claims, table)
    return Outcome(claims, numbers=summary(config, stages), table=table)


def policy_table(config: Config, pool: Arrays) -> Table:
    """What is optimised, as rows: gold and downstream at their peaks and at the end."""
    rows = []
    for name in (*SCORES, "best of n"):
        kl, gold, metric = (pool[f"{name}/{x}"] for x in ("kl", "gold", "downstream"))
        accuracies = [pool.get(f"{name}/{x}") for x in ("off", "on")]
        rows.append(
            (
                name,
                gold.max(1).mean(),
                peak_kl(kl, gold).mean(),
                gold[:, -1].mean(),
                metric.max(1).mean(),
                metric[:, -1].mean(),
                *(None if x is None else x.mean() for x in accuracies),
            )
        )
    return Table(
        f"Exact optima of each score on the pool, means over {config.num_seeds} worlds",
        (
            *("optimised", "gold, peak", "its KL", "gold, end", "downstream, peak"),
            *("downstream, end", "accuracy, reference", f"accuracy, beta {config.judged:g}"),
        ),
        rows,
        note=f"gold in deviations of the pool; end: beta {config.betas[1]:g}, or n = "
        f"{config.largest}; accuracy: order of gold, on the answers of reference and policy",
    )


def peak_kl(kl: np.ndarray, values: np.ndarray) -> np.ndarray:
    """[S] KL where curves [S, N] peak."""
    return kl[np.arange(len(kl)), values.argmax(1)]


def summary(config: Config, stages: Mapping[str, Arrays]) -> dict:
    """Accuracies, the three links, and the ends of the sampled runs."""
    pool, curves = stages["pool"], stages["gradients"]
    correlations = {}
    for name in ("gold", "downstream"):
        before, after = around_peak(pool["reward model/score"], pool[f"reward model/{name}"])
        correlations[name] = [known(before).mean(), known(after).mean()]
    ends = {}
    for kind in KINDS:
        for method in (*LEARNERS, "gold", "optimum"):
            kl, score, gold, metric = (
                curves[f"{kind}/{method}/{x}"] for x in ("kl", "score", "gold", "downstream")
            )
            ends[f"{kind}/{method}"] = {
                "kl": kl[:, -1].mean(),
                "score": score[:, -1].mean(),
                "gold": [gold.max(1).mean(), peak_kl(kl, gold).mean(), gold[:, -1].mean()],
                "downstream": [
                    *(metric.max(1).mean(), peak_kl(kl, metric).mean(), metric[:, -1].mean()),
                ],
            }
    return {
        "accuracy": {
            name: float(pool[name].mean()) for name in ("train", "validation", "ceiling", "blind")
        },
        "on policy": [pool["reward model/on"].mean(), pool["reward model/on"].std()],
        "effective support": pool["support"].min(),
        "peaks inside": {name: inside(pool, name).mean() for name in SCORES},
        "correlations around the peak": correlations,
        "link": dict(
            zip(map(str, config.budgets), link(stages["population"]).T.tolist(), strict=True)
        ),
        "gradients, end; peaks with their KL and end": ends,
    }
