"""The figures and the page of the spo experiment."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.spo.config import Config
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.pages import Shown, write_page
from rlhf_jax.reports.panels import Panel, panels
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

POINTS = 300  # of a curve
FLOOR = 1e-4  # of drawn gaps, which cross 0 when a cycle does
RANGE = "Medians over seeds; bands reach from the smallest to the largest seed."
SECTIONS = {
    "intransitive": (
        "A. Intransitive preferences",
        "SPO's average gap falls below 0.1, its last policy cycles, the reward model stays high",
    ),
    "rates": (
        "B. Rates of the average policy",
        "1 / T with a Condorcet winner, 1 / sqrt T without",
    ),
    "trajectories": (
        "C. Trajectories, eight steps, three of which should be risky",
        "SPO and the model with a time index reach 1, the additive one stays low",
    ),
    "queues": ("D. Length of the queue", "a queue as long as the batch has the smallest gap"),
}


def write_report(
    job: Run, config: Config, found: Sequence[Mapping], claims: Sequence[Claim]
) -> None:
    """Saves figures and their data, and writes report.html."""
    games, rates, walks, queues = found
    save_data(job, config, found)
    drawn = {
        "intransitive": intransitive_panels(games),
        "rates": rate_panels(config, rates),
        "trajectories": [walk_panel(walks)],
        "queues": [queue_panel(config, queues)],
    }
    shown = {
        name: Shown(panels(drawn[name], columns=3), title, RANGE, alt)
        for name, (title, alt) in SECTIONS.items()
    }
    write_page(
        job.out,
        "SPO: the share of one's own answers that an answer beats, as its reward",
        lead="Gaps are two-sided exploitabilities, 2 max_y P(y > pi) - 1. Rewards are those of "
        "ops.games.answer_win_rates, the function that language models are trained with.",
        claims=claims,
        figures=shown,
    )


def save_data(job: Run, config: Config, found: Sequence[Mapping]) -> None:
    """The curves behind each figure."""
    games, rates, walks, queues = found
    folder = job.out / "data"
    folder.mkdir(parents=True, exist_ok=True)
    flat = {
        f"{game}_{method}_{part}": x
        for game, methods in games.items()
        for method, gaps in methods.items()
        for part, x in gaps.items()
    }
    np.savez(folder / "intransitive.npz", **flat)
    np.savez(folder / "rates.npz", horizons=config.horizons, margins=config.margins, **rates)
    np.savez(folder / "trajectories.npz", **walks)
    np.savez(folder / "queues.npz", lengths=config.queues, **queues)


def spread(runs: np.ndarray) -> Series:
    """Median and range over seeds, the first axis, at a few of all updates."""
    steps = runs.shape[-1]
    shown = np.unique(np.geomspace(1, steps, POINTS).astype(int)) - 1
    each = runs[:, shown]
    return Series(shown + 1, np.median(each, axis=0), each.min(axis=0), each.max(axis=0))


def intransitive_panels(games: Mapping) -> list[Panel]:
    """A panel for each game."""
    items = []
    for name in ("cycle", "low rank", "RPS(0.9)"):
        methods = games[name]
        series = {
            "SPO, average": spread(methods["SPO"]["average"]),
            "SPO, last": spread(methods["SPO"]["last"]),
            "reward model, average": spread(methods["reward model"]["average"]),
            "reward model, last": spread(methods["reward model"]["last"]),
        }
        levels = {"0.1": 0.1}
        look = Panel(
            name, "updates", "gap", series, {}, levels, log_x=True, log_y=True, floor=FLOOR
        )
        items.append(look)
    return items


def rate_panels(config: Config, rates: Mapping) -> list[Panel]:
    """Average gap against T."""
    times = np.array(config.horizons)

    def over(values: np.ndarray) -> Series:
        return Series(times, np.median(values, axis=0), values.min(axis=0), values.max(axis=0))

    margins = {
        f"margin {margin:g}": over(rates["condorcet"][:, i])
        for i, margin in enumerate(config.margins)
    }
    bounds = {"6.2 / T": Series(times, 6.2 / times)}
    cycle = {"Hedge": over(rates["cycle"])}
    regret = {"2 regret / T from the worst start": Series(times, rates["bound"].max(axis=0))}
    return [
        Panel("Condorcet winner, n = 20", "T", "gap", margins, bounds, log_x=True, log_y=True),
        Panel("Rock-paper-scissors", "T", "gap", cycle, regret, log_x=True, log_y=True),
    ]


def walk_panel(walks: Mapping) -> Panel:
    """P(count = 3) against updates."""
    series = {name: spread(walks[name]) for name in sorted(walks, key=lambda name: name != "SPO")}
    levels = {"0.95": 0.95, "0.5": 0.5}
    return Panel("|count - 3| decides", "updates", "P(count = 3)", series, {}, levels, log_x=True)


def queue_panel(config: Config, queues: Mapping) -> Panel:
    """Average gap against updates."""
    series = {
        f"queue of {length}": spread(queues["average"][:, i])
        for i, length in enumerate(config.queues)
    }
    title = f"RPS(0.9), batch {config.batch}"
    return Panel(title, "updates", "average gap", series, log_x=True, log_y=True, floor=FLOOR)
