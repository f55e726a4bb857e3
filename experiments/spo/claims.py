"""What spo claims of its panels, and the baselines that must fail."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.spo.config import Config
from rlhf_jax.reports.claims import Claim, largest_change
from rlhf_jax.reports.intervals import (
    bootstrap_claim,
    mean_claim,
    mean_interval,
    near_end,
)
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
    ours, theirs = (methods[name]["average"][:, -1] for name in ("SPO", MODEL))
    return mean_claim(
        f"A, {game}: last gap of SPO's average policy, mean over seeds",
        ours,
        "<=",
        0.1,
        kind="paper",
        source="the average policy approaches the minimax winner",
        baseline=near_end("the reward model's average policy", mean_interval(theirs), "<="),
    )


def rival_claims(config: Config, games: Games, rivals: Arrays) -> list[Claim]:
    """Panel A: against reward models with their best fit rate, and with any memory of pairs."""
    return [
        bootstrap_claim(
            f"A, {game}: mean last gap of SPO's average policy over that of the reward model on "
            f"{pairs}, at the best of its {count} settings",
            best_ratio,
            [methods["SPO"]["average"][:, -1], ends],
            op,
            threshold,
            kind="ours",
            source=source,
            baseline=(
                "the reward model's last policy in the place of SPO's average",
                best_ratio(methods[MODEL]["last"][:, -1], ends),
            ),
        )
        for game, methods in games.items()
        for pairs, ends, op, threshold, source in (
            (
                *("all pairs so far", rivals[game][..., 0], "<=", 0.5),
                "as many comparisons, the paper's memory: half the gap",
            ),
            (
                *("all or the newest pairs", rivals[game], "<", 1.0),
                "as many comparisons, any memory",
            ),
        )
        for count in [ends[0].size]
    ]


def best_ratio(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Mean of ours [S] over the least mean of theirs [S, ...]; chosen again in every resample."""
    return ours.mean() / theirs.mean(axis=0).min()


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
    """Panel C: P(count = 3) at the end, mean over seeds."""
    ends = {name: chances[:, -1] for name, chances in walks.items()}
    spo, additive, control = (
        ends[name] for name in ("SPO", "reward model r(a)", "reward model r(t, a)")
    )
    size = "P(count = 3) at the end, mean over seeds"
    short = near_end("r(a) on all pairs so far", mean_interval(additive), ">=")
    return [
        mean_claim(
            f"C, SPO: {size}",
            spo,
            ">=",
            0.95,
            kind="paper",
            source="a preference that no r(a), summed over steps, explains",
            baseline=short,
        ),
        mean_claim(
            f"C, r(a) on all pairs so far: {size}",
            additive,
            "<=",
            0.5,
            kind="ours",
            source="its memory: fitted to the newest batch alone it arrives",
            baseline=near_end("r(t, a) on all pairs so far", mean_interval(control), "<="),
        ),
        mean_claim(
            f"C, control r(t, a) on all pairs so far: {size}",
            control,
            ">=",
            0.95,
            kind="ours",
            source="an additive model with the number of the step suffices",
            baseline=short,
        ),
    ]


def half_claims(halves: Arrays) -> list[Claim]:
    """Panel E: P(difference = 0) at the end, tables of 6 steps, against additive reward models."""
    ends = {name: chances[:, -1] for name, chances in halves.items()}
    additive = {name: x for name, x in ends.items() if "r(t, a)" in name}
    control = ends["reward model r(t, difference, a)"]
    size = "P(difference = 0) after the last update, mean over seeds"
    name, best = max(additive.items(), key=lambda each: each[1].mean())
    short = near_end(f"{name}, the better memory", mean_interval(best), ">=")
    seen = near_end("r(t, difference, a)", mean_interval(control), "<=")
    about: dict[str, Any] = {"kind": "ours"}
    return [
        mean_claim(
            f"E, SPO: {size}",
            ends["SPO"],
            ">=",
            0.95,
            kind="paper",
            source="non-Markovian preferences: here no sum of r(t, a) has the second half match",
            baseline=short,
        ),
        *(
            mean_claim(
                f"E, {name}: {size}",
                x,
                "<=",
                0.5,
                source="policies that ignore the first half have 3/8 at most",
                baseline=seen,
                **about,
            )
            for name, x in additive.items()
        ),
        mean_claim(
            f"E, control r(t, difference, a): {size}",
            control,
            ">=",
            0.95,
            source="a reward with the state that it lacks suffices",
            baseline=short,
            **about,
        ),
    ]


def label_claims(config: Config, labels: Games) -> list[Claim]:
    """Panel F: the average policy where the labels are drawn, at the largest share of flips."""
    claims = []
    for game, methods in labels.items():
        ours, theirs = (methods[name]["average"][:, -1, -1] for name in ("SPO", MODEL))
        noise = f"F, {game}, Bernoulli labels, {config.flips[-1]:.0%} of them flipped"
        model = "the reward model's average policy, same labels"
        claims += [
            mean_claim(
                f"{noise}: last gap of SPO's average policy, mean over seeds",
                ours,
                "<=",
                0.1,
                kind="paper",
                source="robust to stochastic preferences; flips leave the minimax winner",
                baseline=near_end(model, mean_interval(theirs), "<="),
            ),
            bootstrap_claim(
                f"{noise}: mean gap of SPO's average policy over that of the reward model's",
                lambda ours, theirs: ours.mean() / theirs.mean(),
                [ours, theirs],
                "<=",
                0.5,
                kind="ours",
                source="like against like, as many labels: half the gap",
                baseline=(
                    "the reward model's last policy in the place of SPO's average",
                    methods[MODEL]["last"][:, -1, -1].mean() / theirs.mean(),
                ),
            ),
        ]
    return claims


def queue_claims(config: Config, queues: Arrays) -> list[Claim]:
    """Panel D: the queue of one batch has the least average gap, in the mean over seeds."""
    own = config.queues.index(config.batch)

    def ratio(ends: np.ndarray) -> float:
        means = ends.mean(axis=0)
        return means[own] / np.delete(means, own).min()

    ends = queues["average"][..., -1]
    means = np.delete(ends.mean(axis=0), own)
    return [
        bootstrap_claim(
            f"D, RPS(0.9): mean average gap with a queue of {config.batch}, the batch, over the "
            "best other",
            ratio,
            [ends],
            "<",
            1.0,
            kind="ours",
            source="a longer queue answers an older policy",
            baseline=("the best other in its place", means.min() / ends.mean(axis=0).min()),
        )
    ]
