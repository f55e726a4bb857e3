"""What mnpo claims of its studies, and the baselines that must fail."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from experiments.mnpo import studies
from experiments.mnpo.config import Config
from rlhf_jax.envs.games import rock_paper_scissors
from rlhf_jax.exact.regularised_nash import regularised_nash
from rlhf_jax.reports.claims import Claim, largest_change
from rlhf_jax.reports.intervals import (
    bootstrap_claim,
    bootstrap_interval,
    mean_claim,
    mean_interval,
    near_end,
)
from rlhf_jax.reports.rates import bound_claim, fit_rate, rate_claim

FIXED_POINT = (0.1, 1.0)  # the cell (rho, eta) in which fixed points are compared
# Exploitability of the average by T, from logits (0.5, -0.5, 0).
AVERAGES = {
    "ONPO": {100: 0.0166, 400: 0.0050, 1600: 0.00125, 6400: 0.00031},
    "Hedge": {100: 0.050, 400: 0.041, 1600: 0.0051, 6400: 0.0045},
}
INPO = "INPO = (1)"
LINEAR: dict[str, Any] = {
    "kind": "ours",
    "source": "roots of the update linearised at the Nash policy",
}
Arrays = Mapping[str, np.ndarray]
Limits = Mapping[str, list[float]]


def grid_claims(config: Config, grid: Mapping[str, Arrays], limits: Limits) -> list[Claim]:
    """Stable below the predicted limits, not above, which are not those of INPO."""
    below = stable(config, limits)  # [K, C]
    gaps = np.stack([grid[name]["gaps"] for name in studies.HISTORIES])  # [K, S, C, N]
    ends, peaks = gaps[..., -1], gaps[..., -config.tail :].max(axis=-1)
    inpo = dict.fromkeys(limits, limits[INPO])
    some = below.any(axis=0)

    def predicted(below: np.ndarray) -> int:
        return int(np.where(below, ends[:, 0] < 1e-6, ends[:, 0] > 0.3).sum())

    def every(cells: np.ndarray) -> np.ndarray:
        """[K, C] for every seed: [K, S, C]."""
        return np.broadcast_to(cells[:, None], ends.shape)

    always = grid["EGPO"]["gaps"][..., -config.tail :].max(axis=-1)
    return [
        Claim(
            f"first reference: cells of a history, rho and eta as predicted, of {below.size}",
            predicted(below),
            "==",
            below.size,
            baseline=("the limit of INPO for every history", predicted(stable(config, inpo))),
            **LINEAR,
        ),
        Claim(
            "cells below the limit of their history: largest last gap, all references",
            ends[every(below)].max(),
            "<",
            1e-6,
            baseline=near_end(
                "INPO in the same cells, mean over references",
                bootstrap_interval(np.mean, ends[0][:, some].mean(axis=1)),
                "<",
            ),
            **LINEAR,
        ),
        Claim(
            f"cells above it: least peak of the gap in {config.tail} rounds, all references",
            peaks[every(~below)].min(),
            ">",
            0.3,
            baseline=near_end(
                "EGPO in the same cells, mean over references",
                bootstrap_interval(np.mean, always[:, ~below.all(axis=0)].mean(axis=1)),
                ">",
            ),
            **LINEAR,
        ),
        *fixed_point_claims(config, grid),
    ]


def fixed_point_claims(config: Config, grid: Mapping[str, Arrays]) -> list[Claim]:
    """One fixed point for every history, and where two calls converge."""
    cells = studies.cells(config)
    here = np.flatnonzero((cells == FIXED_POINT).all(axis=1))[0]
    with jax.enable_x64(True):
        refs, prefs = np.asarray(studies.references(config)), np.asarray(rock_paper_scissors())
    star = regularised_nash(prefs, refs, beta=FIXED_POINT[0] / FIXED_POINT[1])
    ends = np.stack([grid[name]["logps"][:, here] for name in studies.HISTORIES])
    small = cells[:, 1] <= 1.0
    egpo, inpo = (grid[name]["gaps"][:, small, -1] for name in ("EGPO", INPO))
    apart = np.abs(refs - star).max(axis=-1)
    return [
        Claim(
            "all histories, rho 0.1, eta 1: largest log-ratio to the regularised Nash policy",
            np.abs(ends - star).max(),
            "<=",
            1e-8,
            kind="theorem",
            source="the fixed point of TD-MNPO is that of INPO",
            baseline=near_end(
                "staying at the reference, mean", bootstrap_interval(np.mean, apart), "<="
            ),
        ),
        Claim(
            "EGPO, eta <= 1: largest last gap, all references",
            egpo.max(),
            "<",
            1e-6,
            kind="theorem",
            source="linear rate of EGPO",
            baseline=near_end(
                "INPO in the same cells, mean over references",
                bootstrap_interval(np.mean, inpo.mean(axis=1)),
                "<",
            ),
        ),
    ]


def average_claims(config: Config, found: Arrays) -> list[Claim]:
    """ONPO's average is O(1 / T), Hedge's O(1 / sqrt T); known values from the first start."""
    times = np.array(config.horizons)
    onpo, hedge = (
        fit_rate(times, found[name], law="power", start=400.0) for name in ("ONPO", "Hedge")
    )
    shown = [i for i, t in enumerate(config.horizons) if t in AVERAGES["ONPO"]]
    known = [
        Claim(
            f"{name}, first start: largest relative change of the average gap by T",
            largest_change(
                (found[name][0, i] for i in shown), (values[config.horizons[i]] for i in shown)
            ),
            "<=",
            0.02,
            kind="regression",
            source="an earlier run",
        )
        for name, values in AVERAGES.items()
        if shown
    ]
    return [
        *known,
        rate_claim(
            "ONPO, average: slope of log gap in log T",
            onpo,
            -1.0,
            slack=0.05,
            source="O(1 / T) of optimism",
            baseline=near_end("Hedge", (hedge.low, hedge.high), "<="),
        ),
        bound_claim(
            "Hedge, average: largest gap over 2 regret / T, all starts and T",
            found["Hedge"],
            found["bound"],
            source="regret bound of Hedge",
            baseline=("the last policy", found["Hedge, last"]),
        ),
        Claim(
            f"starts, of {config.num_seeds}, from which ONPO's average ends below Hedge's",
            int((found["ONPO"][:, -1] < found["Hedge"][:, -1]).sum()),
            "==",
            config.num_seeds,
            kind="ours",
            source="O(1 / T) against O(1 / sqrt T), every start",
        ),
    ]


def tuned_claim(config: Config, found: Arrays, players: Mapping[str, Arrays]) -> Claim:
    """ONPO at its one step against Hedge at the best of several, one call in an update of each."""

    def ratio(ours: np.ndarray, theirs: np.ndarray) -> float:
        return ours.mean() / theirs.mean(axis=0).min()

    tuned = found["Hedge, steps"]
    several = list(players)[-1]
    return bootstrap_claim(
        f"average after {config.horizons[-1]:,} updates: mean gap of ONPO over that of Hedge at "
        f"the best of {tuned.shape[1]} steps",
        ratio,
        [found["ONPO"][:, -1], tuned],
        "<",
        1.0,
        kind="paper",
        source="optimism beats the rival, which is tuned, at equal calls",
        baseline=(
            f"Eq. 10, {several} players, in its place",
            ratio(players[several]["average"][:, -1], tuned),
        ),
    )


def player_claims(found: Mapping[str, Arrays]) -> list[Claim]:
    """Eq. 10: one draw's bar for every draw of first policies, and what regret guarantees."""
    average, bound, last = (
        np.stack([each[part] for each in found.values()]) for part in ("average", "bound", "last")
    )
    return [
        Claim(
            f"Eq. 10, {', '.join(found)} players: average gap at the last T, worst draw",
            average[..., -1].max(),
            "<=",
            0.005,
            kind="regression",
            source="one draw of first policies",
        ),
        bound_claim(
            "Eq. 10: largest average gap over 2 regret / T, all draws, players and T",
            average,
            bound,
            source="regret bound of Hedge",
            baseline=("the last policies", last),
        ),
    ]


def oracle_claims(own: Arrays, shared: Arrays) -> list[Claim]:
    """HT-MNPO comes to rest, but not at an equilibrium."""
    ends, one = (each["gaps"][:, :, -1].max(axis=-1) for each in (own, shared))  # [S, rho]
    return [
        Claim(
            "HT-MNPO: largest last increment of a log-prob, all draws",
            own["increments"][..., -1].max(),
            "<=",
            1e-12,
            kind="ours",
            source="at rest up to rounding",
        ),
        mean_claim(
            "HT-MNPO, rho 0.1: DualGap of the worst player, mean over draws",
            ends[:, 0],
            ">=",
            1e-3,
            kind="ours",
            source="with an oracle each the point of rest is no equilibrium",
            baseline=near_end("one oracle for all", mean_interval(one[:, 0]), ">="),
        ),
        mean_claim(
            "HT-MNPO: DualGap at rho 0.5 over that at rho 0.1, mean over draws",
            ends[:, 1] / ends[:, 0],
            "<",
            1.0,
            kind="ours",
            source="a stronger pull to one reference brings the players together",
        ),
    ]


def stable(config: Config, limits: Limits) -> np.ndarray:
    """[K, C] True where the prediction is that a history converges in a cell."""
    by_rho = {
        rho: np.array([row[i] for row in limits.values()])
        for i, rho in enumerate(config.ref_weights)
    }
    return np.stack([eta < by_rho[rho] for rho, eta in studies.cells(config)], axis=1)
