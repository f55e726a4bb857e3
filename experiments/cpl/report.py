"""The plots and the page of cpl."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.cpl.config import Config
from experiments.cpl.learners import LEARNERS
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import Shown, write_page
from rlhf_jax.reports.panels import Panel, panels
from rlhf_jax.reports.plots import Series
from rlhf_jax.reports.rates import Rate
from rlhf_jax.training import Run

LOWEST = -0.5  # scaled returns are drawn no lower


def write_report(
    job: Run, config: Config, found: Sequence, claims: Sequence[Claim], table: Table
) -> None:
    """Saves the curves and the figures, and writes report.html with them."""
    results, coverage, rate = found
    folder = job.out / "data"
    folder.mkdir(parents=True, exist_ok=True)
    flat = {f"{name}/{what}": x for name, each in results.items() for what, x in each.items()}
    np.savez(folder / "sizes.npz", sizes=config.sizes, **flat)
    np.savez(folder / "coverage.npz", shares=config.shares, **coverage)
    figures = {
        "pairs": panels(
            [kl_panel(config, results, rate), *return_panels(config, results)], columns=3
        ),
        "coverage": panels([coverage_panel(coverage)], columns=1),
    }
    grids = f"Mean and range over {config.num_seeds} grids, each with its own data."
    texts = {
        "pairs": (
            "How much data",
            "KL(pi* || pi), mean over states, and scaled return (1: soft-optimal, 0: uniform "
            f"actions; drawn from {LOWEST} on). {grids} In the third panel segments end with the "
            "episode: their lengths differ, and partial returns then know what a step costs.",
            "CPL falls with slope about -1 and reaches 1, the others level off; cut, all rise",
        ),
        "coverage": (
            "What behaviour never does",
            f"{config.covered_pairs} pairs from behaviour that takes only some of the actions, the "
            f"same ones always. {grids}",
            "bias 0.5 is the better one wherever behaviour leaves actions out",
        ),
    }
    shown = {
        name: Shown(figures[name], title, caption, alt)
        for name, (title, caption, alt) in texts.items()
    }
    lead = (
        "If preferences follow regret, the optimal advantage is alpha log pi*, and a policy can be "
        "fitted to comparisons of segments as a classifier is: no reward, no planning."
    )
    title = "Contrastive preference learning"
    write_page(job.out, title, lead=lead, claims=claims, figures=shown, table=table)


def band(x: Sequence | np.ndarray, values: np.ndarray, floor: float = -np.inf) -> Series:
    """Mean and range over grids of [grids, N]."""
    low, middle, high = (
        np.maximum(edge, floor) for edge in (values.min(0), values.mean(0), values.max(0))
    )
    return Series(np.asarray(x), middle, low, high)


def kl_panel(config: Config, results: Mapping, rate: Rate) -> Panel:
    """KL of both CPLs against pairs, with a line of slope -1."""
    sizes = np.asarray(config.sizes, float)
    names = ("CPL", "CPL, bias 0.5")
    level = results["CPL"]["kl"][:, -1].mean()
    return Panel(
        f"distance to pi*: slope of CPL {rate.slope:.2f} [{rate.low:.2f}, {rate.high:.2f}]",
        "pairs of segments",
        "KL(pi* || pi), nats per state",
        {name: band(sizes, results[name]["kl"]) for name in names},
        bounds={"slope -1": Series(sizes, level * sizes[-1] / sizes)},
        log_x=True,
        log_y=True,
    )


def return_panels(config: Config, results: Mapping) -> list[Panel]:
    """Scaled return against pairs, with segments of one length and with segments cut."""
    levels = {"soft-optimal": 1.0, "uniform actions": 0.0}
    whole = {name: band(config.sizes, results[name]["scaled"], LOWEST) for name in LEARNERS}
    cut = {
        name.removesuffix(", cut"): band(config.sizes[-3:-1], each["scaled"], LOWEST)
        for name, each in results.items()
        if name.endswith(", cut")
    }
    titles = {"segments of one length": whole, "segments cut at the goal": cut}
    return [
        Panel(title, "pairs of segments", "scaled return", series, levels=levels, log_x=True)
        for title, series in titles.items()
    ]


def coverage_panel(coverage: Mapping) -> Panel:
    """Scaled return of both CPLs against the share of actions that behaviour takes."""
    shares = 100 * coverage["share"].mean(0)
    series = {name: band(shares, x) for name, x in coverage.items() if name != "share"}
    return Panel(
        "behaviour that covers less",
        "state-action pairs that behaviour ever takes (%)",
        "scaled return",
        series,
        levels={"soft-optimal": 1.0, "uniform actions": 0.0},
    )
