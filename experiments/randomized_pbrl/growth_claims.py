"""Exponents of regret and queries in T and in d; the unit is a world, at all its scales."""

from collections.abc import Callable, Mapping

import numpy as np

from experiments.randomized_pbrl.claims import against
from experiments.randomized_pbrl.config import Config, GrowthConfig
from experiments.randomized_pbrl.rates import ALONE, ALWAYS, RIVALS, fixed
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim, bootstrap_interval

Arrays = Mapping[str, np.ndarray]
WORST = "of the worst scale"
TRADE = "Theorem 4.2: regret T^(1 - b), queries T^(2b) log T at eps = T^-b"


def worst(values: np.ndarray) -> np.ndarray:
    """[X] largest over scales of the mean over worlds, of values [worlds, scales, X]."""
    return values.mean(0).max(0)


def exponent(x) -> Callable[[np.ndarray], float]:
    """Slope of log `worst` in log x."""
    logs = np.log(np.asarray(x, float))
    return lambda values: float(np.polyfit(logs, np.log(worst(values)), 1)[0])


def log_exponent(growth: GrowthConfig) -> float:
    """By how much the log T of the bound on queries, log(1 + T L^2 / m), raises an exponent."""
    kind = growth.world(growth.sizes[0])
    m = kind.num_actions + (kind.horizon - 1) * kind.transition_features
    t = np.asarray(growth.rounds, float)
    factor = np.log1p(t * 2 * kind.horizon / m)
    return float(np.polyfit(np.log(t), np.log(factor), 1)[0])


def trade_claims(config: Config, found: Arrays) -> list[Claim]:
    """For each b: exponents of regret and of queries, and regret at equal queries."""
    growth = config.growth
    early = [rounds for rounds in growth.rounds if rounds <= growth.base]
    slack = log_exponent(growth)
    claims = []
    for b in growth.exponents:
        regrets, queries = (found[f"b = {b:g}/{what}"] for what in ("regret", "queries"))
        still, always = found[f"{fixed(growth, b)}/regret"], found[f"{ALWAYS}/queries"]
        claims += [
            bootstrap_claim(
                f"b = {b:g}: exponent in T of regret {WORST}",
                exponent(growth.rounds),
                [regrets],
                "<=",
                1.0 - b,
                kind="theorem",
                source=TRADE,
                baseline=against(f"{fixed(growth, b)} at every T", exponent(early), still),
            ),
            bootstrap_claim(
                f"b = {b:g}: exponent in T of queries {WORST}",
                exponent(growth.rounds),
                [queries],
                "<=",
                2.0 * b + slack,
                kind="theorem",
                source=f"{TRADE}; log T adds {slack:.2f} over these T",
                baseline=against(ALWAYS, exponent(early), always),
            ),
            budget_claim(config, found, b),
        ]
    return claims


def budget_claim(config: Config, found: Arrays, b: float) -> Claim:
    """Regret over that of the better rival with as many queries in each world."""
    growth = config.growth
    at = growth.rounds.index(growth.base)
    own = found[f"b = {b:g}/regret"][..., at : at + 1]
    rivals = {name: found[f"{name}, b = {b:g}/regret"] for name in RIVALS}
    better, other = sorted(rivals, key=lambda name: worst(rivals[name])[0])

    def share(over: np.ndarray, under: np.ndarray) -> float:
        return float(worst(over)[0] / worst(under)[0])

    return bootstrap_claim(
        f"b = {b:g}, T = {growth.base}: regret {WORST} over that of the better rival with the same "
        f"queries ({better})",
        share,
        [own, rivals[better]],
        "<",
        1.0,
        kind="ours",
        source="the rule is worth its queries",
        baseline=against(f"the other, {other}", share, rivals[other], rivals[better], op="<"),
    )


def size_claims(config: Config, found: Arrays) -> list[Claim]:
    """The exponent in d of queries. That of regret has no claim: at these T the theorem's terms
    d^3 sqrt(T) and d^(17/2) allow anything."""
    growth = config.growth
    d = [growth.world(size).transition_features for size in growth.sizes]
    setting = f"T = {growth.base}, b = {growth.middle:g}, d = {d[0]} to {d[-1]}"
    return [
        bootstrap_claim(
            f"{setting}: exponent in d of queries {WORST}",
            exponent(d),
            [found["rule/queries"]],
            "<=",
            1.0,
            kind="theorem",
            source="elliptical potential: d log(1 + T / d) queries at one eps; Theorem 4.2 has d^4",
            baseline=against(ALONE, exponent(d), found[f"{ALONE}/queries"]),
        ),
    ]


def growth_rows(config: Config, found: Arrays, by_size: Arrays) -> list[tuple]:
    """Name, worst mean regret at the first and last T or d, both exponents, the same of queries."""
    growth = config.growth
    early = [rounds for rounds in growth.rounds if rounds <= growth.base]
    d = [growth.world(size).transition_features for size in growth.sizes]
    names = [f"b = {b:g}" for b in growth.exponents]
    still = [fixed(growth, b) for b in growth.exponents]
    rows = [row(f"T: {name}", growth.rounds, found, name) for name in names]
    rows += [row(f"T: {name}", early, found, name) for name in (*still, ALWAYS)]
    rows += [row(f"d: {name}", d, by_size, name) for name in ("rule", ALWAYS, ALONE)]
    for name in (f"{rival}, b = {b:g}" for b in growth.exponents for rival in RIVALS):
        ends = (f"{worst(found[f'{name}/{what}'])[0]:.0f}" for what in ("regret", "queries"))
        regret, queries = ends
        rows.append((f"T = {growth.base}: {name}", regret, "", queries))
    return rows


def row(shown: str, x, found: Arrays, name: str) -> tuple[str, str, str, str]:
    """A row of the table."""
    ends, slopes = [], []
    for what in ("regret", "queries"):
        values = found[f"{name}/{what}"]
        mean = worst(values)
        low, high = bootstrap_interval(exponent(x), values)
        ends.append(f"{mean[0]:.0f} to {mean[-1]:.0f}")
        slopes.append(f"{exponent(x)(values):.2f} [{low:.2f}, {high:.2f}]")
    return shown, ends[0], ", ".join(slopes), ends[1]
