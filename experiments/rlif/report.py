"""The plots and the page of rlif."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.rlif.config import Config
from experiments.rlif.learners import MAIN, VARIANTS
from experiments.rlif.worlds import TEACHERS
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import Shown, write_page
from rlhf_jax.reports.panels import Panel, panels
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
SCORE = "V / V*, live states"


def write_report(
    job: Run, config: Config, stages: Mapping[str, Arrays], claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figures, and writes report.html."""
    (job.out / "data").mkdir(exist_ok=True)
    for name, arrays in stages.items():
        np.savez_compressed(job.out / "data" / f"{name}.npz", allow_pickle=False, **arrays)
    drawn = {
        "shares": Shown(
            shares_figure(config, stages),
            "Expert quality",
            "Score after training against the share of states in which the expert does a fixed "
            "random action; one panel for each teacher. Optimum 1, uniform policy below.",
            "RLIF stays high as the expert gets worse, HG-DAgger lies on the expert's line",
        ),
        "curves": Shown(
            curves_figure(config, stages),
            "Learning",
            "Exact score of the greedy policy along training.",
            "RLIF passes the expert within the first thousands of steps",
        ),
        "variants": Shown(
            variants_figure(config, stages["rlif"]),
            "What gets the -1, and what is stored",
            "RLIF with the label on the rejected proposal or on the transition before it, learning "
            "from none, the last, or all of the expert's transitions.",
            "labels on the proposal stay high, labels on the previous transition are low",
        ),
        "guarantee": Shown(
            guarantee_figure(config, stages["exact"]),
            "What is guaranteed",
            "A teacher without errors and with an absolute margin: the worst policy that it never "
            "interrupts, by exact planning, with the expert's score as a dotted line.",
            "judged by the optimal Q the worst case does not depend on the expert; judged by the "
            "expert's Q it can be below the expert",
        ),
    }
    write_page(
        job.out,
        "Interventions as reward",
        lead="Reward -1 for each intervention, 0 otherwise, and nothing else. Curves are medians, "
        f"bands ranges over {config.num_seeds} grids.",
        claims=claims,
        figures=drawn,
        table=table,
    )


def banded(x: Sequence[float] | np.ndarray, values: np.ndarray) -> Series:
    """Median and range over seeds of values [X, seeds]."""
    return Series(x, np.median(values, 1), values.min(1), values.max(1))


def shares_figure(config: Config, stages: Mapping[str, Arrays]) -> Figure:
    """Score against the share of bad states, a panel for each teacher."""
    exact, cloned = stages["exact"], stages["dagger"]["HG-DAgger"][..., -1]
    learned = stages["rlif"][MAIN][..., -1]
    items = [
        Panel(
            f"teacher steps in {name}" if name == TEACHERS[2] else f"teacher judges by {name}",
            "share of bad states of the expert",
            SCORE,
            {
                "RLIF": banded(config.bads, learned[:, :, j]),
                "RLIF, exact planning": banded(config.bads, exact["planned"][:, :, j]),
                "HG-DAgger": banded(config.bads, cloned[:, :, j]),
                "expert": banded(config.bads, exact["expert"]),
                "uniform": banded(config.bads, exact["uniform"]),
            },
            levels={"optimum": 1.0},
        )
        for j, name in enumerate(TEACHERS)
    ]
    return panels(items, columns=3, share_y=True)


def curves_figure(config: Config, stages: Mapping[str, Arrays]) -> Figure:
    """Score against steps: teachers across, shares of bad states down."""
    steps = np.arange(1, config.points + 1) * (config.steps // config.points)
    items = []
    for i, bad in enumerate(config.bads):
        for j, name in enumerate(TEACHERS):
            expert = np.repeat(stages["exact"]["expert"][i][None], config.points, 0)
            series = {
                "RLIF": banded(steps, stages["rlif"][MAIN][i, :, j].T),
                "HG-DAgger": banded(steps, stages["dagger"]["HG-DAgger"][i, :, j].T),
                "expert": banded(steps, expert),
            }
            title = f"{name}, bad {bad:g}"
            items.append(Panel(title, "steps", SCORE, series, levels={"optimum": 1.0}))
    return panels(items, columns=len(TEACHERS), share_y=True)


def variants_figure(config: Config, learned: Arrays) -> Figure:
    """Score against the share of bad states, all variants of RLIF."""
    items = [
        Panel(
            name,
            "share of bad states of the expert",
            SCORE,
            {variant: banded(config.bads, learned[variant][:, :, j, -1]) for variant in VARIANTS},
            levels={"optimum": 1.0},
        )
        for j, name in enumerate(TEACHERS)
    ]
    return panels(items, columns=3, share_y=True)


def guarantee_figure(config: Config, exact: Arrays) -> Figure:
    """Worst tied optimum against the margin, a panel for each share of bad states."""
    items = [
        Panel(
            f"bad {bad:g}",
            "margin of the teacher (unit of V)",
            SCORE,
            {
                f"judged by {name}": banded(config.margins, exact["worst"][i, :, j].T)
                for j, name in enumerate(TEACHERS[:2])
            },
            levels={"expert, mean": exact["expert"][i].mean()},
        )
        for i, bad in enumerate(config.bads)
    ]
    return panels(items, columns=len(items), share_y=True)
