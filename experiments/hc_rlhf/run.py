"""HC-RLHF: how often is an unsafe policy returned, and what does it cost to return a safe one?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.hc_rlhf.claims import METHODS, all_claims, shop_claims, unsafe_returns
from experiments.hc_rlhf.config import Config
from experiments.hc_rlhf.reliability import LAWS, controllers, repeated_looks, simulated_tests
from experiments.hc_rlhf.report import write_report
from experiments.hc_rlhf.shop import shop_panel
from experiments.hc_rlhf.shop_report import policy_rates
from experiments.hc_rlhf.studies import (
    INFLATIONS,
    KINDS,
    active_world,
    exact_study,
    longer_study,
    rare_study,
    sampled_study,
)
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]


def run(config: Config, job: Run) -> Outcome:
    """Eight stages, their claims, the report; with `panel` also the shop."""
    stages = run_stages(
        job,
        {
            "tests": partial(simulated_tests, config),
            "looks": partial(repeated_looks, config),
            "control": partial(controllers, config),
            "world": partial(active_world, config),
        },
    )
    taken = stages["world"]["taken"]
    stages |= run_stages(
        job,
        {
            "exact": partial(exact_study, config, taken),
            "longer": partial(longer_study, config, taken),
            "sampled": partial(sampled_study, config, taken),
            "rare": partial(rare_study, config, taken),
        },
    )
    shop, worth = shop_panel(config, job) if config.panel else ({}, {})
    claims = all_claims(config, stages) + (shop_claims(config, shop) if shop else [])
    table = trained_table(config, stages)
    write_report(job, config, stages, shop, claims, table)
    numbers = summary(config, stages)
    if shop:
        rates = policy_rates(config, shop)
        numbers["shop"] = {
            method: {name: float(np.mean(x)) for name, x in each.items()}
            for method, each in rates.items()
        }
        numbers["shop cost model"] = worth
    return Outcome(claims, numbers=numbers, table=table)


def trained_table(config: Config, stages: Mapping[str, Arrays]) -> Table:
    """P(return), P(return and unsafe) and the true reward of every method."""
    rows = []
    for name, sizes, methods in (
        ("exact", config.sizes, METHODS),
        ("longer", (f"{config.sizes[-1]}, {config.long_steps} steps",), METHODS[:1]),
        ("sampled", (f"{config.sampled_size}, sampled",), tuple(INFLATIONS)),
    ):
        arrays = stages[name]
        unsafe = unsafe_returns(config, arrays)
        for i, size in enumerate(sizes):
            rows += [
                (
                    f"{method}, {size}",
                    f"{arrays['returned'][i, j].mean():.3f}",
                    f"{unsafe[i, j].mean():.3f}",
                    f"{arrays['reward'][i, j].mean():.3f}",
                    f"{arrays['cost'][i, j].mean():.3f}",
                )
                for j, method in enumerate(methods)
            ]
    return Table(
        f"{config.trials} policies of each method",
        ("method, prompts", "returned", "returned and unsafe", "reward", "cost"),
        rows,
        note="reward and cost of all policies, on fresh prompts; the limit is "
        f"{config.tau:g}, delta {config.delta:g}",
    )


def summary(config: Config, stages: Mapping[str, Arrays]) -> dict:
    """Rates of the simulated tests, and of the policies with costs of 0 and 1."""
    tests, rare = stages["tests"], stages["rare"]
    found: dict = {"worlds": stages["world"]["costs"].tolist()}
    found["taken"] = int(stages["world"]["taken"])
    for name in ("unsafe", "safe"):
        found[name] = {
            f"{law}, {size}, {kind}": tests[name][i, j, k] / config.tests
            for i, law in enumerate(LAWS)
            for j, size in enumerate(config.test_sizes)
            for k, kind in enumerate(KINDS)
            if tests[name][i, j, k] >= 0
        }
    for method in ("Lagrangian + test", "HC (0,2)"):
        arrays = {name: rare[f"{method} {name}"] for name in ("returned", "cost")}
        unsafe = unsafe_returns(config, arrays, config.rare_tau)
        found[f"rare, {method}"] = {
            f"{size}, {kind}": [arrays["returned"][i, k].mean(), unsafe[i, k].mean()]
            for i, size in enumerate(config.rare_tests)
            for k, kind in enumerate(KINDS)
        }
    found["looks"] = stages["looks"]["passed"].mean(1).tolist()
    return found
