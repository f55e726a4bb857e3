"""The plots and the page of p3o."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.p3o import CLAIM, PAPER
from experiments.p3o.claims import ends
from experiments.p3o.config import Config
from experiments.p3o.learners import GROUPED, LEARNERS
from experiments.p3o.strings import METHODS
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
OBJECTIVE = "E r - beta KL"
FRONTIER = ("P3O-V1", "P3O-V2", "PPO, batch mean", "PPO, whitened", "PPO, V(x)")
SMOOTH = 6  # iterations of the transformer in each point


def write_report(
    job: Run, config: Config, stages: Mapping[str, Arrays], claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, stages)
    bandit = stages["bandit"]
    figures = {
        "training": show_panels(
            [training_panel(config, bandit, i) for i in range(2)],
            "Training",
            f"A bandit of {config.prompts} prompts and {config.answers} answers, two answers to a "
            f"prompt in each iteration. True objective at beta = {config.beta:g}; the rewards that "
            "the methods see are shifted by s N(0, 1) in each prompt.",
            "without a shift the methods are alike; with it PPO with a batch mean is far below",
            share_y=True,
        ),
        "shifts": show_panels(
            [shift_panel(config, bandit), group_panel(config, stages)],
            "How large a shift, and how many answers",
            "Left, the objective at the end against the deviation of the shifts. Right, the same "
            "number of answers an iteration as few prompts with many answers, or many with two, at "
            f"s = {config.shift:g}.",
            "P3O and RLOO are flat in s, PPO without a critic falls",
            share_y=True,
        ),
        "frontier": show_panels(
            [frontier_panel(config, bandit, i) for i in range(2)],
            "Reward against KL",
            "Policies at the end of training under different KL weights.",
            "with a shift PPO has less reward at the same KL",
            share_y=True,
        ),
        "strings": show_panels(
            [string_panel(config, stages["strings"], i) for i in range(2)],
            "A transformer",
            "Strings of six symbols, rewarded for neighbours that are the prompt's own pair: mean "
            f"reward minus beta KL of the answers drawn, {SMOOTH} iterations in each point.",
            "the order of the bandit",
            share_y=True,
        ),
    }
    write_page(
        job.out,
        "P3O: only differences of rewards",
        lead=CLAIM + ".",
        paper=PAPER,
        claims=claims,
        figures=figures,
        table=table,
    )


def curve(x: Sequence[float] | np.ndarray, runs: np.ndarray) -> Series:
    """Worlds [N, points]."""
    return band(np.asarray(x), runs, centre="mean", spread="range", units="worlds")


def training_panel(config: Config, bandit: Arrays, setting: int) -> Panel:
    """The objective by iteration."""
    shift, beta = config.settings()[setting]
    return Panel(
        f"s = {shift:g}",
        "iteration",
        OBJECTIVE,
        {
            name: curve(
                np.arange(config.iterations + 1),
                (bandit[f"{name}/reward"] - beta * bandit[f"{name}/kl"])[:, setting],
            )
            for name in LEARNERS
        },
        levels={"optimum": float(bandit["optimum"][:, setting].mean())},
    )


def shift_panel(config: Config, bandit: Arrays) -> Panel:
    """Where the methods end, by shift."""
    count = 2 + len(config.shifts)
    order = np.argsort([s for s, _ in config.settings()[:count]])
    found = [ends(config, bandit, int(i)) for i in order]
    shifts = [config.settings()[i][0] for i in order]
    return Panel(
        "shift",
        "deviation s of the shifts",
        OBJECTIVE,
        {name: curve(shifts, np.stack([x[name] for x in found], axis=1)) for name in LEARNERS},
    )


def group_panel(config: Config, stages: Mapping[str, Arrays]) -> Panel:
    """Where the methods end, by the number of answers to a prompt."""
    two, groups = ends(config, stages["bandit"], 1), stages["groups"]
    sizes = [2, *config.groups]
    return Panel(
        "answers",
        "answers to a prompt",
        OBJECTIVE,
        {
            name: curve(
                sizes,
                np.stack([two[name], *(groups[f"{name}/{k}"] for k in config.groups)], axis=1),
            )
            for name in GROUPED
        },
    )


def frontier_panel(config: Config, bandit: Arrays, which: int) -> Panel:
    """Mean reward against mean KL, a point for each beta."""
    shift = config.settings()[which][0]
    rows = [i for i, (s, _) in enumerate(config.settings()) if s == shift]
    rows = sorted(rows, key=lambda i: -config.settings()[i][1])

    def series(kl: np.ndarray, reward: np.ndarray) -> Series:
        return curve(kl.mean(0), reward)

    ends_of = {
        name: series(*(bandit[f"{name}/{k}"][:, rows, -1] for k in ("kl", "reward")))
        for name in FRONTIER
    }
    return Panel(f"s = {shift:g}", "KL to the reference (nats)", "true reward", ends_of)


def string_panel(config: Config, strings: Arrays, which: int) -> Panel:
    """The objective of the answers drawn, by iteration."""
    size = config.strings.iterations // SMOOTH * SMOOTH
    middles = np.arange(size).reshape(-1, SMOOTH).mean(-1)

    def smooth(name: str) -> np.ndarray:
        found = strings[f"{name}/reward"] - config.strings.beta * strings[f"{name}/kl"]
        return found[:, which, :size].reshape(len(found), -1, SMOOTH).mean(-1)

    return Panel(
        f"s = {(0.0, config.shift)[which]:g}",
        "iteration",
        OBJECTIVE,
        {name: curve(middles, smooth(name)) for name in METHODS},
    )
