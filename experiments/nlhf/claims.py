"""What nlhf claims of its runs, and the baselines that must fail."""

from collections.abc import Mapping

import numpy as np

from experiments.nlhf import judges
from experiments.nlhf.config import Config
from experiments.nlhf.mixture import NAMES
from experiments.nlhf.tables import GAMES
from rlhf_jax.reports.claims import Claim, largest_factor
from rlhf_jax.reports.intervals import mean_claim
from rlhf_jax.reports.rates import Rate, fit_rate, rate_claim

Arrays = Mapping[str, np.ndarray]
START = 1000  # of the fitted slopes
ROUNDING = 1e-13  # a KL below it is not fitted
LEAST = 1e-16  # of a KL, where its logarithm is taken
# Regularised gaps of the opponents b = 1/8, 1/4, 1/2 and 1; each must be met within a factor.
MIXTURE_GAPS = (0.011, 0.057, 0.276, 0.265)
FACTOR = 2.0


def bound_claims(config: Config, arrays: Arrays) -> list[Claim]:
    """KL(pi* || pi_t) <= 8 / (beta^2 (t + 1)) at every t, which Hedge's last policy must break."""
    return [
        Claim(
            f"Nash-MD, beta = {beta:g}: largest KL over the bound, all games, seeds and t",
            arrays["Nash-MD/bound"][i].max(),
            "<=",
            1.0,
            kind="theorem",
            source="Theorem 1",
            baseline=("Hedge's last policy", arrays["Hedge/bound"][i].max()),
        )
        for i, beta in enumerate(config.betas)
    ]


def slope_claims(config: Config, rates: Mapping[str, Rate], fixed: Arrays) -> list[Claim]:
    """At least as fast as 1 / t; a constant step, which ends on a floor, must not be."""
    floors = zip(GAMES, fixed["Nash-MD"][0], strict=True)
    return [
        rate_claim(
            f"Nash-MD, {game}, beta = {config.betas[0]:g}: slope of log KL in log t",
            rates[game],
            -1.0,
            source="Theorem 1",
            baseline=(
                f"constant step {config.fixed_etas[0]:g}",
                fit_rate(fixed["times"], curves, law="power", start=START).slope,
            ),
        )
        for game, curves in floors
    ]


def nash_md_rates(arrays: Arrays) -> dict[str, Rate]:
    """Slopes of log KL against log t at the first beta, game by game."""
    curves = zip(GAMES, arrays["Nash-MD/kl"][0], strict=True)
    return {
        game: fit_rate(arrays["times"], curve, law="power", start=START, floor=ROUNDING)
        for game, curve in curves
    }


def hedge_claims(arrays: Arrays) -> list[Claim]:
    """On rock-paper-scissors from random starts: the last policy circles, the average converges."""
    last, average = arrays["last"], arrays["average"]
    return [
        mean_claim(
            "Hedge: exploitability of the last policy, mean over random starts",
            last[1:],
            ">=",
            0.2,
            kind="paper",
            source="the last policy of self-play circles",
        ),
        Claim(
            "Hedge: largest exploitability of the average over its regret bound",
            (average / arrays["bound"]).max(),
            "<=",
            1.0,
            kind="theorem",
            source="regret bound of Hedge",
            baseline=("the last policy", (last / arrays["bound"]).max()),
        ),
    ]


def best_steps(arrays: Arrays, rival: str) -> np.ndarray:
    """[games] number of the step at which the rival's mean log KL is least."""
    return log_kl(arrays[rival]).mean(-1).argmin(0)


def log_kl(values: np.ndarray) -> np.ndarray:
    """log10 of KLs, those of rounding as LEAST."""
    return np.log10(np.maximum(np.abs(values), LEAST))


def lead(arrays: Arrays, name: str, rival: str) -> np.ndarray:
    """[games, seeds] orders of magnitude by which a KL is above the rival's at its best steps."""
    best = best_steps(arrays, rival)
    return log_kl(arrays[name]) - log_kl(arrays[rival][best, np.arange(len(best))])


def rival_claims(config: Config, arrays: Arrays) -> list[Claim]:
    """Against Hedge and mirror descent at the best constant step of each game, at equal calls.

    The game is the one in which Nash-MD does worst; seeds are the units.
    """
    claims = []
    for rival in ("Hedge", "OMD"):
        above = lead(arrays, "Nash-MD", rival)
        worst = above.mean(-1).argmax()
        claims.append(
            mean_claim(
                f"Nash-MD, beta = {config.betas[0]:g}: log10 of KL after {config.fixed_steps} "
                f"calls over that of {rival}'s last policy at its best step, worst game",
                above[worst],
                "<",
                0.0,
                kind="ours",
                source="a tuned rival at equal calls",
                baseline=("the reference", lead(arrays, "reference", rival)[worst].mean()),
            )
        )
    return claims


def floor_claims(arrays: Arrays) -> list[Claim]:
    """On rock-paper-scissors: what five times the step does to where a constant step ends."""
    small, large = arrays["Nash-MD"][:, 0, :, -1]
    left = np.abs(arrays["OMD"][:, 0, :, -1])
    growth, about = large / small, {"kind": "ours", "source": "a floor of order eta^2: 25"}
    return [
        mean_claim("Nash-MD, five times the step: KL grows at least", growth, ">=", 15, **about),
        mean_claim("Nash-MD, five times the step: KL grows at most", growth, "<=", 40, **about),
        Claim(
            "mirror descent, constant step: largest last KL",
            left.max(),
            "<",
            1e-12,
            kind="ours",
            source="self-play has no floor in a regularised game",
            baseline=("Nash-MD", small.min()),
        ),
    ]


def mixture_claims(arrays: Arrays) -> list[Claim]:
    """Order and size of the gaps that the opponents leave, in the mean over seeds."""
    gaps = dict(zip(NAMES, arrays["late"], strict=True))
    steps = np.diff([gaps[name] for name in NAMES[:4]], axis=0)
    away = largest_factor((gaps[name].mean() for name in NAMES[1:5]), MIXTURE_GAPS)
    about = {"kind": "ours", "source": "only b = 0 has the regularised Nash policy for fixed point"}
    return [
        mean_claim("Nash-MD-PG, b = 0: regularised gap", gaps["b = 0"], "<=", 0.01, **about),
        mean_claim("Nash-MD-PG, b = 0.5: regularised gap", gaps["b = 0.5"], ">=", 0.1, **about),
        mean_claim(
            "Nash-MD-PG, b to 0.5: least growth of the gap from b to b",
            steps[steps.mean(-1).argmin()],
            ">",
            0.0,
            **about,
        ),
        mean_claim("moving average 0.999: regularised gap", gaps[NAMES[5]], ">=", 0.1, **about),
        Claim(
            "Nash-MD-PG: largest factor between a gap and an earlier run's",
            away,
            "<=",
            FACTOR,
            kind="regression",
            source=f"gaps {MIXTURE_GAPS}",
        ),
    ]


def judge_claims(arrays: Arrays) -> list[Claim]:
    """Continuity of one optimum and the jump of the other, exact."""
    best = np.argmax(arrays["scores"], axis=-1)
    middle = int(np.searchsorted(judges.EPS, 0.0))
    across = np.abs(arrays["nash"][middle] - arrays["nash"][middle - 1])
    greedy = np.eye(arrays["scores"].shape[-1])[best]
    flip = np.abs(greedy[middle] - greedy[middle - 1])
    return [
        Claim(
            "three types of judge: change of the Nash policy across eps = 0",
            across.max(),
            "<=",
            0.01,
            kind="paper",
            source="Nash policies change continuously, Bradley-Terry optima jump",
            baseline=("Bradley-Terry optimum", flip.max()),
        )
    ]
