"""Is feedback after a simulated outcome better than feedback before it?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.rlhs.chains import chain_study
from experiments.rlhs.claims import NAMES, all_claims, shop_claims
from experiments.rlhs.config import Config
from experiments.rlhs.learners import label_kinds, market_study
from experiments.rlhs.report import write_report
from experiments.rlhs.shop import MEASURES, shop_study
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages


def run(config: Config, job: Run) -> Outcome:
    """Labels of every kind through both algorithms; chains; with `panel` the shop."""
    stages = run_stages(
        job,
        {"market": partial(market_study, config), "chains": partial(chain_study, config)},
    )
    market, chains = stages["market"], stages["chains"]
    claims, table = all_claims(config, market, chains), market_table(config, market)
    shop = shop_study(config, job) if config.panel else {}
    claims += shop_claims(config, shop) if shop else []
    write_report(job, config, stages, claims, table, shop=shop)
    accuracy = chains["accuracy"].mean(0).tolist()
    numbers = {"accuracy": dict(zip(map(str, config.horizons), accuracy, strict=True))}
    return Outcome(claims, numbers | ends(config, market) | {"shop": shop_means(shop)}, table)


def shop_means(shop: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, list[float]]]:
    """Policy -> measure -> means of every world, and the competence of the SFT policy."""
    if not shop:
        return {}
    gates = {name: [float(x.mean())] for name, x in shop["competence"].items()}
    return {"competence": gates} | {
        name: dict(zip(MEASURES, each.mean(-1).T.tolist(), strict=True))
        for name, each in shop["values"].items()
    }


def ends(config: Config, market: dict[str, np.ndarray]) -> dict[str, dict[str, list[float]]]:
    """Algorithm -> labels -> means over data sets of utility, satisfaction and truth."""
    names = [name for name, _, _ in label_kinds(config)]
    return {
        algorithm: dict(zip(names, market[algorithm][:, :, -1].mean(0).tolist(), strict=True))
        for algorithm in NAMES
    }


def market_table(config: Config, market: dict[str, np.ndarray]) -> Table:
    """Every kind of labels at the end, the reference first."""
    before = {name: market[name][:, 0, 0].mean(0).tolist() for name in NAMES}
    rows = {"the reference": before["dpo"] + before["ppo"]}
    found = ends(config, market)
    rows |= {name: found["dpo"][name] + found["ppo"][name] for name, _, _ in label_kinds(config)}
    columns = ("utility", "satisfaction", "true")
    headers = [f"{name}: {column}" for name in ("DPO", "PPO") for column in columns]
    return Table(
        f"After training, means of {config.num_seeds} data sets",
        ("labels", *headers),
        [(name, *numbers) for name, numbers in rows.items()],
        note="true: probability of the message that says what is so",
    )
