"""The figures and the page of rlbff."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.rlbff import CLAIM, PAPER
from experiments.rlbff.comments import NAMES
from experiments.rlbff.config import Config
from experiments.rlbff.shop import AS_WELL, REWARDS
from experiments.rlbff.toy import BEST, CONSENSUS, MODELS, SIZES, TOGETHER
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import Shown, save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series, heat_map
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]


def write_report(
    job: Run,
    config: Config,
    stages: Mapping[str, Arrays],
    claims: Sequence[Claim],
    table: Table,
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, stages)
    toy, consensus, shop = (stages[name] for name in ("principles", "consensus", "shop"))
    figures = {
        "best": show_panels(
            [best_panel(toy), together_panel(config, toy)],
            "Best of n under principles chosen at inference",
            f"Gold scores u . x of the best of n answers, mean over {config.prompts} prompts; all "
            f"rewards are fitted to {config.items} items of feedback.",
            "entailment rises with the oracle, Bradley-Terry far less, another head stays at 0",
        ),
        "calibration": show_panels(
            [calibration_panel(toy), consensus_panel(consensus)],
            "Calibration, and consensus of annotators",
            "Left: share of yes among answers by sigmoid(r) under the queried principle, in ten "
            f"bins. Right: {config.wrong:.0%} of the feedback names a wrong principle; items are "
            "kept where 1, 2 or 3 of 3 annotators name theirs, or as many at random.",
            "entailment lies on the diagonal; accuracy peaks at 2 of 3 annotators",
        ),
        "shop": shop_map(config, shop),
    }
    write_page(
        job.out,
        CLAIM,
        paper=PAPER,
        lead="Each item of feedback is about one principle. Entailment is told which one, "
        "Bradley-Terry and the principle-blind reward are not. In the shop, principles are read "
        "off comments, checked against their quotes and kept where annotators agree.",
        claims=claims,
        figures=figures,
        table=table,
    )


def means(x: Sequence[float] | np.ndarray, runs: np.ndarray) -> Series:
    """Mean over seeds with its interval."""
    return band(x, runs, centre="mean", spread="t")


def best_panel(found: Arrays) -> Panel:
    """Gold of one chosen principle."""
    curves = {name: means(SIZES, found[f"best/{name}"]) for name in BEST}
    return Panel("one principle", "n", "gold of the principle", curves, log_x=True)


def together_panel(config: Config, found: Arrays) -> Panel:
    """Gold of the least served of several."""
    curves = {name: means(SIZES, found[f"together/{name}"]) for name in TOGETHER}
    title = f"{config.chosen} principles at once"
    return Panel(title, "n", "gold of the least served", curves, log_x=True)


def calibration_panel(found: Arrays) -> Panel:
    """Bins that hold an answer in every seed."""
    curves = {}
    for name in MODELS:
        bins = found[f"bins/{name}"]
        full = (bins[..., 2] > 0).all(0)
        curves[name] = means(bins[:, full, 0].mean(0), bins[:, full, 1])
    line = Series([0.0, 1.0], [0.0, 1.0])
    guides = {"calibrated": line}
    return Panel("calibration", "sigmoid(r)", "share of yes", curves, guides=guides)


def consensus_panel(found: Arrays) -> Panel:
    """Accuracy against items kept, by annotators that agree and at random."""
    groups = {"annotators agree": CONSENSUS[:3], "at random": (CONSENSUS[0], *CONSENSUS[3:])}
    curves = {}
    for name, rules in groups.items():
        at = [CONSENSUS.index(rule) for rule in rules]
        curves[name] = means(found["kept"][:, at].mean(0), found["accuracy"][:, at])
    return Panel("consensus", "items kept", "accuracy on the queried principle", curves)


def shop_map(config: Config, found: Arrays) -> Shown:
    """Share that follows, reward by principle."""
    figure = heat_map(
        found["best"].mean(0),
        (*REWARDS, *AS_WELL),
        NAMES,
        title=f"best of {config.shop.pool}",
        x_label="chosen principle",
        low=0.0,
        high=1.0,
    )
    return Shown(
        figure,
        "Shop answers under a chosen principle",
        f"Share of {config.shop.prompts} held-out prompts in which the best of {config.shop.pool} "
        f"answers by a reward follows the principle, mean of {config.shop.num_seeds} worlds. "
        "Rewards are linear in words and length. Oracle: some answer of the pool follows it.",
        "entailment is near the oracle for each principle, Bradley-Terry only for some",
    )
