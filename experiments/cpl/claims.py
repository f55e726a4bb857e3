"""What cpl claims of its curves [grids, sizes]; the unit is a grid."""

from dataclasses import replace
from typing import Any

import numpy as np

from experiments.cpl.config import Config
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim
from rlhf_jax.reports.rates import Rate, fit_rate

FROM = 1000  # pairs from which the slope is taken
CUT_SIZES = slice(-3, -1)


def kl_rate(config: Config, kl: np.ndarray) -> Rate:
    """Slope of log KL on log pairs, from FROM on, or over the last three sizes where needed."""
    start = min(FROM, config.sizes[-3])
    return fit_rate(config.sizes, kl, law="power", start=start)


def rate_claims(config: Config, results: dict, rate: Rate) -> tuple[Claim, Claim]:
    """The slope of log KL lies in a range; with the bias it is too flat."""
    about: dict[str, Any] = {
        "kind": "ours",
        "source": "trial: 1 / N",
        "interval": (rate.low, rate.high),
    }
    name = "CPL: slope of log KL in log pairs"
    least, most = Claim.within(name, rate.slope, -1.25, -0.85, **about)
    level = kl_rate(config, results["CPL, bias 0.5"]["kl"]).slope
    return least, replace(most, baseline=("bias 0.5", level))


def all_claims(config: Config, results: dict, rate: Rate) -> list[Claim]:
    """The rate, the return with enough data, who beats whom, when the bias helps, and what cutting
    the segments at the goal gives to partial returns. The unit is a grid."""
    scaled = {name: each["scaled"] for name, each in results.items()}
    cpl, others = scaled["CPL"], ("SFT on preferred", "partial return + soft VI")
    best = np.maximum(*(scaled[name] for name in others))
    lead, iql = cpl - best, scaled["P-IQL"] - best
    enough, few = (int(np.argmin(np.abs(np.asarray(config.sizes) - n))) for n in (10_000, 300))
    planned, last_cut = others[1], config.sizes[CUT_SIZES][-1]
    paper: dict[str, Any] = {"kind": "paper", "source": "CPL finds pi* without a reward"}
    own = {"kind": "ours", "source": "cause of the failure of partial returns removed"}
    return [
        *rate_claims(config, results, rate),
        mean_claim(
            f"CPL, {config.sizes[enough]} pairs: mean scaled return",
            cpl[:, enough],
            ">=",
            0.95,
            baseline=("SFT on preferred", scaled[others[0]][:, enough].mean()),
            **paper,
        ),
        *(
            mean_claim(
                f"CPL less the better of SFT and partial return on each grid, {size} pairs: mean",
                each,
                ">",
                0.0,
                baseline=("P-IQL", rival.mean()),
                **paper,
            )
            for size, each, rival in zip(config.sizes, lead.T, iql.T, strict=True)
        ),
        mean_claim(
            f"CPL with bias 0.5 less CPL, {config.sizes[few]} pairs: mean scaled return",
            (scaled["CPL, bias 0.5"] - cpl)[:, few],
            ">",
            0.0,
            kind="paper",
            source="the bias is for little data",
            baseline=("most pairs", (scaled["CPL, bias 0.5"] - cpl)[:, -1].mean()),
        ),
        mean_claim(
            f"{planned}, {last_cut} pairs cut at the goal: mean scaled return",
            scaled[f"{planned}, cut"][:, -1],
            ">=",
            0.95,
            baseline=("segments of one length", scaled[planned][:, enough].mean()),
            **own,
        ),
    ]
