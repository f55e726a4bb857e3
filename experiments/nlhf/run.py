"""Nash-MD and its baselines: does the last policy converge, and how far from where it should?"""

from collections.abc import Mapping

import numpy as np

from experiments.nlhf import judges
from experiments.nlhf.config import Config
from experiments.nlhf.mixture import NAMES, exact_gaps, sampled_gaps
from experiments.nlhf.report import write_report
from experiments.nlhf.tables import GAMES, decaying_curves, fixed_curves, hedge_ends
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.reports.rates import Rate, fit_rate, rate_claim
from rlhf_jax.training import Run, run_stage

Arrays = Mapping[str, np.ndarray]
START = 1000  # of the fitted slopes
ROUNDING = 1e-13  # a KL below it is not fitted
# Regularised gaps of the opponents b = 1/8, 1/4, 1/2 and 1; each must be met within a factor.
MIXTURE_GAPS = (0.011, 0.057, 0.276, 0.265)
FACTOR = 2.0


def run(config: Config, job: Run) -> Outcome:
    """Exact runs on four games, samples on one, and three types of judge."""
    stages = {
        "decaying": lambda: decaying_curves(config),
        "fixed": lambda: fixed_curves(config),
        "hedge": lambda: hedge_ends(config),
        "mixture": lambda: sampled_gaps(config) | {"exact": exact_gaps(config)},
        "judges": judges.solutions,
    }
    found = {
        name: run_stage(job, name, lambda _, work=work: (work(), {})).arrays
        for name, work in stages.items()
    }
    rates = nash_md_rates(found["decaying"])
    claims = [
        *bound_claims(config, found["decaying"]),
        *(
            rate_claim(f"{game}: slope of log KL", rates[game], -1.0, source="Theorem 1")
            for game in GAMES
        ),
        *hedge_claims(found["hedge"]),
        *floor_claims(found["fixed"]),
        *mixture_claims(found["mixture"]),
        *judge_claims(found["judges"]),
    ]
    table, numbers = summary(config, found, rates)
    write_report(job, config, found, claims, table)
    return Outcome(claims, numbers=numbers, table=table)


def bound_claims(config: Config, arrays: Arrays) -> list[Claim]:
    """KL(pi* || pi_t) <= 8 / (beta^2 (t + 1)) at every t."""
    return [
        Claim(f"beta = {beta:g}: largest KL over the bound", worst.max(), "<=", 1.0)
        for beta, worst in zip(config.betas, arrays["bound"], strict=True)
    ]


def nash_md_rates(arrays: Arrays) -> dict[str, Rate]:
    """Slopes of log KL against log t at the first beta, game by game."""
    curves = zip(GAMES, arrays["Nash-MD/kl"][0], strict=True)
    return {
        game: fit_rate(arrays["times"], curve, law="power", start=START, floor=ROUNDING)
        for game, curve in curves
    }


def hedge_claims(arrays: Arrays) -> list[Claim]:
    """From the start (1/2, -1/2, 0); other starts are in the numbers."""
    return [
        Claim("Hedge: exploitability of the last policy", arrays["last"][0], ">=", 0.2),
        Claim("Hedge: exploitability of the average", arrays["average"][0], "<=", 0.01),
        Claim(
            "Hedge: largest average over its regret bound",
            (arrays["average"] / arrays["bound"]).max(),
            "<=",
            1.0,
        ),
    ]


def floor_claims(arrays: Arrays) -> list[Claim]:
    """On rock-paper-scissors: what five times the step does to where a constant step ends."""
    small, large = arrays["Nash-MD"][:, 0, :, -1]
    left = np.abs(arrays["OMD"][:, 0, :, -1])
    return [
        Claim("five times the step: least growth of Nash-MD's KL", (large / small).min(), ">=", 15),
        Claim("five times the step: most growth", (large / small).max(), "<=", 40),
        Claim("constant step: KL of mirror descent", left.max(), "<", 1e-12),
    ]


def mixture_claims(arrays: Arrays) -> list[Claim]:
    """Order and size of the gaps that the opponents leave, in the mean over seeds."""
    gaps = dict(zip(NAMES, arrays["late"].mean(-1), strict=True))
    first = [gaps[name] for name in NAMES[:4]]
    ratios = [gaps[name] / seen for name, seen in zip(NAMES[1:5], MIXTURE_GAPS, strict=True)]
    away = max(max(ratio, 1 / ratio) for ratio in ratios)
    return [
        Claim("self-play, b = 0: gap", gaps["b = 0"], "<=", 0.01),
        Claim("mixture, b = 0.5: gap", gaps["b = 0.5"], ">=", 0.1),
        Claim("mixture: least growth of the gap from b to b", np.diff(first).min(), ">", 0.0),
        Claim("mixture: largest factor between gap and expectation", away, "<=", FACTOR),
        Claim("moving average: gap", gaps[NAMES[5]], ">=", 0.1),
    ]


def judge_claims(arrays: Arrays) -> list[Claim]:
    """Continuity of one optimum and the jump of the other."""
    expected = np.where(judges.EPS > 0, 0, 1)
    right = np.mean(np.argmax(arrays["scores"], axis=-1) == expected)
    middle = int(np.searchsorted(judges.EPS, 0.0))
    across = np.abs(arrays["nash"][middle] - arrays["nash"][middle - 1])
    off = np.abs(arrays["nash"] - arrays["formula"]).max()
    return [
        Claim("three types: distance of Nash from its formula", off, "<=", 1e-8),
        Claim("three types: change of Nash across eps = 0", across.max(), "<=", 0.01),
        Claim("three types: share of Bradley-Terry optima that flip at 0", right, "==", 1.0),
    ]


def summary(
    config: Config, found: Mapping[str, Arrays], rates: Mapping[str, Rate]
) -> tuple[Table, dict]:
    """Games as rows; the opponents' gaps and Hedge's ends among the numbers."""
    curves, fixed = found["decaying"], found["fixed"]
    rows = []
    for column, game in enumerate(GAMES):
        ends = [curves[f"{name}/kl"][:, column, :, -1] for name in ("Nash-MD", "OMD")]
        small, large = np.median(fixed["Nash-MD"][:, column, :, -1], axis=-1)
        rate = rates[game]
        rows.append(
            (
                game,
                *np.abs(np.median(np.concatenate(ends), axis=-1)),
                f"{rate.slope:.3f} [{rate.low:.3f}, {rate.high:.3f}]",
                large / small,
            )
        )
    headers = [f"{name}, {beta:g}" for name in ("Nash-MD", "OMD") for beta in config.betas]
    table = Table(
        f"KL to the regularised Nash policy after {config.steps} updates",
        ("game", *headers, "slope of Nash-MD [95%]", "growth of its floor"),
        rows,
        note=f"medians over {config.num_seeds} seeds; slope from t = {START}, "
        f"beta = {config.betas[0]:g}; floors of constant steps {config.fixed_etas}",
    )
    mixture = found["mixture"]
    numbers = {
        "mixture gaps": dict(zip(NAMES, mixture["late"].mean(-1).tolist(), strict=True)),
        "mixture gaps, exact gradient": dict(
            zip(NAMES, mixture["exact"][:, -1].tolist(), strict=True)
        ),
        "hedge": {name: value.tolist() for name, value in found["hedge"].items()},
        "bound": curves["bound"].max(-1).tolist(),
    }
    return table, numbers
