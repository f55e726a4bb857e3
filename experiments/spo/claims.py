"""What spo claims of its panels, and the baselines that must fail."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.spo.config import Config
from rlhf_jax.reports.claims import Claim, largest_change
from rlhf_jax.reports.intervals import bootstrap_claim
from rlhf_jax.reports.rates import Rate, bound_claim, fit_rate, rate_claim

SETTLED = 10.0  # margin times T from which the winner has all the weight that it will have
# Average gap of Hedge on rock-paper-scissors by T, from logits (0.5, -0.5, 0).
AVERAGES = {100: 0.050, 400: 0.041, 1600: 0.0051, 6400: 0.0045}
MODEL = "reward model"
EARLIER: dict[str, Any] = {"kind": "regression", "source": "an earlier run"}
Arrays = Mapping[str, np.ndarray]
Games = Mapping[str, Mapping[str, Arrays]]


def intransitive_claims(games: Games) -> list[Claim]:
    """Panel A: the average policy, both policies against the reward model's, and the cycle."""
    claims = [gap_claim(name, games[name]) for name in ("cycle", "low rank")]
    for part in ("average", "last"):
        claims += [seeds_claim(name, methods, part) for name, methods in games.items()]
    peaks = {
        part: gaps[:, -gaps.shape[1] // 10 :].max(axis=1).min()
        for part, gaps in games["RPS(0.9)"]["SPO"].items()
    }
    return [
        *claims,
        Claim(
            "A, RPS(0.9): largest gap of SPO's last policy in the last tenth, least seed",
            peaks["last"],
            ">=",
            0.36,
            **EARLIER,
            baseline=("SPO's average policy", peaks["average"]),
        ),
    ]


def gap_claim(game: str, methods: Mapping[str, Arrays]) -> Claim:
    """Near a minimax winner, which the reward model's average policy is not."""
    ours, theirs = (methods[name]["average"][:, -1].max() for name in ("SPO", MODEL))
    return Claim(
        f"A, {game}: last gap of SPO's average policy, worst seed",
        ours,
        "<=",
        0.1,
        kind="paper",
        source="the average policy approaches the minimax winner",
        baseline=("the reward model's average policy", theirs),
    )


def seeds_claim(game: str, methods: Mapping[str, Arrays], part: str) -> Claim:
    """Average policy against average policy, last against last."""
    ours, theirs = (methods[name][part][:, -1] for name in ("SPO", MODEL))
    return Claim(
        f"A, {game}: seeds, of {len(ours)}, in which SPO's {part} policy ends with a smaller gap "
        f"than the reward model's {part} policy",
        int((ours < theirs).sum()),
        "==",
        len(ours),
        kind="ours",
        source=f"like against like: {part} policies, every seed",
    )


def rate_claims(config: Config, rates: Arrays) -> list[Claim]:
    """Panel B: 1 / T with a Condorcet winner, the regret bound without."""
    times = np.array(config.horizons)
    settled = np.multiply.outer(config.margins, times) >= SETTLED
    scaled = (rates["condorcet"] * times)[:, settled]
    known = {i: AVERAGES[t] for i, t in enumerate(config.horizons) if t in AVERAGES}
    first = [rates["cycle"][0, i] for i in known]
    name = "B, RPS, first start: largest relative change of the average gap by T"
    change = []
    if known:
        change = [Claim(name, largest_change(first, known.values()), "<=", 0.02, **EARLIER)]
    winner = flattest(config, rates)
    cycle = fit_rate(times, rates["cycle"], law="power")
    return [
        rate_claim(
            "B, Condorcet winner, flattest margin: slope of log average gap in log T",
            winner,
            -1.0,
            slack=0.05,
            source="O(1 / T) with a Condorcet winner",
            baseline=("rock-paper-scissors, no winner", cycle.slope),
        ),
        Claim(
            "B, Condorcet winner: least T times average gap", scaled.min(), ">=", 6.05, **EARLIER
        ),
        Claim(
            "B, Condorcet winner: largest T times average gap", scaled.max(), "<=", 6.25, **EARLIER
        ),
        *change,
        bound_claim(
            "B, RPS: largest average gap over 2 regret / T, all starts and T",
            rates["cycle"],
            rates["bound"],
            source="regret bound of Hedge",
            baseline=("the last policy", rates["cycle last"]),
        ),
    ]


def flattest(config: Config, rates: Arrays) -> Rate:
    """The slope over seeds of the margin whose gap falls slowest, once settled."""
    fits = [
        fit_rate(config.horizons, gaps, law="power", start=SETTLED / margin)
        for margin, gaps in zip(config.margins, rates["condorcet"].swapaxes(0, 1), strict=True)
    ]
    return max(fits, key=lambda rate: rate.slope)


def walk_claims(walks: Arrays) -> list[Claim]:
    """Panel C: P(count = 3) at the end, of the worst seed."""
    ends = {name: chances[:, -1] for name, chances in walks.items()}
    spo, additive, control = (
        ends[name] for name in ("SPO", "reward model r(a)", "reward model r(t, a)")
    )
    return [
        Claim(
            "C, SPO: P(count = 3) at the end, worst seed",
            spo.min(),
            ">=",
            0.95,
            kind="paper",
            source="a preference that no r(a), summed over steps, explains",
            baseline=("r(a) on all pairs so far", additive.min()),
        ),
        Claim(
            "C, r(a) on all pairs so far: P(count = 3) at the end, best seed",
            additive.max(),
            "<=",
            0.5,
            kind="ours",
            source="its memory: fitted to the newest batch alone it arrives",
            baseline=("r(t, a) on all pairs so far", control.max()),
        ),
        Claim(
            "C, control r(t, a) on all pairs so far: P(count = 3) at the end, worst seed",
            control.min(),
            ">=",
            0.95,
            kind="ours",
            source="an additive model with the number of the step suffices",
            baseline=("r(a) on all pairs so far", additive.min()),
        ),
    ]


def queue_claims(config: Config, queues: Arrays) -> list[Claim]:
    """Panel D: the queue of one batch has the least average gap, in the mean over seeds."""
    own = config.queues.index(config.batch)

    def ratio(ends: np.ndarray) -> float:
        means = ends.mean(axis=0)
        return means[own] / np.delete(means, own).min()

    return [
        bootstrap_claim(
            f"D, RPS(0.9): mean average gap with a queue of {config.batch}, the batch, over the "
            "best other",
            ratio,
            [queues["average"][..., -1]],
            "<",
            1.0,
            kind="ours",
            source="a longer queue answers an older policy",
        )
    ]
