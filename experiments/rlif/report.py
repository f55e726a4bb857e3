"""The plots and the page of rlif."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.rlif import PAPER
from experiments.rlif.claims import best_rival, last_scores
from experiments.rlif.config import Config
from experiments.rlif.learners import MAIN, OFFICIAL, VARIANTS
from experiments.rlif.worlds import TEACHERS
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import Shown, save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
SCORE = "V / V*, live states"
STORED = [name for name in VARIANTS if not name.startswith("late")]


def write_report(
    job: Run, config: Config, stages: Mapping[str, Arrays], claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, stages)
    write_page(
        job.out,
        "Interventions as reward",
        paper=PAPER,
        lead="Reward -1 for each intervention, 0 otherwise, and nothing else.",
        claims=claims,
        figures={**paper_figures(config, stages), **own_figures(config, stages)},
        table=table,
    )


def paper_figures(config: Config, stages: Mapping[str, Arrays]) -> dict[str, Shown]:
    """What the paper shows: experts of each quality, and learning."""
    return {
        "shares": show_panels(
            shares_panels(config, stages),
            "Expert quality",
            "Score after training against the share of states in which the expert does a fixed "
            "random action; one panel for each teacher. Optimum 1, uniform policy below.",
            "RLIF stays high as the expert gets worse, HG-DAgger lies on the expert's line",
            columns=3,
            share_y=True,
        ),
        "curves": show_panels(
            curves_panels(config, stages),
            "Learning",
            "Exact score of the greedy policy along training.",
            "RLIF passes a bad expert within the first thousands of steps if the teacher judges "
            "by values",
            columns=3,
            share_y=True,
        ),
    }


def own_figures(config: Config, stages: Mapping[str, Arrays]) -> dict[str, Shown]:
    """What is asked beside it: labels and what is stored, a late teacher, guarantees."""
    return {
        "variants": show_panels(
            variants_panels(config, stages["rlif"]),
            "What gets the -1, and what is stored",
            "RLIF with the label on the rejected proposal or on the transition before it, learning "
            "from none, the last, or all of the expert's transitions. 'Bandit' counts "
            "interventions without a discounted future.",
            "labels on the proposal stay high, labels on the previous transition are low",
            columns=3,
            share_y=True,
        ),
        "late": show_panels(
            late_panels(config, stages),
            "A teacher who reacts one step late",
            "The learner's action is executed; if the teacher rejects it, the expert takes over at "
            "the state that it led to. The -1 goes to that action ('previous') or to the proposal "
            "that is not executed. 'No ends': an action that ends the episode gets none.",
            "a late teacher needs the label on the previous step, a prompt one on the proposal",
            columns=3,
            share_y=True,
        ),
        "guarantee": show_panels(
            guarantee_panels(config, stages["exact"]),
            "What is guaranteed",
            "A teacher without errors and with an absolute margin: the worst policy that it never "
            "interrupts, by exact planning, with the expert's score as a dashed line.",
            "judged by the optimal Q the worst case does not depend on the expert; judged by the "
            "expert's Q it can be below the expert",
            columns=3,
            share_y=True,
        ),
    }


def grids(x: Sequence[float] | np.ndarray, values: np.ndarray) -> Series:
    """Median and range over grids of values [grids, X]."""
    return band(x, values, units="grids")


def shares_panels(config: Config, stages: Mapping[str, Arrays]) -> list[Panel]:
    """Score against the share of bad states, a panel for each teacher."""
    exact, cloned = stages["exact"], stages["dagger"]["HG-DAgger"][..., -1]
    learned, rivals = stages["rlif"][MAIN][..., -1], last_scores(stages).rivals

    def imitated(j):
        bads = range(len(config.bads))
        return np.stack([rivals[best_rival(rivals, i, j)][i, :, j] for i in bads], axis=1)

    items = [
        Panel(
            f"steps in {name}" if name == TEACHERS[2] else f"judges by {name}",
            "share of bad states of the expert",
            SCORE,
            {
                "RLIF": grids(config.bads, learned[:, :, j].T),
                "RLIF, exact planning": grids(config.bads, exact["planned"][:, :, j].T),
                "HG-DAgger": grids(config.bads, cloned[:, :, j].T),
                "best imitator": grids(config.bads, imitated(j)),
                "expert": grids(config.bads, exact["expert"].T),
                "uniform": grids(config.bads, exact["uniform"].T),
            },
            levels={"optimum": 1.0},
        )
        for j, name in enumerate(TEACHERS)
    ]
    return items


def curves_panels(config: Config, stages: Mapping[str, Arrays]) -> list[Panel]:
    """Score against steps: teachers across, shares of bad states down."""
    steps = np.arange(1, config.points + 1) * (config.steps // config.points)
    items = []
    for i, bad in enumerate(config.bads):
        for j, name in enumerate(TEACHERS):
            expert = np.repeat(stages["exact"]["expert"][i][:, None], config.points, 1)
            series = {
                "RLIF": grids(steps, stages["rlif"][MAIN][i, :, j]),
                "HG-DAgger": grids(steps, stages["dagger"]["HG-DAgger"][i, :, j]),
                "expert": grids(steps, expert),
            }
            title = f"{name}, bad {bad:g}"
            items.append(Panel(title, "steps", SCORE, series, levels={"optimum": 1.0}))
    return items


def variants_panels(config: Config, learned: Arrays) -> list[Panel]:
    """Score against the share of bad states, all variants of RLIF."""
    items = [
        Panel(
            name,
            "share of bad states of the expert",
            SCORE,
            {variant: grids(config.bads, learned[variant][:, :, j, -1].T) for variant in STORED},
            levels={"optimum": 1.0},
        )
        for j, name in enumerate(TEACHERS)
    ]
    return items


def late_panels(config: Config, stages: Mapping[str, Arrays]) -> list[Panel]:
    """Score against the share of bad states: labels of a late teacher, and the prompt one's."""
    learned, expert = stages["rlif"], stages["exact"]["expert"].T
    names = [name for name in VARIANTS if name.startswith("late")]
    names += [name for name in (MAIN, OFFICIAL) if name not in names]
    return [
        Panel(
            teacher,
            "share of bad states of the expert",
            SCORE,
            {name: grids(config.bads, learned[name][:, :, j, -1].T) for name in names}
            | {"expert": grids(config.bads, expert)},
            levels={"optimum": 1.0},
        )
        for j, teacher in enumerate(TEACHERS)
    ]


def guarantee_panels(config: Config, exact: Arrays) -> list[Panel]:
    """Worst tied optimum against the margin, a panel for each share of bad states."""
    items = [
        Panel(
            f"bad {bad:g}",
            "margin of the teacher (unit of V)",
            SCORE,
            {
                f"judged by {name}": grids(config.margins, exact["worst"][i, :, j])
                for j, name in enumerate(TEACHERS[:2])
            },
            levels={"expert, mean": exact["expert"][i].mean()},
        )
        for i, bad in enumerate(config.bads)
    ]
    return items
