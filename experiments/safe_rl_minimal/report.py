"""The plots and the page of safe_rl_minimal."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.safe_rl_minimal.agents import cells
from experiments.safe_rl_minimal.config import Config
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import Shown, write_page
from rlhf_jax.reports.panels import Panel, panels
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
METRICS = {"length": "steps to the goal", "success": "success rate", "violation": "violation rate"}


def write_report(
    job: Run, config: Config, found: Arrays, claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figures, and writes report.html."""
    (job.out / "data").mkdir(exist_ok=True)
    np.savez_compressed(job.out / "data" / "agents.npz", allow_pickle=False, **found)
    drawn = {
        "rounds": Shown(
            rounds_figure(config, found),
            "Rounds",
            "Everything remembered; left without, right with unsupervised walks. Means, and "
            "middle halves of the seeds. An episode that misses the goal counts all steps.",
            "lengths fall towards 22 steps, slowest with one demonstration and no walks",
        ),
        "demos": Shown(
            demos_figure(config, found),
            "Demonstrations",
            "Final length against the number of demonstrations, with and without forgetting: "
            "means and middle halves of the seeds.",
            "length falls with demonstrations without walks and is flat with them",
        ),
        "rho": Shown(
            rho_figure(config, found),
            "Diversity or direction",
            f"{min(config.demos)} demonstration and {max(config.walks)} walks, from a random walk "
            "(rho = 0) to straight lines to random targets (rho = 1).",
            "final length, success and violation against rho",
        ),
    }
    write_page(
        job.out,
        "Safe-set control with little supervision",
        lead="Only the abstract of the paper was at hand: this is LS3 on a table, and its "
        "forgetting a reconstruction, not the paper's algorithm. "
        f"{config.num_seeds} seeds.",
        claims=claims,
        figures=drawn,
        table=table,
    )


def middle(x: Sequence[float] | Sequence[int] | np.ndarray, values: np.ndarray) -> Series:
    """Mean and quartiles over seeds of values [X, seeds]."""
    low, high = np.quantile(values, (0.25, 0.75), axis=1)
    return Series(x, values.mean(1), low, high)


def rounds_figure(config: Config, found: Arrays) -> Figure:
    """Length, success and violation against rounds: without and with walks."""
    rounds, usual = np.arange(1, config.iterations + 1), config.rhos.index(config.rho)
    items = []
    for metric, label in METRICS.items():
        for walks in config.walks:
            series = {
                f"demonstrations: {cell.demos}": middle(rounds, found[metric][i].mean(-1).T)
                for i, cell in enumerate(cells(config))
                if cell.walks == walks and cell.rho == usual and not (cell.keep or cell.steady)
            }
            items.append(Panel(f"{walks} walks", "round", label, series))
    return panels(items, columns=2)


def demos_figure(config: Config, found: Arrays) -> Figure:
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
            series[name] = middle(config.demos, values)
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
    return panels(items, columns=2, share_y=True)


def rho_figure(config: Config, found: Arrays) -> Figure:
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
            Panel(title, "rho, directedness of walks", label, {metric: middle(config.rhos, values)})
        )
    return panels(items, columns=3)
