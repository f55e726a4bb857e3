"""Randomised exploration from preferences: how much regret, for how many queries?"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.randomized_pbrl.config import Config
from experiments.randomized_pbrl.curves import methods, posterior_curves, regret_curves
from experiments.randomized_pbrl.report import ordered, write_report
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.reports.intervals import bootstrap_claim
from rlhf_jax.training import Run, run_stage

Arrays = Mapping[str, np.ndarray]
SAMPLED = (0.0, 0.1)  # eps of posterior sampling


def run(config: Config, job: Run) -> Outcome:
    """Tables, linear MDPs, posterior sampling; claims on means over seeds."""
    stages = {
        "table": lambda: pr_curves(config, config.table),
        "linear": lambda: pr_curves(config, config.linear),
        "sampling": lambda: sampling_curves(config),
    }
    found = {
        name: run_stage(job, name, lambda _, work=work: (work(), {})).arrays
        for name, work in stages.items()
    }
    claims = [
        *table_claims(config, found["table"]),
        *regret_claims("linear", found["linear"], found["linear"]),
        noise_claim("linear", found["linear"]),
        *regret_claims("table", found["table"], found["sampling"], "PbTS, eps = 0"),
    ]
    table = summary_table(config, found)
    write_report(job, config, found, claims, table)
    numbers = {kind: ends(arrays) for kind, arrays in found.items()}
    return Outcome(claims, numbers=numbers, table=table)


def pr_curves(config: Config, kind) -> dict[str, np.ndarray]:
    """method/regret and method/queries [seeds, T], all methods and seeds in one jit."""
    with jax.enable_x64(True):
        named = methods(config)
        stacked = jax.tree.map(lambda *each: jnp.stack(each), *named.values())
        run = jax.vmap(lambda method: regret_curves(config, kind, seeds(config), method))
        return named_curves(named, jax.jit(run)(stacked))


def sampling_curves(config: Config) -> dict[str, np.ndarray]:
    """The same of PbTS, in the same tables."""
    with jax.enable_x64(True):
        run = jax.vmap(lambda eps: posterior_curves(config, config.table, seeds(config), eps))
        names = [f"PbTS, eps = {eps:g}" for eps in SAMPLED]
        return named_curves(names, jax.jit(run)(jnp.asarray(SAMPLED)))


def seeds(config: Config) -> jax.Array:
    """One key for each world, the same for every method."""
    return jax.random.split(jax.random.key(config.seed), config.num_seeds)


def named_curves(names: Sequence[str] | Mapping, curves) -> dict[str, np.ndarray]:
    """Curves [methods, seeds, T] by method."""
    regrets, queries = (np.asarray(each) for each in curves)
    found = {f"{name}/regret": regrets[i] for i, name in enumerate(names)}
    return found | {f"{name}/queries": queries[i] for i, name in enumerate(names)}


def slope(regrets: np.ndarray) -> float:
    """Of the log of mean cumulative regret [seeds, T] in log t, on [T / 8, T]."""
    rounds = regrets.shape[1]
    times = np.unique(np.geomspace(rounds / 8, rounds, 40).round().astype(int))
    return float(np.polyfit(np.log(times), np.log(regrets.mean(0)[times - 1]), 1)[0])


def last_share(over: np.ndarray, under: np.ndarray) -> float:
    """Mean final value of one method over that of another, both [seeds, T]."""
    return float(over[:, -1].mean() / under[:, -1].mean())


def regret_claims(kind: str, arrays: Arrays, found: Arrays, name: str = "eps = 0") -> list[Claim]:
    """Regret of the method `name` that is sublinear, as greedy's is not, and half of greedy's."""
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
        ),
        bootstrap_claim(
            f"{kind}, {name}: final regret over that of greedy, both truncated",
            last_share,
            [regrets, greedy],
            "<=",
            0.5,
            kind="ours",
            source="noise explores; the paper has no experiment",
        ),
    ]


def noise_claim(kind: str, arrays: Arrays) -> Claim:
    """Truncation sends greedy to what is new; without it only noise explores."""
    names = ("eps = 0, no truncation", "greedy, no truncation")
    return bootstrap_claim(
        f"{kind}, eps = 0: final regret over that of greedy, neither truncated",
        last_share,
        [arrays[f"{name}/regret"] for name in names],
        "<=",
        0.5,
        kind="ours",
        source="noise explores; the paper has no experiment",
    )


def table_claims(config: Config, arrays: Arrays) -> list[Claim]:
    """(a) sublinear, (b) fewer queries, (c) order along eps, (d) queries stop, and their bound."""
    regrets, queries = (
        [arrays[f"eps = {eps:g}/{what}"] for eps in config.eps] for what in ("regret", "queries")
    )
    second, half = f"table, eps = {config.eps[1]:g}", config.rounds // 2 - 1
    trade = {"kind": "theorem", "source": "Theorem 4.2: queries against regret"}

    def steps(*curves: np.ndarray) -> np.ndarray:
        """Change of the mean final value from one eps to the next."""
        return np.diff([each[:, -1].mean() for each in curves])

    def growth(*curves: np.ndarray) -> float:
        return max(each[:, -1].mean() / each[:, half].mean() - 1 for each in curves)

    def share(over: np.ndarray, under: np.ndarray) -> float:
        return last_share(under, over)

    # The rival asks at a coin of 10%, about as often as the rule does at the second eps.
    coin = f"random {config.rates[-1]:.0%}"
    return [
        *regret_claims("table", arrays, arrays),
        noise_claim("table", arrays),
        bootstrap_claim(
            f"{second}: queries over those of eps = 0", share, queries[:2], "<=", 0.15, **trade
        ),
        bootstrap_claim(
            f"{second}: final regret over that of eps = 0", share, regrets[:2], "<=", 2.0, **trade
        ),
        bootstrap_claim(
            f"{second}: final regret over that of questions at random, {config.rates[-1]:.0%}",
            last_share,
            [regrets[1], arrays[f"{coin}/regret"]],
            "<",
            1.0,
            kind="ours",
            source="the rule is worth its queries",
        ),
        bootstrap_claim(
            "table: largest change of mean queries from one eps to the next",
            lambda *curves: float(steps(*curves).max()),
            queries,
            "<",
            0.0,
            **trade,
        ),
        bootstrap_claim(
            "table: smallest change of mean regret from one eps to the next",
            lambda *curves: float(steps(*curves).min()),
            regrets,
            ">",
            0.0,
            **trade,
        ),
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


def ends(arrays: Arrays) -> dict:
    """Final regret and queries of each seed, and the slope, by method."""
    return {
        name: {
            "regret": arrays[f"{name}/regret"][:, -1].tolist(),
            "queries": arrays[f"{name}/queries"][:, -1].tolist(),
            "slope": slope(arrays[f"{name}/regret"]),
        }
        for name in ordered(arrays)
    }


def interval(values: np.ndarray, form: Callable = "{:.0f}".format) -> str:
    """Mean over seeds, and the range."""
    return f"{form(values.mean())} [{form(values.min())}, {form(values.max())}]"


def summary_table(config: Config, found: Mapping[str, Arrays]) -> Table:
    """Methods as rows."""
    rows = []
    for kind, arrays in found.items():
        for name in ordered(arrays):
            regrets, queries = arrays[f"{name}/regret"], arrays[f"{name}/queries"]
            shown = name if kind == "sampling" else f"{kind}: {name}"
            rows.append((shown, interval(regrets[:, -1]), slope(regrets), interval(queries[:, -1])))
    return Table(
        f"After {config.rounds} rounds, mean [range] over {config.num_seeds} worlds",
        ("method", "regret", "slope", "queries"),
        rows,
        note="slope: of the log of mean cumulative regret in log t, on the last 7/8 of the rounds",
    )
