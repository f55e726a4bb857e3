"""All that a run has measured, and what claims and report read of it."""

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import scipy

from experiments.shop_methods.config import OFFLINE, ONLINE
from experiments.shop_methods.measure import OBJECTIVE, Numbers


class Findings(NamedTuple):
    """numbers: method -> one for each seed. rates: of each method. sweep: method -> rate -> gold on
    validation prompts. start: SFT, for each seed. base: the base model, for each seed, where a
    method starts from it. best_of: the same as start, of best-of-n, gold [N, 1].
    quality: of the reward models, for each seed. controls: of `control_changes`. filters: of
    `filter_golds`."""

    numbers: dict[str, list[Numbers]]
    rates: dict[str, float]
    sweep: dict[str, dict[float, float]]
    start: list[Numbers]
    base: list[Numbers]
    best_of: list[dict[str, Any]]
    quality: list[dict[str, float]]
    controls: dict[str, dict[str, float]]
    filters: dict[str, list[float]]

    def golds(self, name: str) -> np.ndarray:
        """[S] mean objective of a method with each seed."""
        return np.array([np.nanmean(one.gold) for one in self.numbers[name]])

    def greedy_golds(self, name: str) -> np.ndarray:
        """[S] mean objective of a method's greedy answers with each seed."""
        return np.array([np.nanmean(one.greedy) for one in self.numbers[name]])

    def kls(self, name: str) -> np.ndarray:
        """[S] nats per answer."""
        return np.array([one.kl for one in self.numbers[name]])

    def forgettings(self, name: str) -> np.ndarray:
        """[S] loss on the base corpus, nats per token."""
        return np.array([one.forgetting for one in self.numbers[name]])

    def several(self, league: tuple[str, ...]) -> list[str]:
        """Methods of a league with as many seeds as there are."""
        seeds = len(self.start)
        return [name for name in league if len(self.numbers.get(name, ())) == seeds]

    def league_gold(self, league: tuple[str, ...]) -> np.ndarray:
        """[S] mean over the methods of a league that have all seeds."""
        return np.mean([self.golds(name) for name in self.several(league)], axis=0)


def frontiers(found: Findings, league: tuple[str, ...], kls: np.ndarray) -> np.ndarray:
    """[S, M] the highest gold of a league's methods with all seeds within each KL, SFT included."""
    names, rows = found.several(league), []
    for seed, start in enumerate(found.start):
        kl = np.array([0.0, *(found.kls(name)[seed] for name in names)])
        gold = np.array([np.nanmean(start.gold), *(found.golds(name)[seed] for name in names)])
        rows.append([gold[kl <= each].max() for each in np.maximum(kls, 0.0)])
    return np.array(rows)


def empty_findings() -> Findings:
    """Of a run that begins."""
    return Findings({}, {}, {}, [], [], [], [], {}, {})


def rank_stability(found: Findings) -> list[float]:
    """Kendall's tau between the orders by gold of every two seeds; [] with one seed."""
    names = found.several(OFFLINE + ONLINE)
    seeds = len(found.start)
    if len(names) < 2:
        return []
    golds = np.array([found.golds(name) for name in names])
    return [
        float(scipy.stats.kendalltau(golds[:, i], golds[:, j]).statistic)
        for i, j in combinations(range(seeds), 2)
    ]


def summary_numbers(found: Findings) -> dict[str, Any]:
    """What summary.json keeps."""

    def of(one: Numbers) -> dict[str, Any]:
        means = {name: float(np.nanmean(x)) for name, x in one.axes.items()}
        plain = {k: v for k, v in one._asdict().items() if isinstance(v, float) and v == v}
        golds = {"gold": float(np.nanmean(one.gold)), "win_rate": float(np.nanmean(one.win_rate))}
        golds["greedy"] = float(np.nanmean(one.greedy))
        return {**golds, "axes": means, **plain}

    return {
        "start": [of(one) for one in found.start],
        "base": [of(one) for one in found.base],
        "best_of": [float(np.nanmean(one["named"][OBJECTIVE])) for one in found.best_of],
        "methods": {name: [of(one) for one in each] for name, each in found.numbers.items()},
        "rates": found.rates,
        "sweep": {name: {f"{k:g}": v for k, v in x.items()} for name, x in found.sweep.items()},
        "quality": found.quality,
        "tau": rank_stability(found),
        "controls": found.controls,
        "filters": found.filters,
    }
