"""What randomized_pbrl claims of its curves [seeds, T]; the unit is a world."""

from collections.abc import Callable, Mapping

import numpy as np

from experiments.randomized_pbrl.config import Config
from experiments.randomized_pbrl.curves import PLAIN, TIES
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim, bootstrap_interval, near_end

Arrays = Mapping[str, np.ndarray]
TRADE = {"kind": "theorem", "source": "Theorem 4.2: queries against regret"}


def slope(regrets: np.ndarray) -> float:
    """Of the log of mean cumulative regret [seeds, T] in log t, on [T / 8, T]."""
    rounds = regrets.shape[1]
    times = np.unique(np.geomspace(rounds / 8, rounds, 40).round().astype(int))
    return float(np.polyfit(np.log(times), np.log(regrets.mean(0)[times - 1]), 1)[0])


def last_share(over: np.ndarray, under: np.ndarray) -> float:
    """Mean final value of one method over that of another, both [seeds, T]."""
    return float(over[:, -1].mean() / under[:, -1].mean())


def against(
    name: str, statistic: Callable[..., float], *units: np.ndarray, op: str = "<="
) -> tuple[str, float]:
    """A baseline that must fail with its whole interval."""
    return near_end(name, bootstrap_interval(statistic, *units), op)


def regret_claims(kind: str, arrays: Arrays, found: Arrays, name: str = "eps = 0") -> list[Claim]:
    """Regret of the method `name`: sublinear, and at most half of greedy's."""
    regrets, greedy = found[f"{name}/regret"], arrays["greedy/regret"]
    never = f"greedy{PLAIN}"
    return [
        bootstrap_claim(
            f"{kind}, {name}: slope of log mean regret in log t",
            slope,
            [regrets],
            "<=",
            0.8,
            kind="theorem",
            source="Theorem 4.2: sqrt T",
            baseline=against(never, slope, arrays[f"{never}/regret"]),
        ),
        bootstrap_claim(
            f"{kind}, {name}: final regret over that of greedy, both truncated",
            last_share,
            [regrets, greedy],
            "<=",
            0.5,
            kind="ours",
            source="noise explores; the paper has no experiment",
            baseline=against(TIES, last_share, arrays[f"{TIES}/regret"], greedy),
        ),
    ]


def noise_claim(kind: str, arrays: Arrays) -> Claim:
    """Truncation sends greedy to what is new; without it only noise explores."""
    own, greedy, ties = (arrays[f"{name}{PLAIN}/regret"] for name in ("eps = 0", "greedy", TIES))
    return bootstrap_claim(
        f"{kind}, eps = 0: final regret over that of greedy, neither truncated",
        last_share,
        [own, greedy],
        "<=",
        0.5,
        kind="ours",
        source="noise explores; the paper has no experiment",
        baseline=against(f"{TIES}{PLAIN}", last_share, ties, greedy),
    )


def table_claims(config: Config, arrays: Arrays) -> list[Claim]:
    """(a) sublinear, (b) fewer queries, better chosen, (c) queries stop."""
    regrets, queries = (
        [arrays[f"eps = {eps:g}/{what}"] for eps in config.eps] for what in ("regret", "queries")
    )
    second, half = f"table, eps = {config.eps[1]:g}", config.rounds // 2 - 1

    def growth(*curves: np.ndarray) -> float:
        return max(each[:, -1].mean() / each[:, half].mean() - 1 for each in curves)

    # The rival asks at a coin of 10%, about as often as the rule does at the second eps.
    coin = arrays[f"random {config.rates[-1]:.0%}/regret"]
    most = f"eps = {config.eps[-1]:g}"
    return [
        *regret_claims("table", arrays, arrays),
        noise_claim("table", arrays),
        bootstrap_claim(
            f"{second}: queries over those of eps = 0",
            last_share,
            queries[1::-1],
            "<=",
            0.15,
            baseline=against("greedy", last_share, arrays["greedy/queries"], queries[0]),
            **TRADE,
        ),
        bootstrap_claim(
            f"{second}: final regret over that of eps = 0",
            last_share,
            regrets[1::-1],
            "<=",
            2.0,
            baseline=against("questions at random", last_share, coin, regrets[0]),
            **TRADE,
        ),
        bootstrap_claim(
            f"{second}: final regret over that of questions at random, {config.rates[-1]:.0%}",
            last_share,
            [regrets[1], coin],
            "<",
            1.0,
            kind="ours",
            source="the rule is worth its queries",
            baseline=against(most, last_share, regrets[-1], coin, op="<"),
        ),
        bootstrap_claim(
            "table, eps > 0: largest growth of mean queries in the last half of the rounds",
            growth,
            queries[1:],
            "<=",
            0.15,
            kind="theorem",
            source="Theorem 4.2: queries grow with log T",
            baseline=against("eps = 0", growth, queries[0]),
        ),
    ]
