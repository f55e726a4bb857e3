"""The figures and the page of the spo experiment."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.spo import PAPER
from experiments.spo.config import Config
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

POINTS = 300  # of a curve
FLOOR = 1e-4  # of drawn gaps, which cross 0 when a cycle does
SECTIONS = {
    "intransitive": (
        "A. Intransitive preferences",
        "Exploitability of the average and of the last policy.",
        "SPO's average gap falls below 0.1, its last policy cycles, the reward model stays high",
    ),
    "rates": (
        "B. Rates of the average policy",
        "Exploitability of the average policy of Hedge, which is SPO without sampling, after T "
        "updates.",
        "1 / T with a Condorcet winner, 1 / sqrt T without",
    ),
    "trajectories": (
        "C. Trajectories, eight steps, three of which should be risky",
        "Probability of a trajectory with three risky steps.",
        "SPO and the model with a time index reach 1, the additive one stays low",
    ),
    "queues": (
        "D. Length of the queue",
        "Exploitability of the average policy of SPO.",
        "a queue as long as the batch has the smallest gap",
    ),
    "halves": (
        "E. Trajectories, the second half of which should match the first",
        "Probability of as many risky steps in the policy's half as in the world's. Policies that "
        "ignore the first half have 3/8 at most.",
        "SPO and the model that sees the difference reach 1, the additive ones do not",
    ),
    "labels": (
        "F. One Bernoulli label a pair, some of them flipped",
        "Exploitability of the average policy in the game without flips.",
        "SPO's gap falls with every share of flips, the reward model's does not",
    ),
}


def write_report(
    job: Run, config: Config, found: Sequence[Mapping], claims: Sequence[Claim]
) -> None:
    """Saves figures and their data, and writes report.html."""
    games, rates, walks, queues, same, noisy, rivals = found
    stages = {
        "intransitive": games,
        "rates": {"horizons": config.horizons, "margins": config.margins, **rates},
        "trajectories": walks,
        "queues": {"lengths": config.queues, **queues},
        "halves": same,
        "labels": {"flips": config.flips, **noisy},
        "rivals": rivals,
    }
    save_stages(job.out, stages)
    drawn = {
        "intransitive": intransitive_panels(games),
        "rates": rate_panels(config, rates),
        "trajectories": [walk_panel(walks, "|count - 3| decides", "P(count = 3)")],
        "queues": [queue_panel(config, queues)],
        "halves": [walk_panel(same, "|difference| decides", "P(difference = 0)")],
        "labels": label_panels(config, noisy),
    }
    shown = {name: show_panels(drawn[name], *texts, columns=3) for name, texts in SECTIONS.items()}
    write_page(
        job.out,
        "SPO: the share of one's own answers that an answer beats, as its reward",
        lead="Gaps are two-sided exploitabilities, 2 max_y P(y > pi) - 1. Rewards are those of "
        "ops.games.answer_win_rates, the function that language models are trained with.",
        paper=PAPER,
        claims=claims,
        figures=shown,
    )


def thinned(runs: np.ndarray) -> Series:
    """Median and range over seeds, the first axis, at a few of all updates."""
    shown = np.unique(np.geomspace(1, runs.shape[-1], POINTS).astype(int)) - 1
    return band(shown + 1, runs[:, shown])


def intransitive_panels(games: Mapping) -> list[Panel]:
    """A panel for each game."""
    items = []
    for name in ("cycle", "low rank", "RPS(0.9)"):
        methods = games[name]
        series = {
            "SPO, average": thinned(methods["SPO"]["average"]),
            "SPO, last": thinned(methods["SPO"]["last"]),
            "reward model, average": thinned(methods["reward model"]["average"]),
            "reward model, last": thinned(methods["reward model"]["last"]),
        }
        levels = {"0.1": 0.1}
        words = (name, "updates", "gap")
        items.append(Panel(*words, series, levels=levels, log_x=True, log_y=True, floor=FLOOR))
    return items


def rate_panels(config: Config, rates: Mapping) -> list[Panel]:
    """Average gap against T."""
    times = np.array(config.horizons)
    margins = {
        f"margin {margin:g}": band(times, rates["condorcet"][:, i])
        for i, margin in enumerate(config.margins)
    }
    guides = {"6.2 / T": Series(times, 6.2 / times)}
    cycle = {"Hedge, average": band(times, rates["cycle"])}
    regret = {"2 regret / T from the worst start": Series(times, rates["bound"].max(axis=0))}
    return [
        Panel(
            "Condorcet winner, n = 20", "T", "gap", margins, guides=guides, log_x=True, log_y=True
        ),
        Panel("Rock-paper-scissors", "T", "gap", cycle, regret, log_x=True, log_y=True),
    ]


def walk_panel(walks: Mapping, title: str, what: str) -> Panel:
    """A chance against updates."""
    series = {name: thinned(walks[name]) for name in sorted(walks, key=lambda name: name != "SPO")}
    levels = {"0.95": 0.95, "0.5": 0.5}
    return Panel(title, "updates", what, series, levels=levels, log_x=True)


def label_panels(config: Config, noisy: Mapping) -> list[Panel]:
    """Average gap against updates, a panel for each game."""
    items = []
    for game, methods in noisy.items():
        series = {
            f"{name}, {flips:.0%} flipped": thinned(gaps["average"][:, i])
            for name, gaps in methods.items()
            for i, flips in enumerate(config.flips)
        }
        words = (game, "updates", "average gap")
        items.append(Panel(*words, series, levels={"0.1": 0.1}, log_x=True, log_y=True))
    return items


def queue_panel(config: Config, queues: Mapping) -> Panel:
    """Average gap against updates."""
    series = {
        f"queue of {length}": thinned(queues["average"][:, i])
        for i, length in enumerate(config.queues)
    }
    title = f"RPS(0.9), batch {config.batch}"
    return Panel(title, "updates", "average gap", series, log_x=True, log_y=True, floor=FLOOR)
