"""The plots and the page of inpo."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.inpo.config import Config
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import Shown, write_page
from rlhf_jax.reports.panels import Panel, panels
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

FLOOR = 1e-8
GAP = "duality gap of the regularised game"
MAIN = ("INPO, exact", "INPO, sampled", "INPO without KL", "iterative DPO")
PAIRS = ("INPO, sampled", "uniform pairs", "best and worst of 8", "better of 2")


def write_report(
    job: Run, config: Config, results: Sequence, claims: Sequence[Claim], table: Table
) -> None:
    """Saves the curves and the figures, and writes report.html with them."""
    gaps, hedge, schedules, language = results
    save_data(job, config, results)
    figures = {
        "rounds": panels(round_panels(gaps, language, MAIN), columns=3, share_y=True),
        "pairs": panels(round_panels(gaps, None, PAIRS), columns=3, share_y=True),
        "rates": panels([*hedge_panels(config, hedge), *schedule_panels(schedules)], columns=3),
    }
    texts = {
        "rounds": (
            "Rounds of INPO, and of what it is compared with",
            f"Beta 0.1, eta 1; {config.pairs} pairs with one bit each in a round. Median and range "
            f"over {config.num_seeds} seeds: starts for the exact methods, samples for the others, "
            "games in the right panel. Drawn to 1e-8.",
            "exact INPO falls to zero, sampled INPO to its noise; the others stay high",
        ),
        "pairs": (
            "Whose pairs, and which of them",
            "The same loss, solved, on pairs from pi_t with drawn labels; on uniform pairs; on the "
            "best against the worst of 8 answers by win rate among themselves; on the better of 2 "
            "without a drawn label. The dotted line is the reference.",
            "only iid pairs with drawn labels reach the noise; best of 8 is above the reference",
        ),
        "rates": (
            "Rates",
            "Hedge: average on random games (step sqrt(8 log n / T), one run for each T) and last "
            "policy on rock-paper-scissors from the reference. Then KL(pi* || pi_t) with steps "
            "2 / (beta (t + 2)) and the bound of Theorem 4.",
            "Hedge's average falls as T^-1/2 and its last does not; KL keeps far below the bound",
        ),
    }
    lead = (
        "Winner-loser regression towards a constant, on pairs that the last policy drew, is a step "
        "of mirror descent against itself. It needs no win rates, but those pairs."
    )
    shown = {
        name: Shown(figures[name], title, caption, alt)
        for name, (title, caption, alt) in texts.items()
    }
    write_page(job.out, "INPO", lead=lead, claims=claims, figures=shown, table=table)


def save_data(job: Run, config: Config, results: Sequence) -> None:
    """The numbers behind the figures."""
    gaps, hedge, schedules, language = results
    folder = job.out / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for name, runs in gaps.items():
        np.savez(folder / f"rounds-{name.replace('/', '-')}.npz", **runs)
    for name, result in schedules.items():
        np.savez(folder / f"schedule-{name.replace('/', '-')}.npz", **result)
    np.savez(folder / "hedge.npz", updates=config.hedge_updates, **hedge)
    np.savez(folder / "transformer.npz", gap=language)


def band(values: np.ndarray) -> Series:
    """Median and range over seeds of [S, rounds + 1]."""
    low, middle, high = np.quantile(values, (0.0, 0.5, 1.0), axis=0)
    return Series(np.arange(values.shape[1]), middle, np.maximum(low, FLOOR), high)


def round_panels(gaps: Mapping, language: np.ndarray | None, names: Sequence[str]) -> list[Panel]:
    """Gap against rounds, one panel for each kind of game."""
    items = []
    for title, runs in gaps.items():
        series = {name: band(runs[name]) for name in names}
        if language is not None and title == "RPS(0.9)":
            series["INPO, transformer"] = band(language)
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
    low, middle, high = np.quantile(hedge["average"], (0.0, 0.5, 1.0), axis=0)
    return [
        Panel(
            "Hedge, random games: average",
            "T",
            "exploitability",
            {"Hedge": Series(t, middle, low, high)},
            bounds={"T^-1/2": Series(t, middle[0] * np.sqrt(t[0] / t))},
            log_x=True,
            log_y=True,
        ),
        Panel(
            "Hedge, RPS(1): last policy",
            "T",
            "exploitability",
            {"Hedge": Series(t, hedge["last"][0])},
            levels={"0.25": 0.25},
            log_x=True,
            log_y=True,
        ),
    ]


def schedule_panels(schedules: Mapping) -> list[Panel]:
    """KL with decaying steps, and its bound."""
    items = []
    for name, result in schedules.items():
        low, middle, high = np.quantile(result["kl"], (0.0, 0.5, 1.0), axis=0)
        items.append(
            Panel(
                f"Decaying steps, {name}",
                "updates",
                "KL(pi* || pi_t), nats",
                {"INPO, decaying steps": Series(result["times"], middle, low, high)},
                bounds={"Theorem 4": Series(result["times"], result["bound"].min(0))},
                log_x=True,
                log_y=True,
            )
        )
    return items
