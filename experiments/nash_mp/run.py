"""Nash-MP: does the last policy converge linearly, at a rate that the game does not change?"""

from collections.abc import Mapping

import numpy as np

from experiments.nash_mp.config import Config
from experiments.nash_mp.curves import GAMES, game_curves, random_shares
from experiments.nash_mp.inner import exact_gaps, sampled_gaps
from experiments.nash_mp.report import write_report
from experiments.nash_mp.updates import needed_updates
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.reports.rates import Rate, fit_rate
from rlhf_jax.training import Run, run_stage

Arrays = Mapping[str, np.ndarray]
# Updates to a gap below 1e-6 from the reference (0.7, 0, -0.7), which is the first seed's.
UPDATES = {0.1: 20, 0.05: 30, 0.02: 43, 0.01: 51, 0.005: 58}
# Gaps that m inner steps leave there, each to be met within a factor.
INNER, INNER_FACTOR = {1: 1.6e-2, 5: 1.3e-7, 20: 6.6e-9, 100: 6.5e-9}, 1.2
SAMPLED, SAMPLED_FACTOR = {1: 0.099, 5: 0.010, 20: 0.0021}, 2.0
SIZES = ((3, 10), (11, 20), (21, 29))  # answers of the random games


def run(config: Config, job: Run) -> Outcome:
    """Curves on three kinds of game, random games, counts of updates, inexact inner problems."""
    stages = {
        "curves": lambda: game_curves(config),
        "random": lambda: random_shares(config),
        "updates": lambda: needed_updates(config),
        "exact": lambda: exact_gaps(config),
        "sampled": lambda: sampled_gaps(config),
    }
    found = {
        name: run_stage(job, name, lambda _, work=work: (work(), {})).arrays
        for name, work in stages.items()
    }
    rates = {name: update_rate(config, found["updates"][name]) for name in ("Nash-MP", "OMD")}
    claims = [
        *bound_claims(found),
        *update_claims(config, found["updates"], rates),
        *inner_claims(found["exact"], found["sampled"]),
    ]
    table = updates_table(config, found["updates"], rates)
    write_report(job, config, found, claims, table)
    return Outcome(claims, numbers=summary(found), table=table)


def bound_claims(found: Mapping[str, Arrays]) -> list[Claim]:
    """KL_{k+1} <= KL_k / (1 + 2 beta), and the method is EGPO."""
    worst = found["curves"]["share"].max((0, 2))
    claims = [
        Claim(f"{game}: largest share of the bound", share, "<=", 1.0)
        for game, share in zip(GAMES, worst, strict=True)
    ]
    sizes, shares = found["random"]["size"], found["random"]["share"]
    for low, high in SIZES:
        worst = shares[(sizes >= low) & (sizes <= high)].max()
        claims.append(Claim(f"random games of {low} to {high} answers: share", worst, "<=", 1.0))
    away = found["curves"]["difference"].max()
    return [*claims, Claim("probabilities of EGPO and Nash-MP: difference", away, "<=", 1e-12)]


def update_rate(config: Config, counts: np.ndarray) -> Rate:
    """Slope of log updates against log 1 / beta, from counts [betas, seeds]."""
    return fit_rate(1 / np.asarray(config.betas), counts.T, law="power")


def update_claims(config: Config, arrays: Arrays, rates: Mapping[str, Rate]) -> list[Claim]:
    """Counts from the known reference, and how they grow, over seeds."""
    known = [
        Claim(f"updates of Nash-MP, beta = {beta:g}", count, "==", UPDATES[beta])
        for beta, count in zip(config.betas, arrays["Nash-MP"][:, 0], strict=True)
        if beta in UPDATES
    ]
    return [
        *known,
        Claim("Nash-MP: slope of updates in 1 / beta, upper end", rates["Nash-MP"].high, "<=", 0.5),
        Claim("OMD: slope of updates in 1 / beta, lower end", rates["OMD"].low, ">=", 1.8),
    ]


def inner_claims(exact: Arrays, sampled: Arrays) -> list[Claim]:
    """Exact gradients from the known reference, and against larger steps over seeds; samples."""
    large = ("eta = 1, m = 100", "eta = 4, m = 100")
    ends = {name: gaps[0, -1] for name, gaps in exact.items()}
    means = {name: gaps[:, -1].mean() for name, gaps in sampled.items()}
    return [
        Claim("m = 100, eta = 2 beta: gap", ends["m = 100"], "<=", 1e-8),
        *(Claim(f"{name}: gap", ends[name], ">=", 0.5) for name in large),
        Claim(
            "m = 100: largest gap at eta = 2 beta over least at 1 and 4, all seeds",
            exact["m = 100"][:, -1].max() / min(exact[name][:, -1].min() for name in large),
            "<",
            1.0,
        ),
        Claim("inner steps: factor to the known gaps", away(ends, INNER), "<=", INNER_FACTOR),
        Claim("sampled steps: factor to the known", away(means, SAMPLED), "<=", SAMPLED_FACTOR),
    ]


def away(gaps: Mapping[str, float], known: Mapping[int, float]) -> float:
    """Largest factor between a gap and what it should be, either way."""
    ratios = [gaps[f"m = {m}"] / value for m, value in known.items()]
    return max(max(ratio, 1 / ratio) for ratio in ratios)


def updates_table(config: Config, arrays: Arrays, rates: Mapping[str, Rate]) -> Table:
    """Methods as rows, betas as columns."""
    rows = []
    for name, counts in arrays.items():
        cells = [
            int(count) if count < config.most_updates else f"> {config.most_updates}"
            for count in counts[:, 0]
        ]
        rate = rates.get(name)
        slope = f"{rate.slope:.2f} [{rate.low:.2f}, {rate.high:.2f}]" if rate else None
        rows.append((name, *cells, slope))
    return Table(
        "Updates to a regularised gap below 1e-6, rock-paper-scissors, reference (0.7, 0, -0.7)",
        ("method", *(f"beta = {beta:g}" for beta in config.betas), "slope in 1 / beta [95%]"),
        rows,
        note=f"slopes over {config.num_seeds} references; an update of Nash-MP calls the oracle "
        "twice; OMD has its best constant step",
    )


def summary(found: Mapping[str, Arrays]) -> dict:
    """Shares of the bound and steps [games, betas]; gaps of inexact inner problems."""
    curves = found["curves"]
    return {
        "share": curves["share"].max(-1).T.tolist(),
        "step of OMD": np.median(curves["eta"], -1).T.tolist(),
        "random share": float(found["random"]["share"].max()),
        "exact": {name: gaps[0, -1].item() for name, gaps in found["exact"].items()},
        "exact, median": {
            name: np.median(gaps[:, -1]).item() for name, gaps in found["exact"].items()
        },
        "sampled": {name: gaps[:, -1].mean().item() for name, gaps in found["sampled"].items()},
    }
