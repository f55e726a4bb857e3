"""The plots and the page of randomized_pbrl."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from experiments.randomized_pbrl import PAPER
from experiments.randomized_pbrl.config import Config
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
OTHERS = ("greedy", "random", "PbTS")
PLAIN = ", no truncation"


def write_report(
    job: Run,
    config: Config,
    stages: tuple[Mapping[str, Arrays], Arrays],
    claims: Sequence[Claim],
    table: Table,
) -> None:
    """Saves the data of the curves and of the rates and the figures, and writes report.html."""
    found, rates = stages
    save_stages(job.out, {**found, "rates": rates})
    caption = (
        "Both policies of a round are charged. "
        "Above: regret of PR-LSVI along eps, and of what it is compared with. With "
        "and without truncation, which raises values of what is new. Queries; and where the "
        "methods end, a cross at the means as wide and high as the ranges."
    )
    with_sampling = {**found["table"], **found["sampling"]}
    kind, linear = config.table, config.linear
    drawn = {
        "table": show_panels(
            figure_panels(config, with_sampling, "tables"),
            "Tables",
            f"{kind.num_states} states, {kind.num_actions} actions, {kind.horizon} steps; "
            f"{caption}",
            "regret and queries of each method against rounds, on logarithmic axes",
        ),
        "linear": show_panels(
            figure_panels(config, found["linear"], "linear MDPs"),
            "Linear MDPs that are no tables",
            f"{linear.num_states} states, {linear.num_actions} actions, {linear.horizon} steps, "
            f"{linear.num_features} features; {caption}",
            "regret and queries of each method against rounds, on logarithmic axes",
        ),
        "rates": show_panels(
            rate_panels(config, rates),
            "The trade-off",
            "Final regret and queries on tables, a run of its own for every T, eps = T^-b. The "
            "theorem's orders are T^(1 - b) and T^(2 b).",
            "a larger b makes regret flatter and queries steeper",
            columns=2,
        ),
    }
    write_page(
        job.out,
        "Randomised preference-based reinforcement learning",
        lead="PR-LSVI draws reward and values around what was fitted and plays greedily; it asks "
        "which of two trajectories is better only where its draws disagree by more than eps.",
        paper=PAPER,
        claims=claims,
        figures=drawn,
        table=table,
    )


def figure_panels(config: Config, arrays: Arrays, title: str) -> list[Panel]:
    """Regret along eps and of the others, queries, and regret against queries."""
    names = ordered(arrays)
    times = np.unique(np.geomspace(1, config.rounds, config.points).round().astype(int))

    def over_time(what: str, *starts: str, plain: bool = False) -> dict[str, Series]:
        shown = [name for name in names if name.startswith(starts) and (PLAIN in name) is plain]
        return {name: worlds(times, arrays[f"{name}/{what}"][:, times - 1]) for name in shown}

    late = times[times >= config.rounds // 8]
    root = arrays["eps = 0/regret"].mean(0)[late[0] - 1] * np.sqrt(late / late[0])
    guides = {"sqrt t": Series(late, root)}
    first = over_time("regret", "eps")
    others = {"eps = 0": first["eps = 0"]} | over_time("regret", *OTHERS)
    kept = {name: series for name, series in others.items() if name in ("eps = 0", "greedy")}
    kept |= over_time("regret", "", plain=True)
    asked = over_time("queries", "eps", "PbTS")

    def cumulative(name: str, what: str, series: dict[str, Series], guides=MappingProxyType({})):
        label = f"cumulative {what}"
        full = f"{name}, {title}"
        return Panel(full, "rounds t", label, series, guides=guides, log_x=True, log_y=True)

    return [
        cumulative("PR-LSVI", "regret", first, guides),
        cumulative("Others", "regret", others, guides),
        cumulative("Truncation", "regret", kept, guides),
        cumulative("Queries", "queries", asked),
        trade_off(arrays, names, title),
    ]


def ordered(arrays: Arrays) -> list[str]:
    """Names of methods: along eps, then the others. What a stage kept is in no order."""
    names = [key.removesuffix("/regret") for key in arrays if key.endswith("/regret")]
    return sorted(names, key=lambda name: (not name.startswith("eps"), name))


def trade_off(arrays: Arrays, names: Sequence[str], title: str) -> Panel:
    """Final regret against final queries: a cross at the means, as wide and high as the ranges."""
    series = {}
    for name in names:
        regrets, queries = arrays[f"{name}/regret"][:, -1], arrays[f"{name}/queries"][:, -1]
        x, y = queries.mean(), regrets.mean()
        series[name] = Series(
            [queries.min(), queries.max(), np.nan, x, x],
            [y, y, np.nan, regrets.min(), regrets.max()],
        )
    return Panel(
        f"Trade-off, {title}",
        "queries",
        "final regret",
        series,
        log_x=True,
        log_y=True,
    )


def worlds(x: np.ndarray | Sequence[int], values: np.ndarray) -> Series:
    """Mean and range over worlds of values [worlds, X]."""
    return band(x, values, centre="mean", units="worlds")


def rate_panels(config: Config, rates: Arrays) -> list[Panel]:
    """Regret and queries against T, a line for each b, and what must fail."""
    others = {
        "regret": {"greedy, no truncation": rates["greedy/regret"][:, 0]},
        "queries": {"at random": rates["coins/queries"]},
    }
    return [
        Panel(
            what,
            "rounds T",
            f"final {what}",
            {
                name: worlds(config.horizons, values)
                for name, values in {
                    **{f"b = {b:g}": rates[what][:, i] for i, b in enumerate(config.exponents)},
                    **others[what],
                }.items()
            },
            log_x=True,
            log_y=True,
        )
        for what in ("regret", "queries")
    ]
