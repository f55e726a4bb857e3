"""The plots and the page of safe_rl_minimal."""

from collections.abc import Sequence

import numpy as np

from experiments.safe_rl_minimal import PAPER
from experiments.safe_rl_minimal.cells import ALL, BEST, LATEST, RANDOM, Cell, fewest, plain
from experiments.safe_rl_minimal.claims import Sweep
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

METRICS = {"length": "steps to the goal", "violation": "violations", "dead end": "dead ends"}


def write_report(job: Run, sweeps: list[Sweep], claims: Sequence[Claim], table: Table) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, {each.world: each.found for each in sweeps})
    drawn = {}
    for sweep in sweeps:
        drawn[f"{sweep.world}_rounds"] = show_panels(
            rounds_panels(sweep),
            f"Rounds, {sweep.world}",
            "Everything remembered; left without, right with unsupervised walks. An episode that "
            "misses the goal counts all steps; without a violation it is a dead end.",
            "lengths, violations and dead ends against rounds",
        )
    drawn["demos"] = show_panels(
        [panel for sweep in sweeps for panel in demos_panels(sweep)],
        "Demonstrations and forgetting",
        "Final length against the number of demonstrations, everything or the best successes kept.",
        "final length against demonstrations, without walks and with them",
    )
    drawn["forgetting"] = show_panels(
        [memory_panel(sweep) for sweep in sweeps],
        "What is kept",
        "One demonstration and no walks: length against rounds by what is kept.",
        "length against rounds for four kinds of memory",
    )
    drawn["rho"] = show_panels(
        [panel for sweep in sweeps for panel in rho_panels(sweep)],
        "Diversity or direction",
        "One demonstration and 30 walks, from a random walk (rho = 0) to straight lines to random "
        "targets (rho = 1).",
        "final length, violations and dead ends against rho",
        columns=3,
    )
    write_page(
        job.out,
        "Safe-set control with little supervision",
        lead="Only the abstract of the paper was at hand: this is LS3 on a table and on cells of a "
        "plane, and its forgetting a reconstruction, not the paper's algorithm.",
        paper=PAPER,
        claims=claims,
        figures=drawn,
        table=table,
    )


def middle(x: Sequence[float] | Sequence[int] | np.ndarray, values: np.ndarray) -> Series:
    """Mean and quartiles over seeds of values [seeds, X]."""
    return band(x, values, centre="mean", spread="quartiles")


def by_round(sweep: Sweep, metric: str, cell: Cell) -> Series:
    """A metric of a cell against rounds."""
    rounds = np.arange(1, sweep.config.iterations + 1)
    return middle(rounds, sweep.episodes(metric, cell).mean(-1))


def rounds_panels(sweep: Sweep) -> list[Panel]:
    """Each metric against rounds: without and with walks."""
    config = sweep.config
    return [
        Panel(
            f"{walks} walks",
            "round",
            label,
            {
                f"demonstrations: {demos}": by_round(sweep, metric, plain(config, demos, walks))
                for demos in config.demos
            },
        )
        for metric, label in METRICS.items()
        for walks in config.walks
    ]


def demos_panels(sweep: Sweep) -> list[Panel]:
    """Final length against demonstrations, by what is kept."""
    config = sweep.config
    items = []
    for walks in config.walks:
        series = {}
        for memory, name in ((ALL, "all kept"), (BEST, f"best {config.keep} kept")):
            lengths = [sweep.final(plain(config, demos, walks, memory)) for demos in config.demos]
            series[name] = middle(config.demos, np.stack(lengths, -1))
        levels = {"demonstrations": sweep.found["demo length"].mean()}
        title = f"{sweep.world}, {walks} walks"
        label = f"steps to the goal, last {config.last} rounds"
        items.append(Panel(title, "demonstrations", label, series, levels=levels, log_x=True))
    return items


def memory_panel(sweep: Sweep) -> Panel:
    """Length against rounds, by what is kept."""
    config = sweep.config
    window = config.windows[len(config.windows) // 2]
    cells = {
        "all kept": fewest(config),
        f"best {config.keep} kept": fewest(config, BEST),
        f"latest {window} kept": fewest(config)._replace(memory=LATEST, keep=window),
        f"{config.keep} at random kept": fewest(config, RANDOM),
    }
    series = {name: by_round(sweep, "length", cell) for name, cell in cells.items()}
    return Panel(sweep.world, "round", METRICS["length"], series)


def rho_panels(sweep: Sweep) -> list[Panel]:
    """Final length and rates against rho, fewest demonstrations."""
    config = sweep.config
    usual = plain(config, min(config.demos), max(config.walks))
    cells = [usual._replace(rho=i) for i in range(len(config.rhos))]
    items = []
    for metric, label in METRICS.items():
        if metric == "length":
            values, rounds = [sweep.final(cell) for cell in cells], f"last {config.last} rounds"
        else:
            values, rounds = [sweep.rate(metric, cell) for cell in cells], "all rounds"
        series = {metric: middle(config.rhos, np.stack(values, -1))}
        items.append(Panel(f"{sweep.world}, {rounds}", "rho, directedness", label, series))
    return items
