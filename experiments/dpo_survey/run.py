"""The survey of DPO variants: which correction helps under which fault of the labels?"""

import numpy as np

from experiments.dpo_survey.claims import all_claims
from experiments.dpo_survey.config import Config
from experiments.dpo_survey.report import result_table, write_report
from experiments.dpo_survey.training import train_variant
from experiments.dpo_survey.variants import variants
from experiments.dpo_survey.worlds import conditions, draw_worlds, measure, optimum
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.training import Run, run_stages

Arrays = dict[str, np.ndarray]


def run(config: Config, job: Run) -> Outcome:
    """One stage for each variant, the claims, the report."""
    works = {
        name: lambda each=each: {"logps": train_variant(config, each)}
        for name, each in variants().items()
    }
    trained = {name: found["logps"] for name, found in run_stages(job, works).items()}
    numbers = measured(config, trained)
    claims = all_claims(config, numbers)
    table = result_table(numbers)
    write_report(job, config, numbers, claims, table)
    means = {
        name: {metric: x.mean(-1).tolist() for metric, x in found.items()}
        for name, found in numbers.items()
    }
    return Outcome(claims, numbers={"conditions": list(conditions(config)), **means}, table=table)


def measured(config: Config, trained: Arrays) -> dict[str, Arrays]:
    """Policy -> metric -> [C, N]: the variants, the optimum, and the best answer to each prompt."""
    worlds = draw_worlds(config)
    count = len(conditions(config))
    best = np.where(worlds.rewards == worlds.rewards.max(-1, keepdims=True), 0.0, -50.0)
    known = {"optimum": optimum(worlds, config.beta), "greedy": best}
    policies = trained | {name: np.stack([x] * count) for name, x in known.items()}
    found = {}
    for name, logps in policies.items():
        each = [measure(worlds, x, config.beta) for x in logps]
        found[name] = {metric: np.stack([x[metric] for x in each]) for metric in each[0]}
    return found
