"""The plots and the page of pf_ppo."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.pf_ppo import CLAIM, PAPER
from experiments.pf_ppo.claims import ORDERS, final, leads
from experiments.pf_ppo.config import Config
from experiments.pf_ppo.filtered import NAMES
from experiments.pf_ppo.puzzles import REWARDS
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]


def write_report(
    job: Run, config: Config, stages: Mapping[str, Arrays], claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, stages)
    bandit, puzzles = stages["bandit"], stages["puzzles"]
    figures = {
        "training": show_panels(
            [training_panel(order, bandit["gold"][:, i]) for i, order in enumerate(ORDERS)],
            "Training",
            f"A reward model that is right within {config.edge:g} of the ends of gold. Advantages "
            "are whitened over the answers that the filter keeps, or before it over all.",
            "best and random and best and worst end above no filter in both; best alone is near no "
            "filter in the one and first in the other",
            share_y=True,
        ),
        "r2": show_panels(
            [r2_panel(order, bandit, i) for i, order in enumerate(ORDERS)],
            "Does R^2 choose the filter?",
            "Gold at the end against R^2 of the first iterations, a point for each filter; means "
            "over worlds.",
            "filters with a higher R^2 tend to end higher, not in order",
            share_y=True,
        ),
        "amplitude": show_panels(
            [amplitude_panel(config, bandit)],
            "How wrong the middle is",
            "Lead in final gold over no filter against the amplitude of the spurious part of the "
            "reward in its middle, whitened after the filter.",
            "the lead grows with the amplitude",
            columns=1,
        ),
        "puzzles": show_panels(
            [
                *(
                    training_panel(reward, puzzles["gold"][:, i], "seeds")
                    for i, reward in enumerate(REWARDS)
                ),
                puzzle_r2_panel(puzzles),
            ],
            "Number puzzles",
            "Three digits, two operators, a target. Gold is the share of right answers. Policies "
            "learn from a reward model that was trained on pairs of answers, or from the verifier; "
            "R^2 is that of the reward model.",
            "share of right answers by iteration, and R^2 of each filter",
            columns=3,
        ),
    }
    write_page(
        job.out,
        "Policy filtration",
        lead=CLAIM + ".",
        paper=PAPER,
        claims=claims,
        figures=figures,
        table=table,
    )


def training_panel(title: str, gold: np.ndarray, units: str = "worlds") -> Panel:
    """Gold [N, filters, I + 1] by iteration."""
    steps = np.arange(gold.shape[-1])
    curves = {
        name: band(steps, gold[:, i], centre="mean", spread="t", units=units)
        for i, name in enumerate(NAMES)
    }
    return Panel(title, "iteration", "gold", curves)


def r2_panel(title: str, bandit: Arrays, setting: int) -> Panel:
    """A point for each filter."""
    points = {
        name: Series([bandit["r2"][:, setting, i].mean()], [final(bandit, setting, name).mean()])
        for i, name in enumerate(NAMES)
    }
    return Panel(title, "R^2", "gold at the end", points)


def puzzle_r2_panel(puzzles: Arrays) -> Panel:
    """The same of the puzzles."""
    points = {
        name: Series([puzzles["r2"][:, i].mean()], [puzzles["gold"][:, 0, i, -1].mean()])
        for i, name in enumerate(NAMES)
    }
    return Panel("R^2", "R^2", "gold at the end", points)


def amplitude_panel(config: Config, bandit: Arrays) -> Panel:
    """Leads over no filter by amplitude, at the edge of the claims."""
    known = {amplitude: i + 2 for i, amplitude in enumerate(config.amplitudes)}
    known[config.amplitude] = 0
    amplitudes = sorted(known)
    curves = {
        name: band(
            amplitudes,
            np.stack([leads(bandit, known[each], name) for each in amplitudes], axis=1),
            centre="mean",
            spread="t",
            units="worlds",
        )
        for name in NAMES
    }
    return Panel("", "amplitude", "lead in gold", curves)
