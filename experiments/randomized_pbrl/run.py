"""Randomised exploration from preferences: how much regret, for how many queries?"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.randomized_pbrl.config import Config
from experiments.randomized_pbrl.curves import methods, posterior_curves, regret_curves
from experiments.randomized_pbrl.report import ordered, write_report
from rlhf_jax.algos.preference_lsvi import most_queries, norm_threshold
from rlhf_jax.reports.claims import Claim, Outcome, Table
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
        *regret_claims("linear", found["linear"], found["linear"]["eps = 0/regret"]),
        *regret_claims("PbTS", found["table"], found["sampling"]["PbTS, eps = 0/regret"]),
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


def regret_claims(kind: str, arrays: Arrays, regrets: np.ndarray) -> list[Claim]:
    """Regret [seeds, T] that is sublinear, and ends at half of the greedy fit's at most."""
    share = regrets[:, -1].mean() / arrays["greedy/regret"][:, -1].mean()
    return [
        Claim(f"{kind}, eps = 0: slope of log regret", slope(regrets), "<=", 0.8),
        Claim(f"{kind}, eps = 0: final regret over greedy's", share, "<=", 0.5),
    ]


def table_claims(config: Config, arrays: Arrays) -> list[Claim]:
    """(a) sublinear, (b) fewer queries, (c) order along eps, (d) queries stop, and their bound."""
    regrets, queries = (
        np.array([arrays[f"eps = {eps:g}/{what}"].mean(0) for eps in config.eps])
        for what in ("regret", "queries")
    )
    last, asked, second = regrets[:, -1], queries[:, -1], f"table, eps = {config.eps[1]:g}"
    growth = asked[1:] / queries[1:, config.rounds // 2 - 1] - 1
    return [
        *regret_claims("table", arrays, arrays["eps = 0/regret"]),
        Claim(f"{second}: queries over eps = 0's", asked[1] / asked[0], "<=", 0.15),
        Claim(f"{second}: regret over eps = 0's", last[1] / last[0], "<=", 2.0),
        Claim("table: largest change of queries along eps", np.diff(asked).max(), "<", 0.0),
        Claim("table: smallest change of regret along eps", np.diff(last).min(), ">", 0.0),
        Claim("table, eps > 0: growth of queries in the last half", growth.max(), "<=", 0.15),
        Claim("table: queries over their bound, any run", bound_share(config, arrays), "<=", 1),
    ]


def bound_share(config: Config, arrays: Arrays) -> float:
    """The largest share of its bound that any run with eps > 0 asked."""
    kind = config.table
    shares = []
    for eps in config.eps[1:]:
        bound = most_queries(
            config.rounds,
            num_features=kind.horizon * kind.transition_features,
            length=float(np.sqrt(2 * kind.horizon)),
            threshold=norm_threshold(eps, sigma=config.sigma_reward),
            ridge=config.ridge,
        )
        shares.append(arrays[f"eps = {eps:g}/queries"][:, -1].max() / float(bound))
    return max(shares)


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
