"""What randomized_pbrl claims of its curves [seeds, T]; the unit is a world."""

from collections.abc import Mapping

import numpy as np

from experiments.randomized_pbrl.config import Config
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim

Arrays = Mapping[str, np.ndarray]
SAMPLED = (0.0, 0.1)  # eps of posterior sampling
TRADE = {"kind": "ours", "source": "direction of the trade-off of Theorem 4.2; sizes from a trial"}
TIED = "greedy, ties at random"


def slope(regrets: np.ndarray) -> float:
    """Of the log of mean cumulative regret [seeds, T] in log t, on [T / 8, T]."""
    rounds = regrets.shape[1]
    times = np.unique(np.geomspace(rounds / 8, rounds, 40).round().astype(int))
    return float(np.polyfit(np.log(times), np.log(regrets.mean(0)[times - 1]), 1)[0])


def last_share(over: np.ndarray, under: np.ndarray) -> float:
    """Mean final value of one method over that of another, both [seeds, T]."""
    return float(over[:, -1].mean() / under[:, -1].mean())


def regret_claims(kind: str, arrays: Arrays, found: Arrays, name: str = "eps = 0") -> list[Claim]:
    """Regret of the method `name`: sublinear, and at most half of greedy's."""
    regrets, greedy = found[f"{name}/regret"], arrays["greedy/regret"]
    return [
        bootstrap_claim(
            f"{kind}, {name}: slope of log mean regret in log t",
            slope,
            [regrets],
            "<=",
            0.8,
            kind="theorem",
            source="Theorem 4.2: sqrt T",
            baseline=("greedy, no truncation", slope(arrays["greedy, no truncation/regret"])),
        ),
        bootstrap_claim(
            f"{kind}, {name}: final regret over that of greedy, both truncated",
            last_share,
            [regrets, greedy],
            "<=",
            0.5,
            kind="ours",
            source="noise explores; the paper has no experiment",
            baseline=(TIED, last_share(arrays[f"{TIED}/regret"], greedy)),
        ),
    ]


def noise_claim(kind: str, arrays: Arrays) -> Claim:
    """Truncation sends greedy to what is new; without it only noise explores."""
    names = ("eps = 0", "greedy", TIED)
    noisy, greedy, tied = (arrays[f"{name}, no truncation/regret"] for name in names)
    return bootstrap_claim(
        f"{kind}, eps = 0: final regret over that of greedy, neither truncated",
        last_share,
        [noisy, greedy],
        "<=",
        0.5,
        kind="ours",
        source="noise explores; the paper has no experiment",
        baseline=(TIED, last_share(tied, greedy)),
    )


def steps(*curves: np.ndarray) -> np.ndarray:
    """Changes of the mean final value from one of the methods [seeds, T] to the next."""
    return np.diff([each[:, -1].mean() for each in curves])


def order_claims(
    regrets: list[np.ndarray], queries: list[np.ndarray], coins: Mapping[str, list[np.ndarray]]
) -> list[Claim]:
    """(c) fewer queries and more regret from one eps to the next. More coins do the reverse."""
    rising = {what: float(steps(*curves)[0]) for what, curves in coins.items()}
    return [
        bootstrap_claim(
            "table: largest change of mean queries from one eps to the next",
            lambda *curves: float(steps(*curves).max()),
            queries,
            "<",
            0.0,
            baseline=("questions at random, more and more", rising["queries"]),
            **TRADE,
        ),
        bootstrap_claim(
            "table: smallest change of mean regret from one eps to the next",
            lambda *curves: float(steps(*curves).min()),
            regrets,
            ">",
            0.0,
            baseline=("questions at random, more and more", rising["regret"]),
            **TRADE,
        ),
    ]


def table_claims(config: Config, arrays: Arrays, sampled: Arrays) -> list[Claim]:
    """(a) sublinear, (b) fewer queries, (c) order along eps, (d) queries stop.

    sampled: curves of posterior sampling, whose rule at the second eps saves less.
    """
    regrets, queries = (
        [arrays[f"eps = {eps:g}/{what}"] for eps in config.eps] for what in ("regret", "queries")
    )
    second, half = f"table, eps = {config.eps[1]:g}", config.rounds // 2 - 1

    def growth(*curves: np.ndarray) -> float:
        return max(each[:, -1].mean() / each[:, half].mean() - 1 for each in curves)

    # The rival asks at a coin of 10%, about as often as the rule does at the second eps.
    coin = f"random {config.rates[-1]:.0%}"
    coins = {
        what: [arrays[f"random {rate:.0%}/{what}"] for rate in (config.rates[0], config.rates[-1])]
        for what in ("regret", "queries")
    }
    asked = [sampled[f"PbTS, eps = {eps:g}/queries"] for eps in SAMPLED[::-1]]
    return [
        *regret_claims("table", arrays, arrays),
        noise_claim("table", arrays),
        bootstrap_claim(
            f"{second}: queries over those of eps = 0",
            last_share,
            queries[1::-1],
            "<=",
            0.15,
            baseline=(f"PbTS, eps = {SAMPLED[1]:g}", last_share(*asked)),
            **TRADE,
        ),
        bootstrap_claim(
            f"{second}: final regret over that of eps = 0",
            last_share,
            regrets[1::-1],
            "<=",
            2.0,
            baseline=(f"questions at {coin}", last_share(coins["regret"][1], regrets[0])),
            **TRADE,
        ),
        bootstrap_claim(
            f"{second}: final regret over that of questions at random, {config.rates[-1]:.0%}",
            last_share,
            [regrets[1], arrays[f"{coin}/regret"]],
            "<",
            1.0,
            kind="ours",
            source="the rule is worth its queries",
            baseline=(f"questions at random {config.rates[0]:.0%}", last_share(*coins["regret"])),
        ),
        *order_claims(regrets, queries, coins),
        bootstrap_claim(
            "table, eps > 0: largest growth of mean queries in the last half of the rounds",
            growth,
            queries[1:],
            "<=",
            0.15,
            kind="theorem",
            source="Theorem 4.2: queries grow with log T",
            baseline=("eps = 0", growth(queries[0])),
        ),
    ]
