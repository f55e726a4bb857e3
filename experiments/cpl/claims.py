"""What cpl claims of its curves [grids, sizes], where the unit is a grid, and of the control panel,
where it is a seed: an agent with the data and the learners of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.cpl.config import Config
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim
from rlhf_jax.reports.rates import Rate, fit_rate

FROM = 1000  # pairs from which the slope is taken
CUT_SIZES = slice(-3, -1)


def kl_rate(config: Config, kl: np.ndarray) -> Rate:
    """Slope of log KL on log pairs, from FROM on, or over the last three sizes where needed."""
    start = min(FROM, config.sizes[-3])
    return fit_rate(config.sizes, kl, law="power", start=start)


def all_claims(config: Config, results: dict, rate: Rate) -> list[Claim]:
    """The rate, the return with enough data, who beats whom, when the bias helps, and what cutting
    the segments at the goal gives to partial returns. The unit is a grid."""
    scaled = {name: each["scaled"] for name, each in results.items()}
    cpl, others = scaled["CPL"], ("SFT on preferred", "partial return + soft VI")
    lead = cpl - np.maximum(*(scaled[name] for name in others))
    enough, few = (int(np.argmin(np.abs(np.asarray(config.sizes) - n))) for n in (10_000, 300))
    planned, last_cut = others[1], config.sizes[CUT_SIZES][-1]
    slope: dict[str, Any] = {
        "kind": "ours",
        "source": "trial: 1 / N",
        "interval": (rate.low, rate.high),
    }
    paper: dict[str, Any] = {"kind": "paper", "source": "CPL finds pi* without a reward"}
    own = {"kind": "ours", "source": "cause of the failure of partial returns removed"}
    return [
        *Claim.within("CPL: slope of log KL in log pairs", rate.slope, -1.25, -0.85, **slope),
        mean_claim(
            f"CPL, {config.sizes[enough]} pairs: mean scaled return",
            cpl[:, enough],
            ">=",
            0.95,
            baseline=("SFT on preferred", scaled[others[0]][:, enough].mean()),
            **paper,
        ),
        *(
            Claim(
                f"CPL less the better of SFT and partial return, {size} pairs: worst grid",
                each.min(),
                ">",
                0.0,
                **paper,
            )
            for size, each in zip(config.sizes, lead.T, strict=True)
        ),
        mean_claim(
            f"CPL with bias 0.5 less CPL, {config.sizes[few]} pairs: mean scaled return",
            (scaled["CPL, bias 0.5"] - cpl)[:, few],
            ">",
            0.0,
            kind="paper",
            source="the bias is for little data",
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


PAPERS_CPL = "CPL, bias 0.5"


def control_claims(
    world: str, names: Sequence[str], found: Mapping[str, np.ndarray]
) -> list[Claim]:
    """What the paper says of CPL, of its cost too, on one world; and whether the labels know.

    Args:
      names: of the methods, P-IQL at every beta last.
      found: success and seconds [methods, seeds], parameters [methods] and facts [seeds].
    """
    success = dict(zip(names, found["success"], strict=True))
    seconds = dict(zip(names, found["seconds"], strict=True))
    counts = dict(zip(names, found["parameters"], strict=True))
    rivals = [name for name in names if name.startswith("P-IQL")]
    best = max(rivals, key=lambda name: success[name].mean())  # tuned on what is measured
    cloned = success["BC"]
    table: dict[str, Any] = {"kind": "paper", "source": "Table 1, state, 2.5k dense"}
    cost: dict[str, Any] = {"kind": "paper", "source": "cost against P-IQL"}

    def ratio(slow: np.ndarray, fast: np.ndarray) -> float:
        return float(slow.mean() / fast.mean())

    return [
        mean_claim(
            f"{world}: success of the agent that labels",
            found["expert_success"],
            ">=",
            0.9,
            kind="ours",
            source="a critic of an agent that fails knows no regret",
            baseline=("the agents of the segments", found["seen_success"].mean()),
        ),
        *(
            mean_claim(
                f"{world}: success of {PAPERS_CPL}, less that of {rival}",
                success[PAPERS_CPL] - success[rival],
                ">",
                0.0,
                baseline=("BC less it", (cloned - success[rival]).mean()),
                **table,
            )
            for rival in ("SFT", best)
        ),
        bootstrap_claim(
            f"{world}: processor seconds of {rivals[0]} over those of {PAPERS_CPL}",
            ratio,
            (seconds[rivals[0]], seconds[PAPERS_CPL]),
            ">=",
            1.6,
            baseline=("CPL-KL over it", ratio(seconds["CPL-KL"], seconds[PAPERS_CPL])),
            **cost,
        ),
        Claim(
            f"{world}: trained parameters of P-IQL over those of CPL",
            counts[best] / counts[PAPERS_CPL],
            ">=",
            3.5,  # "4x" as a rounded number
            baseline=("CPL-KL over it", counts["CPL-KL"] / counts[PAPERS_CPL]),
            **cost,
        ),
    ]
