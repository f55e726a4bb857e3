"""The plots and the page of inpo."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.inpo import PAPER
from experiments.inpo.config import Config
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

FLOOR = 1e-8
GAP = "regularised duality gap"
MAIN = (
    *("INPO, exact", "INPO, sampled", "INPO without KL"),
    *("iterative DPO, beta 0.1", "iterative DPO, beta 0.3", "iterative DPO, beta 1"),
)
PAIRS = ("INPO, sampled", "uniform pairs", "best and worst of 8", "better of 2")


def write_report(
    job: Run, config: Config, results: Sequence, claims: Sequence[Claim], table: Table
) -> None:
    """Saves the curves and the figures, and writes report.html with them."""
    gaps, hedge, schedules, language = results
    stages = {f"rounds-{name}": runs for name, runs in gaps.items()}
    stages |= {f"schedule-{name}": result for name, result in schedules.items()}
    stages["hedge"] = {"updates": config.hedge_updates, **hedge}
    save_stages(job.out, stages | {"transformer": {"gap": language}})
    figures = {
        "rounds": show_panels(
            round_panels(gaps, language, MAIN),
            "Rounds of INPO, and of its rivals",
            f"Beta 0.1, eta 1; {config.pairs} pairs with one bit each in a round. Seeds are starts "
            "for the exact methods, samples for the others, games in the right panel. Iterative "
            "DPO is solved in the population; at beta 3 and 10 it stays near the reference. Drawn "
            "to 1e-8.",
            "exact INPO falls to zero, sampled INPO to its noise; the others stay high",
            columns=3,
            share_y=True,
        ),
        "pairs": show_panels(
            round_panels(gaps, None, PAIRS),
            "Whose pairs, and which of them",
            "The same loss, solved, on pairs from pi_t with drawn labels; on uniform pairs; on the "
            "best against the worst of 8 answers by win rate among themselves; on the better of 2 "
            "without a drawn label. The dotted line is the reference.",
            "only iid pairs with drawn labels reach the noise; best of 8 is above the reference",
            columns=3,
            share_y=True,
        ),
        "rates": show_panels(
            [*hedge_panels(config, hedge), *schedule_panels(schedules)],
            "Rates",
            "Hedge: average on random games (step sqrt(8 log n / T), one run for each T) and last "
            "policy on rock-paper-scissors from the reference. Then KL(pi* || pi_t) with steps "
            "2 / (beta (t + 2)) and the bound of Theorem 4.",
            "Hedge's average falls as T^-1/2 and its last does not; KL keeps far below the bound",
            columns=3,
        ),
    }
    lead = (
        "Winner-loser regression towards a constant, on pairs that the last policy drew, is a step "
        "of mirror descent against itself. It needs no win rates, but those pairs."
    )
    write_page(job.out, "INPO", paper=PAPER, lead=lead, claims=claims, figures=figures, table=table)


def by_round(values: np.ndarray) -> Series:
    """Median and range over seeds of [S, rounds + 1]."""
    return band(np.arange(values.shape[1]), values)


def round_panels(gaps: Mapping, language: np.ndarray | None, names: Sequence[str]) -> list[Panel]:
    """Gap against rounds, one panel for each kind of game."""
    items = []
    for title, runs in gaps.items():
        series = {name: by_round(runs[name]) for name in names}
        if language is not None and title == "RPS(0.9)":
            series["INPO, transformer"] = by_round(language)
        reference = float(np.median(runs["INPO, sampled"][:, 0]))
        items.append(
            Panel(
                title,
                "rounds",
                GAP,
                series,
                levels={"reference": reference},
                log_y=True,
                floor=FLOOR,
            )
        )
    return items


def hedge_panels(config: Config, hedge: Mapping) -> list[Panel]:
    """Exploitability of the average and of the last policy."""
    t = np.asarray(config.hedge_updates, float)
    average = band(t, hedge["average"], units="games")
    return [
        Panel(
            "Hedge, random games: average",
            "T",
            "exploitability",
            {"Hedge, average": average},
            guides={"T^-1/2": Series(t, average.y[0] * np.sqrt(t[0] / t))},
            log_x=True,
            log_y=True,
        ),
        Panel(
            "Hedge, RPS(1): last policy",
            "T",
            "exploitability",
            {"Hedge, last": Series(t, hedge["last"][0])},
            levels={"0.25": 0.25},
            log_x=True,
            log_y=True,
        ),
    ]


def schedule_panels(schedules: Mapping) -> list[Panel]:
    """KL with decaying steps, and its bound."""
    items = []
    for name, result in schedules.items():
        items.append(
            Panel(
                f"Decaying steps, {name}",
                "updates",
                "KL(pi* || pi_t), nats",
                {"INPO, decaying steps": band(result["times"], result["kl"])},
                bounds={"Theorem 4": Series(result["times"], result["bound"].min(0))},
                log_x=True,
                log_y=True,
            )
        )
    return items
