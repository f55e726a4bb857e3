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


def half_claims(halves: Arrays) -> list[Claim]:
    """Panel E: P(difference = 0) at the end, tables of 6 steps, against additive reward models."""
    ends = {name: chances[:, -1] for name, chances in halves.items()}
    additive = {name: x for name, x in ends.items() if "r(t, a)" in name}
    control = ends["reward model r(t, difference, a)"]
    size = "P(difference = 0) after the last update"
    best = max(x.max() for x in additive.values())
    return [
        Claim(
            f"E, SPO: {size}, worst seed",
            ends["SPO"].min(),
            ">=",
            0.95,
            kind="paper",
            source="non-Markovian preferences: here no sum of r(t, a) has the second half match",
            baseline=("r(t, a), best seed and memory", best),
        ),
        *(
            Claim(
                f"E, {name}: {size}, best seed",
                x.max(),
                "<=",
                0.5,
                kind="ours",
                source="policies that ignore the first half have 3/8 at most",
                baseline=("r(t, difference, a)", control.max()),
            )
            for name, x in additive.items()
        ),
        Claim(
            f"E, control r(t, difference, a): {size}, worst seed",
            control.min(),
            ">=",
            0.95,
            kind="ours",
            source="a reward with the state that it lacks suffices",
            baseline=("r(t, a), best seed and memory", best),
        ),
    ]


def label_claims(config: Config, labels: Games) -> list[Claim]:
    """Panel F: the average policy where the labels are drawn, at the largest share of flips."""
    claims = []
    for game, methods in labels.items():
        ours, theirs = (methods[name]["average"][:, -1, -1] for name in ("SPO", MODEL))
        noise = f"F, {game}, Bernoulli labels, {config.flips[-1]:.0%} of them flipped"
        claims += [
            Claim(
                f"{noise}: last gap of SPO's average policy, worst seed",
                ours.max(),
                "<=",
                0.1,
                kind="paper",
                source="robust to stochastic preferences; flips leave the minimax winner",
                baseline=("the reward model's average policy, same labels", theirs.max()),
            ),
            bootstrap_claim(
                f"{noise}: mean gap of SPO's average policy over that of the reward model's",
                lambda ours, theirs: ours.mean() / theirs.mean(),
                [ours, theirs],
                "<=",
                0.5,
                kind="ours",
                source="like against like, as many labels: half the gap",
            ),
        ]
    return claims


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
