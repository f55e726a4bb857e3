"""The figures and the page of the mnpo experiment."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.mnpo import PAPER, many, studies
from experiments.mnpo.config import Config
from rlhf_jax.reports import plots
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.pages import Shown, save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

FLOOR = 1e-15  # rounding
SECTIONS = {
    "rounds": (
        "Round by round",
        "Gap after each round, in two cells of the grid.",
        "longer histories converge where INPO cycles; EGPO is fastest",
    ),
    "averages": (
        "Without KL: average policies",
        "Exploitability of the average policy of a run of T updates.",
        "ONPO falls as 1 / T, Hedge and Eq. 10 slower",
    ),
    "oracles": (
        "An oracle for each player",
        "Distance from an equilibrium, and length of a step.",
        "HT-MNPO stops moving with a DualGap above zero",
    ),
    "many": (
        "One against many",
        "Eq. 5 to 7: a judge is shown one answer of each player and names the best. DualGap of "
        "Eq. 9 in self-play on the preference of a population, and of the worst player where each "
        "has a judge of its own.",
        "self-play and steps from one's own policy reach an equilibrium, HT-MNPO does not",
    ),
}
SHOWN = ((0.02, 2.0), (0.1, 2.0))  # cells (rho, eta) drawn round by round


def write_report(
    job: Run, config: Config, found: Mapping, limits: Mapping, claims: Sequence[Claim]
) -> None:
    """Saves figures and their data, and writes report.html."""
    save_data(job, config, found)
    drawn = {
        "rounds": round_panels(config, found["grid"]),
        "averages": average_panels(config, found),
        "oracles": oracle_panels(config, found),
        "many": many_panels(config, found["many"]),
    }
    stable = "; ".join(
        f"{name}: " + " and ".join(f"{eta:.2f}" for eta in row) for name, row in limits.items()
    )
    grid = Shown(
        heat_map(config, found["grid"]),
        "Where self-play is stable",
        f"log10 of the gap after {config.rounds} rounds, median of {config.num_seeds} references; "
        "ONPO has no KL term, and its gap is that of the game itself. Predicted largest stable "
        f"eta, rho {config.ref_weights}: {stable}.",
        "last gaps by method and cell: longer histories converge at larger steps",
    )
    write_page(
        job.out,
        "MNPO: what a history of policies changes",
        lead="Exact games, full regression solves, float64. rho is the weight of the reference in "
        "a step of size eta; beta = rho / eta is the KL weight of the game that is solved.",
        paper=PAPER,
        claims=claims,
        figures={"grid": grid}
        | {name: show_panels(drawn[name], *texts) for name, texts in SECTIONS.items()},
    )


def save_data(job: Run, config: Config, found: Mapping) -> None:
    """The curves behind each figure."""
    gaps = {name: each["gaps"] for name, each in found["grid"].items()}
    grid = {"cells": studies.cells(config), "times": studies.grid_times(config)}
    stages = {
        "grid": grid | gaps,
        "averages": {"horizons": config.horizons, **found["optimism"]},
        "players": {"horizons": config.horizons, **found["players"]},
        "own_oracles": found["oracles"]["own"],
        "many": {"times": many.many_times(config), **found["many"]},
    }
    save_stages(job.out, stages)


def heat_map(config: Config, grid: Mapping):
    """Methods down, cells across."""
    values = [
        np.log10(np.maximum(np.median(each["gaps"][..., -1], axis=0), 1e-32))
        for each in grid.values()
    ]
    columns = [f"{rho:g} | {eta:g}" for rho, eta in studies.cells(config)]
    return plots.heat_map(
        values,
        [label(name) for name in grid],
        columns,
        title="Last gap",
        x_label="rho | eta",
        unit="log10 of the gap",
        low=-16,
        high=0,
    )


def label(name: str) -> str:
    """A history of weights is TD-MNPO with these weights."""
    return f"TD-MNPO, {name}" if name.startswith("(") else name


def round_panels(config: Config, grid: Mapping) -> list[Panel]:
    """Gap against rounds in two cells."""
    cells, times = studies.cells(config), np.array(studies.grid_times(config))
    shown = [cell for cell in SHOWN if (cells == cell).all(axis=1).any()]
    items = []
    for rho, eta in shown:
        index = np.flatnonzero((cells == (rho, eta)).all(axis=1))[0]
        series = {label(name): band(times, each["gaps"][:, index]) for name, each in grid.items()}
        title = f"rho = {rho:g}, eta = {eta:g}"
        items.append(
            Panel(
                title,
                "rounds",
                "regularised gap (ONPO: exploitability)",
                series,
                log_x=True,
                log_y=True,
                floor=FLOOR,
            )
        )
    return items


def average_panels(config: Config, found: Mapping) -> list[Panel]:
    """Exploitability of average policies against T."""
    times = np.array(config.horizons)
    averages = found["optimism"]
    series = {name: band(times, averages[name]) for name in ("ONPO", "Hedge")}
    bounds = {"2 regret / T of Hedge": Series(times, np.median(averages["bound"], axis=0))}
    first = Panel(
        "No KL: the average policy",
        "T",
        "exploitability",
        series,
        bounds,
        log_x=True,
        log_y=True,
        floor=FLOOR,
    )
    series = {f"{n} players": band(times, each["average"]) for n, each in found["players"].items()}
    worst = np.max([each["bound"].max(axis=0) for each in found["players"].values()], axis=0)
    bounds = {"the same from the worst start": Series(times, worst)}
    levels = {"0.005": 0.005}
    return [
        first,
        Panel(
            "Eq. 10: the worst player's average",
            "T",
            "exploitability",
            series,
            bounds,
            levels=levels,
            log_x=True,
            log_y=True,
            floor=FLOOR,
        ),
    ]


def oracle_panels(config: Config, found: Mapping) -> list[Panel]:
    """HT-MNPO: how far it moves, and how far it is from an equilibrium."""
    times = np.array(studies.oracle_times(config))
    gaps, moves = {}, {}
    for name, label in (("own", "an oracle each"), ("shared", "one oracle")):
        for i, rho in enumerate(studies.ORACLE_WEIGHTS):
            key = f"{label}, rho {rho:g}"
            gaps[key] = band(times, found["oracles"][name]["gaps"][:, i].max(axis=-1))
            moves[key] = band(times, found["oracles"][name]["increments"][:, i])
    return [
        Panel(
            "HT-MNPO: the worst player's DualGap",
            "rounds",
            "one-sided gap, Eq. 9",
            gaps,
            log_x=True,
            log_y=True,
            floor=FLOOR,
        ),
        Panel(
            "HT-MNPO: increments",
            "rounds",
            "max |change of log-prob|",
            moves,
            log_x=True,
            log_y=True,
            floor=FLOOR,
        ),
    ]


def many_panels(config: Config, found: Mapping) -> list[Panel]:
    """DualGap against updates: one preference for all players, and a judge each."""
    times, counts = np.array(many.many_times(config)), [str(n) for n in config.players]
    shared = {f"{n} players": band(times, found[n]["gap"], units="populations") for n in counts}
    own = {}
    for n in counts:
        ends = found[n]["ht"]
        best = ends[..., -1].mean(axis=0).argmin()
        own[f"mirror descent, {n} players"] = band(times, found[n]["own"], units="populations")
        own[f"HT-MNPO, {n} players"] = band(times, ends[:, best], units="populations")
    words = ("updates", "one-sided gap, Eq. 9")
    shape: dict[str, Any] = {"log_x": True, "log_y": True, "floor": FLOOR}
    return [
        Panel("One preference, self-play", *words, shared, **shape),
        Panel("A judge each, the worst player", *words, own, **shape),
    ]
