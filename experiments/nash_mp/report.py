"""The plots and the page of nash_mp."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.nash_mp import PAPER
from experiments.nash_mp.config import Config
from experiments.nash_mp.curves import GAMES, TOLERANCE
from experiments.nash_mp.inner import ONE_CALL, SIZES
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
METHODS = {
    "Nash-MP": "Nash-MP, eta = 2 beta",
    "EGPO": "EGPO, by its loss",
    "OMD": "OMD (INPO), best constant step",
    "Nash-MD": "Nash-MD, step 2 / (beta (t + 2))",
}
HORIZON = 40  # times 1 / beta, of the oracle calls that are drawn
CALLS = {"Nash-MP": 2, "OMD": 1, "Nash-MD": 1}  # of the oracle, in an update


def write_report(
    job: Run, config: Config, stages: Mapping[str, Arrays], claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, stages)
    drawn = {
        "kl": show_panels(
            curve_panels(config, stages["curves"], "kl"),
            "Distance",
            "KL from the regularised Nash policy against calls of the oracle, two for each update "
            "of Nash-MP, with the line KL_0 (1 + 2 beta)^(-N / 2).",
            "Nash-MP falls along straight lines below the bound, the others flatten",
            columns=3,
        ),
        "gap": show_panels(
            curve_panels(config, stages["curves"], "gap"),
            "Gap",
            "The duality gap of the regularised game, on the same runs.",
            "the same order of methods in the gap",
            columns=3,
        ),
        "updates": show_panels(
            updates_panels(config, stages["updates"]),
            "Updates to a gap of 1e-6",
            "Rock-paper-scissors: updates and calls until the gap is below 1e-6. Mirror descent "
            "has the best of many constant steps.",
            "Nash-MP needs a few more as beta falls, mirror descent grows as 1 / beta squared",
            share_y=True,
        ),
        "inner": show_panels(
            inner_panels(stages["exact"], stages["sampled"]),
            "Inexact prox problems",
            f"Rock-paper-scissors, beta = {config.betas[1]:g}: both prox problems of a round "
            "solved by m gradient steps. Left at eta = 2 beta with exact gradients, beside two "
            "schemes of one call; in the middle larger eta; right "
            f"{config.batch} answers a step.",
            "more inner steps end lower at eta = 2 beta; larger eta with many steps diverges",
            columns=3,
            share_y=True,
        ),
    }
    write_page(
        job.out,
        "Nash mirror prox",
        lead="Two calls of the oracle instead of one, and the last policy converges linearly, at a "
        "rate that depends on beta alone.",
        paper=PAPER,
        claims=claims,
        figures=drawn,
        table=table,
    )


def curve_panels(config: Config, arrays: Arrays, metric: str) -> list[Panel]:
    """Games down, the largest, a middle and the smallest beta across."""
    rows = sorted({0, len(config.betas) // 2, len(config.betas) - 1})
    label = {"kl": "KL(pi* || pi), nats", "gap": "regularised gap"}[metric]
    items = []
    for column, game in enumerate(GAMES):
        for row in rows:
            beta = config.betas[row]
            last = HORIZON / beta
            queries = until(arrays["Nash-MP/queries"], last)
            line = np.median(arrays["start"][row, column]) * (1 + 2 * beta) ** (-queries / 2)
            series = {}
            for method, shown in METHODS.items():
                calls = until(arrays[f"{method}/queries"], last)
                curve = arrays[f"{method}/{metric}"][row, column, :, : len(calls)]
                series[shown] = band(calls, curve)
            bounds = {"KL₀ (1 + 2 beta)^(-N/2)": Series(queries, line)} if metric == "kl" else {}
            items.append(
                Panel(
                    f"{game}, beta = {beta:g}",
                    "oracle calls N",
                    label,
                    series,
                    bounds=bounds,
                    log_y=True,
                    floor=1e-15,
                )
            )
    return items


def updates_panels(config: Config, arrays: Arrays) -> list[Panel]:
    """Updates and oracle calls against 1 / beta."""
    inverse = 1 / np.asarray(config.betas)

    def counted(name: str, calls: int) -> Series:
        counts = np.where(arrays[name] < config.most_updates, calls * arrays[name], np.nan)
        return band(inverse, counts.T)

    return [
        Panel(
            f"{kind} to a gap below {TOLERANCE:g}",
            "1 / beta",
            kind,
            {METHODS[name]: counted(name, calls) for name, calls in each.items()},
            log_x=True,
            log_y=True,
        )
        for kind, each in {"updates": dict.fromkeys(CALLS, 1), "oracle calls": CALLS}.items()
    ]


def inner_panels(exact: Arrays, sampled: Arrays) -> list[Panel]:
    """Gaps against rounds."""
    solved = [f"m = {m}" for m in SIZES]
    larger = sorted(name for name in exact if name.startswith("eta"))
    kinds = {
        "exact gradients": {name: exact[name] for name in (*solved, *ONE_CALL)},
        "exact gradients, larger eta": {name: exact[name] for name in larger},
        "samples": {name: sampled[name] for name in solved if name in sampled},
    }
    return [
        Panel(
            title,
            "rounds k",
            "regularised gap",
            {name: band(np.arange(1, gaps.shape[-1] + 1), gaps) for name, gaps in each.items()},
            log_y=True,
            floor=1e-13,
        )
        for title, each in kinds.items()
    ]


def until(times: np.ndarray, last: float) -> np.ndarray:
    """The times that are not after the last one."""
    return times[times <= last]
