"""The plots and the page of randomized_pbrl."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from experiments.randomized_pbrl import PAPER
from experiments.randomized_pbrl.config import Config
from experiments.randomized_pbrl.curves import PLAIN
from experiments.randomized_pbrl.growth_claims import worst
from experiments.randomized_pbrl.rates import ALONE, ALWAYS, fixed
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
OTHERS = ("greedy", "random", "PbTS")


def write_report(
    job: Run, config: Config, found: Mapping[str, Arrays], claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, found)
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
    }
    drawn["growth"] = show_panels(
        growth_panels(config, found["trade"], found["sizes"]),
        "Exponents",
        "Tables with rewards in [0, scale]; each point is the largest mean over scales. Against T, "
        "where eps = T^-b and each point is a run of its own, with lines of slope 1 - b and 2b; "
        "and against d = S A.",
        "regret and queries against T and d, on logarithmic axes",
    )
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


def growth_panels(config: Config, trade: Arrays, by_size: Arrays) -> list[Panel]:
    """Regret and queries against T, then against d."""
    growth = config.growth
    early = [rounds for rounds in growth.rounds if rounds <= growth.base]
    d = [growth.world(size).transition_features for size in growth.sizes]
    still = fixed(growth, growth.middle)
    lasting = {f"b = {b:g}": growth.rounds for b in growth.exponents}
    shown = lasting | {still: early, ALWAYS: early}
    slopes = {
        "regret": {f"slope {1 - b:g}": (f"b = {b:g}", 1 - b) for b in growth.exponents},
        "queries": {f"slope {2 * b:g}": (f"b = {b:g}", 2 * b) for b in growth.exponents},
    }
    items = []
    for what, guides in slopes.items():
        series = {name: Series(x, worst(trade[f"{name}/{what}"])) for name, x in shown.items()}
        lines = {
            label: Series(growth.rounds, power(growth.rounds, series[name].y[0], slope))
            for label, (name, slope) in guides.items()
        }
        title = f"{what.capitalize()} against T"
        items.append(Panel(title, "rounds T", what, series, guides=lines, log_x=True, log_y=True))
    for what in slopes:
        series = {
            name: Series(d, worst(by_size[f"{name}/{what}"])) for name in ("rule", ALWAYS, ALONE)
        }
        title = f"{what.capitalize()} against d"
        items.append(Panel(title, "features d", what, series, log_x=True, log_y=True))
    return items


def power(x: Sequence[int], start: float, slope: float) -> np.ndarray:
    """start (x / x_0)^slope."""
    return start * (np.asarray(x, float) / x[0]) ** slope


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


def worlds(x: np.ndarray, values: np.ndarray) -> Series:
    """Mean and range over worlds of values [worlds, X]."""
    return band(x, values, centre="mean", units="worlds")
