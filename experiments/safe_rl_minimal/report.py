"""The plots and the page of safe_rl_minimal."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.safe_rl_minimal import PAPER
from experiments.safe_rl_minimal.agents import cells
from experiments.safe_rl_minimal.config import Config
from experiments.safe_rl_minimal.robot import ARMS
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
METRICS = {"length": "steps to the goal", "success": "success rate", "violation": "violation rate"}


def write_report(
    job: Run, config: Config, stages: tuple[Arrays, Arrays], claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data of the grid and of the robot and the figures, and writes report.html."""
    found, robot = stages
    save_stages(job.out, {"agents": found, "robot": robot})
    drawn = {
        "rounds": show_panels(
            rounds_panels(config, found),
            "Rounds",
            "Everything remembered; left without, right with unsupervised walks. An episode that "
            "misses the goal counts all steps.",
            "lengths fall towards 22 steps, slowest with one demonstration and no walks",
        ),
        "demos": show_panels(
            demos_panels(config, found),
            "Demonstrations",
            "Final length against the number of demonstrations, with and without forgetting.",
            "length falls with demonstrations without walks and is flat with them",
            share_y=True,
        ),
        "rho": show_panels(
            rho_panels(config, found),
            "Diversity or direction",
            f"{min(config.demos)} demonstration and {max(config.walks)} walks, from a random walk "
            "(rho = 0) to straight lines to random targets (rho = 1).",
            "final length, success and violation against rho",
            columns=3,
        ),
        "robot": show_panels(
            robot_panels(config, robot),
            "Point robot",
            f"LS3's room with a forbidden block, {config.robot.demos} demonstrations of "
            f"{robot['demo length'].mean():.0f} steps; pushes by the cross-entropy method. What is "
            f"remembered for the safe set and the value: everything, or {config.keep} successes.",
            "length, success and violation against rounds, a line for each memory",
            columns=3,
        ),
    }
    write_page(
        job.out,
        "Safe-set control with little supervision",
        lead="Only the abstract of the paper was at hand: this is LS3 on a table, and its "
        "forgetting a reconstruction, not the paper's algorithm.",
        paper=PAPER,
        claims=claims,
        figures=drawn,
        table=table,
    )


def middle(x: Sequence[float] | Sequence[int] | np.ndarray, values: np.ndarray) -> Series:
    """Mean and quartiles over seeds of values [seeds, X]."""
    return band(x, values, centre="mean", spread="quartiles")


def rounds_panels(config: Config, found: Arrays) -> list[Panel]:
    """Length, success and violation against rounds: without and with walks."""
    rounds, usual = np.arange(1, config.iterations + 1), config.rhos.index(config.rho)
    items = []
    for metric, label in METRICS.items():
        for walks in config.walks:
            series = {
                f"demonstrations: {cell.demos}": middle(rounds, found[metric][i].mean(-1))
                for i, cell in enumerate(cells(config))
                if cell.walks == walks and cell.rho == usual and not (cell.keep or cell.steady)
            }
            items.append(Panel(f"{walks} walks", "round", label, series))
    return items


def demos_panels(config: Config, found: Arrays) -> list[Panel]:
    """Final length against demonstrations."""
    usual = config.rhos.index(config.rho)
    items = []
    for walks in config.walks:
        series = {}
        for keep in (0, config.keep):
            rows = [
                i for i, cell in enumerate(cells(config)) if cell[1:] == (walks, usual, keep, 0)
            ]
            values = found["length"][rows][:, :, -config.last :].mean((2, 3))
            name = f"best {keep} kept" if keep else "all kept"
            series[name] = middle(config.demos, values.T)
        items.append(
            Panel(
                f"{walks} walks",
                "demonstrations",
                f"steps to the goal, last {config.last} rounds",
                series,
                levels={"demonstrations": found["demo length"].mean()},
                log_x=True,
            )
        )
    return items


def rho_panels(config: Config, found: Arrays) -> list[Panel]:
    """Final length, success and violation against rho, one demonstration."""
    least, most = min(config.demos), max(config.walks)
    rows = {
        cell.rho: i
        for i, cell in enumerate(cells(config))
        if cell.demos == least and cell.walks == most and not cell.keep
    }
    order = [rows[i] for i in range(len(config.rhos))]
    items = []
    for metric, label in METRICS.items():
        last = config.last if metric == "length" else config.iterations
        values = found[metric][order][:, :, -last:].mean((2, 3))
        title = f"last {last} rounds" if metric == "length" else "all rounds"
        items.append(
            Panel(
                title, "rho, directedness of walks", label, {metric: middle(config.rhos, values.T)}
            )
        )
    return items


def robot_panels(config: Config, robot: Arrays) -> list[Panel]:
    """Length, success and violation against rounds."""
    rounds = np.arange(1, config.robot.iterations + 1)
    return [
        Panel(
            "point robot",
            "round",
            label,
            {arm: middle(rounds, robot[metric][i].mean(-1)) for i, arm in enumerate(ARMS)},
        )
        for metric, label in METRICS.items()
    ]
