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
    peak_kl,
    pool_claims,
    population_claims,
)
from experiments.alignment_ceiling.config import Config
from experiments.alignment_ceiling.gradients import KINDS, LEARNERS, gradient_study
from experiments.alignment_ceiling.report import write_report
from experiments.alignment_ceiling.sweeps import (
    SCORES,
    pool_study,
    population_study,
    tail_study,
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
            "tails": partial(tail_study, config),
            "population": partial(population_study, config),
        },
    )
    work = partial(gradient_study, config, stages["pool"]["weights"])
    stages |= run_stages(job, {"gradients": work})
    claims = [
        *pool_claims(config, stages["pool"], stages["tails"]),
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


def supported_mismatch(pool: Arrays) -> np.ndarray:
    """[S] accuracy of the reward model on the reference's answers minus on those of its strongest
    optimum whose effective support is above 100."""
    rows, last = np.arange(len(pool["train"])), (pool["reward model/support"] > 100).sum(1) - 1
    return pool["reward model/off"] - pool["reward model/along"][rows, last]


def long_answers(pool: Arrays) -> dict[str, list[float]]:
    """Least and most, over worlds, of the mean length of the last optimum's answers.

    In deviations of the pool; nothing for a group without a world.
    """
    length, which = pool["reward model/length"][:, -1], inside(pool, "reward model")
    groups = {"inside": length[which], "not inside": length[~which]}
    return {name: [x.min(), x.max()] for name, x in groups.items() if x.size}


def summary(config: Config, stages: Mapping[str, Arrays]) -> dict:
    """Accuracies, the three links, and the ends of the sampled runs."""
    pool, curves, models = stages["pool"], stages["gradients"], stages["population"]
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
        "effective support": np.quantile(pool["support"], [0.0, 0.5, 1.0]).tolist(),
        "mismatch at a support of 100": supported_mismatch(pool).mean(),
        "peaks inside": {name: inside(pool, name).mean() for name in SCORES},
        "length at the end, by whether gold peaks inside": long_answers(pool),
        "correlations around the peak": correlations,
        "link at both KLs": {
            "all": link(models).mean(0).tolist(),
            "length seen": link(models, models["visible"] == 1).mean(0).tolist(),
            "length-blind": link(models, models["visible"] == 0).mean(0).tolist(),
        },
        "gradients, end; peaks with their KL and end": ends,
    }
