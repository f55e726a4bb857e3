"""The plots and the page of cpl."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.cpl import PAPER
from experiments.cpl.config import Config
from experiments.cpl.learners import LEARNERS
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.reports.rates import Rate
from rlhf_jax.training import Run

LOWEST = -0.5  # scaled return at the bottom of a figure


def write_report(
    job: Run, config: Config, found: Sequence, claims: Sequence[Claim], table: Table
) -> None:
    """Saves the curves and the figures, and writes report.html with them."""
    results, coverage, rate = found
    stages = {
        "sizes": {"sizes": config.sizes, **results},
        "coverage": {"shares": config.shares, **coverage},
    }
    save_stages(job.out, stages)
    figures = {
        "pairs": show_panels(
            [kl_panel(config, results, rate), *return_panels(config, results)],
            "How much data",
            "KL(pi* || pi), mean over states, and scaled return (1: soft-optimal, 0: uniform "
            f"actions; drawn from {LOWEST} on). Each grid has its own data. In the third panel "
            "segments end with the episode: their lengths differ, and partial returns then know "
            "the cost of a step.",
            "CPL falls with slope about -1 and reaches 1, the others level off; cut, all rise",
            columns=3,
        ),
        "coverage": show_panels(
            [coverage_panel(coverage)],
            "What behaviour never does",
            f"{config.covered_pairs} pairs from behaviour that takes only some of the actions, the "
            "same ones always.",
            "bias 0.5 is the better one wherever behaviour leaves actions out",
        ),
    }
    lead = (
        "If preferences follow regret, the optimal advantage is alpha log pi*, and a policy can be "
        "fitted to comparisons of segments as a classifier is: no reward, no planning."
    )
    write_page(
        job.out,
        "Contrastive preference learning",
        paper=PAPER,
        lead=lead,
        claims=claims,
        figures=figures,
        table=table,
    )


def grids(x: Sequence | np.ndarray, values: np.ndarray) -> Series:
    """Mean and range over grids of [grids, N]."""
    return band(x, values, centre="mean", units="grids")


def kl_panel(config: Config, results: Mapping, rate: Rate) -> Panel:
    """KL of both CPLs against pairs, with a line of slope -1."""
    sizes = np.asarray(config.sizes, float)
    names = ("CPL", "CPL, bias 0.5")
    level = results["CPL"]["kl"][:, -1].mean()
    return Panel(
        f"distance to pi*: slope of CPL {rate.slope:.2f} [{rate.low:.2f}, {rate.high:.2f}]",
        "pairs of segments",
        "KL(pi* || pi), nats per state",
        {name: grids(sizes, results[name]["kl"]) for name in names},
        guides={"slope -1": Series(sizes, level * sizes[-1] / sizes)},
        log_x=True,
        log_y=True,
    )


def return_panels(config: Config, results: Mapping) -> list[Panel]:
    """Scaled return against pairs, with segments of one length and with segments cut."""
    levels = {"soft-optimal": 1.0, "uniform actions": 0.0}
    whole = {name: grids(config.sizes, results[name]["scaled"]) for name in LEARNERS}
    cut = {
        name.removesuffix(", cut"): grids(config.sizes[-3:-1], each["scaled"])
        for name, each in results.items()
        if name.endswith(", cut")
    }
    titles = {"segments of one length": whole, "segments cut at the goal": cut}
    return [
        Panel(
            title,
            "pairs of segments",
            "scaled return",
            series,
            levels=levels,
            log_x=True,
            floor=LOWEST,
        )
        for title, series in titles.items()
    ]


def coverage_panel(coverage: Mapping) -> Panel:
    """Scaled return of both CPLs against the share of actions that behaviour takes."""
    shares = 100 * coverage["share"].mean(0)
    series = {name: grids(shares, x) for name, x in coverage.items() if name != "share"}
    return Panel(
        "behaviour that covers less",
        "state-action pairs that behaviour ever takes (%)",
        "scaled return",
        series,
        levels={"soft-optimal": 1.0, "uniform actions": 0.0},
    )
