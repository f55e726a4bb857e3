"""What nash_mp claims of its runs, and the baselines that must fail."""

from collections.abc import Mapping

import numpy as np

from experiments.nash_mp.config import Config
from experiments.nash_mp.curves import GAMES
from rlhf_jax.reports.claims import Claim, largest_factor
from rlhf_jax.reports.intervals import bootstrap_interval, mean_claim, mean_interval, near_end
from rlhf_jax.reports.rates import Rate, fit_rate

Arrays = Mapping[str, np.ndarray]
# Updates to a gap below 1e-6 from the reference (0.7, 0, -0.7), which is the first seed's.
UPDATES = {0.1: 20, 0.05: 30, 0.02: 43, 0.01: 51, 0.005: 58}
# Gaps that m inner steps leave there, each to be met within a factor.
INNER, INNER_FACTOR = {1: 1.6e-2, 5: 1.3e-7, 20: 6.6e-9, 100: 6.5e-9}, 1.2
SAMPLED, SAMPLED_FACTOR = {1: 0.099, 5: 0.010, 20: 0.0021}, 2.0
ONCE = "share of one call"
FLOOR = 1e-14  # of gaps that are compared
SIZES = ((3, 10), (11, 20), (21, 29))  # answers of the random games


def bound_claims(found: Mapping[str, Arrays]) -> list[Claim]:
    """KL_{k+1} <= KL_k / (1 + 2 beta) in every game; one call at the same step must break it in the
    mean over games."""
    curves, drawn = found["curves"], found["random"]
    shares = {
        f"Nash-MP, {game}": [curves[name][:, i].max(axis=0) for name in ("share", ONCE)]
        for i, game in enumerate(GAMES)
    }
    for low, high in SIZES:
        which = (drawn["size"] >= low) & (drawn["size"] <= high)
        name = f"Nash-MP, random games of {low} to {high} answers"
        shares[name] = [drawn[name][which] for name in ("share", ONCE)]
    return [
        Claim(
            f"{name}: largest KL_(k+1) / KL_k over 1 / (1 + 2 beta)",
            ours.max(),
            "<=",
            1.0,
            kind="theorem",
            source="linear last-iterate rate of Nash mirror prox",
            baseline=near_end(
                "mirror descent, same step, mean over games",
                bootstrap_interval(np.mean, theirs),
                "<=",
            ),
        )
        for name, (ours, theirs) in shares.items()
    ]


def equal_call_claims(config: Config, curves: Arrays) -> list[Claim]:
    """The gap after all calls, against mirror descent with its best step in each game."""
    gaps = {
        name: np.log10(np.maximum(curves[f"{name}/gap"][-1, ..., -1], FLOOR))
        for name in ("Nash-MP", "OMD", "Nash-MD")
    }  # [games, seeds] at the smallest beta
    return [
        mean_claim(
            f"{game}, beta = {config.betas[-1]:g}, after {config.queries:,} oracle calls each: "
            "log10 of the gap of Nash-MP less that of mirror descent at its best step, mean over "
            "seeds",
            gaps["Nash-MP"][i] - gaps["OMD"][i],
            "<",
            0.0,
            kind="ours",
            source=f"equal calls, the rival with the best of {config.coarse} steps in each game",
            baseline=near_end(
                "Nash-MD in the place of Nash-MP",
                mean_interval(gaps["Nash-MD"][i] - gaps["OMD"][i]),
                "<",
            ),
        )
        for i, game in enumerate(GAMES)
    ]


def update_rate(config: Config, counts: np.ndarray) -> Rate:
    """Slope of log updates against log 1 / beta, from counts [betas, seeds]."""
    return fit_rate(1 / np.asarray(config.betas), counts.T, law="power")


def update_claims(config: Config, arrays: Arrays, rates: Mapping[str, Rate]) -> list[Claim]:
    """How counts grow, over seeds, and those from the known reference."""
    ours, theirs = rates["Nash-MP"], rates["OMD"]
    known = [
        Claim(
            f"Nash-MP, beta = {beta:g}: updates to 1e-6 from the first reference",
            count,
            "==",
            UPDATES[beta],
            kind="regression",
            source="an earlier run",
        )
        for beta, count in zip(config.betas, arrays["Nash-MP"][:, 0], strict=True)
        if beta in UPDATES
    ]
    return [
        Claim(
            "Nash-MP: slope of log updates in log 1 / beta",
            ours.slope,
            "<=",
            0.5,
            kind="ours",
            source="the rate hardly depends on beta; the bound allows 1",
            interval=(ours.low, ours.high),
            baseline=near_end("mirror descent, best step", (theirs.low, theirs.high), "<="),
        ),
        Claim(
            "mirror descent, best step: slope of log updates in log 1 / beta",
            theirs.slope,
            ">=",
            1.8,
            kind="theorem",
            source="1 / beta^2 where preferences circle",
            interval=(theirs.low, theirs.high),
            baseline=near_end("Nash-MP", (ours.low, ours.high), ">="),
        ),
        *known,
    ]


def inner_claims(exact: Arrays, sampled: Arrays) -> list[Claim]:
    """Exact gradients from the known reference, and against larger steps over seeds; samples."""
    large = ("eta = 1, m = 100", "eta = 4, m = 100")
    best = min(exact[name][:, -1].min() for name in large)
    ends = {name: gaps[0, -1] for name, gaps in exact.items()}
    means = {name: gaps[:, -1].mean() for name, gaps in sampled.items()}
    return [
        Claim(
            "inexact Nash-MP, m = 100, eta = 2 beta: last gap from the first reference",
            ends["m = 100"],
            "<=",
            1e-8,
            kind="ours",
            source="m inner steps reach the prox point",
            baseline=min(((name, ends[name]) for name in large), key=lambda item: item[1]),
        ),
        Claim(
            "inexact Nash-MP, m = 100: largest gap at eta = 2 beta over least at 1 and 4",
            exact["m = 100"][:, -1].max() / best,
            "<",
            1.0,
            kind="ours",
            source="larger eta circles, from every reference",
            baseline=("eta = 1, in the mean", exact["eta = 1, m = 100"][:, -1].mean() / best),
        ),
        Claim(
            "inexact Nash-MP, exact gradients: largest factor between a gap and an earlier run's",
            away(ends, INNER),
            "<=",
            INNER_FACTOR,
            kind="regression",
            source=f"gaps {list(INNER.values())}",
        ),
        Claim(
            "inexact Nash-MP, samples: largest factor between a mean gap and an earlier run's",
            away(means, SAMPLED),
            "<=",
            SAMPLED_FACTOR,
            kind="regression",
            source=f"gaps {list(SAMPLED.values())}",
        ),
    ]


def away(gaps: Mapping[str, float], known: Mapping[int, float]) -> float:
    """Largest factor between a gap and what it should be, either way."""
    return largest_factor((gaps[f"m = {m}"] for m in known), known.values())
