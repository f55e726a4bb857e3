"""Does RL straight from a base model forget less than supervised fine-tuning, at equal reward?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.mistral_plus.claims import all_claims, drops, stops
from experiments.mistral_plus.config import Config
from experiments.mistral_plus.learners import chat_study, cold_study, first_reaching
from experiments.mistral_plus.report import write_report
from experiments.mistral_plus.shop import shop_study
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.reports.intervals import mean_interval
from rlhf_jax.training import Run, run_stages

Stages = Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]


def run(config: Config, job: Run) -> Outcome:
    """Every method from the base, cold starts, and with `panel` the shop."""
    works = {"chat": partial(chat_study, config), "cold": partial(cold_study, config)}
    stages = run_stages(job, works)
    shop, cold = shop_study(config, job) if config.panel else ({}, {})
    claims = all_claims(config, stages["chat"], stages["cold"])
    table = stop_table(config, stages)
    write_report(job, config, stages, shop, claims, table)
    numbers = summary(config, stages, shop) | {"shop cold start": cold}
    return Outcome(claims, numbers=numbers, table=table)


def stop_table(config: Config, stages: Stages) -> Table:
    """Each method where it reaches the target."""
    curves = stages["chat"]
    base = {name: each[:, 0].mean() for name, each in curves["SFT"].items()}
    names = ("accuracy", "nll", "toxic", "kl")
    rows = [("base", *(base[name] for name in names), base["reward"], 0)]
    rows += [
        (name, *(x[each].mean() for each in names), x["reward"].mean(), x["steps"].mean())
        for name, x in stops(config, curves).items()
    ]
    headers = ("", "general accuracy", "general NLL", "toxic", "KL", "chat reward", "steps")
    return Table(
        f"At chat reward {config.target:g}, mean of {config.num_seeds} worlds", headers, rows
    )


def summary(config: Config, stages: Stages, shop: Mapping[str, Mapping[str, np.ndarray]]) -> dict:
    """Means over worlds under both stop rules, drops with intervals, steps of cold starts."""
    chat, cold = stages["chat"], stages["cold"]
    lost = drops(config, chat)
    return {
        "at the reward": _means(stops(config, chat)),
        "at the KL": _means(stops(config, chat, rule="kl")),
        "drop of accuracy": {
            name: [x.mean(), x.std(ddof=1), *mean_interval(x)] for name, x in lost.items()
        },
        "cold": {
            name: {
                "start": each["reward"][:, 0].mean(),
                "end": [each["reward"][:, -1].min(), each["reward"][:, -1].max()],
                "steps": first_reaching(each["reward"], config.target).tolist(),
            }
            for name, each in cold.items()
        },
        "shop": {name: {k: v.tolist() for k, v in each.items()} for name, each in shop.items()},
    }


def _means(found: Mapping[str, Mapping[str, np.ndarray]]) -> dict:
    """Over the worlds that arrive, NaN if none does, and how many that are."""
    return {method: _arrived(each) for method, each in found.items()}


def _arrived(each: Mapping[str, np.ndarray]) -> dict[str, float]:
    there = np.isfinite(each["steps"])
    means = {name: x[there].mean() if there.any() else np.nan for name, x in each.items()}
    return means | {"worlds": int(there.sum())}
