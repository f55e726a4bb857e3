"""Randomised exploration from preferences: how much regret, for how many queries?"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.randomized_pbrl.claims import noise_claim, regret_claims, slope, table_claims
from experiments.randomized_pbrl.config import Config
from experiments.randomized_pbrl.curves import methods, posterior_curves, regret_curves
from experiments.randomized_pbrl.growth_claims import growth_rows, size_claims, trade_claims
from experiments.randomized_pbrl.rates import sizes, trade_off
from experiments.randomized_pbrl.report import ordered, write_report
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]
SAMPLED = (0.0, 0.1)  # eps of posterior sampling


def run(config: Config, job: Run) -> Outcome:
    """Tables, linear MDPs, posterior sampling; claims on means over seeds."""
    stages = {
        "table": lambda: pr_curves(config, config.table),
        "linear": lambda: pr_curves(config, config.linear),
        "sampling": lambda: sampling_curves(config),
        "trade": lambda: trade_off(config),
        "sizes": lambda: sizes(config),
    }
    found = run_stages(job, stages)
    claims = [
        *table_claims(config, found["table"]),
        *regret_claims("linear", found["linear"], found["linear"]),
        noise_claim("linear", found["linear"]),
        *regret_claims("table", found["table"], found["sampling"], "PbTS, eps = 0"),
        *trade_claims(config, found["trade"]),
        *size_claims(config, found["sizes"]),
    ]
    curves = {name: found[name] for name in ("table", "linear", "sampling")}
    grown = growth_rows(config, found["trade"], found["sizes"])
    table = summary_table(config, curves, grown)
    write_report(job, config, found, claims, table)
    numbers = {kind: ends(arrays) for kind, arrays in curves.items()}
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


def summary_table(config: Config, found: Mapping[str, Arrays], grown: Sequence[tuple]) -> Table:
    """Methods as rows, then those about exponents."""
    rows = []
    for kind, arrays in found.items():
        for name in ordered(arrays):
            regrets, queries = arrays[f"{name}/regret"], arrays[f"{name}/queries"]
            shown = name if kind == "sampling" else f"{kind}: {name}"
            rows.append((shown, interval(regrets[:, -1]), slope(regrets), interval(queries[:, -1])))
    return Table(
        f"After {config.rounds} rounds, mean [range] over {config.num_seeds} worlds",
        ("method", "regret", "slope", "queries"),
        [*rows, *grown],
        note="slope: of the log of mean cumulative regret in log t, on the last 7/8 of the rounds; "
        "T and d: the worst scale, at the first and last T or d, and [95%] exponents of regret and "
        "of queries",
    )
