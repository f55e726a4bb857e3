"""What heron claims; the unit is a seed."""

from collections.abc import Mapping

import numpy as np

from experiments.heron.config import Config
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim

Arrays = Mapping[str, np.ndarray]


def scale_claims(config: Config, arrays: Arrays) -> list[Claim]:
    """Part A: factor 2 in other units, over seeds."""
    usual, largest = config.scales.index(1.0), int(np.argmax(config.scales))

    def fall(chosen: np.ndarray) -> float:
        means = chosen[:, :, 0].mean(0)
        return float(1 - means[largest] / means[usual])

    # Seeds first: they are the units.
    summed, heron = (np.moveaxis(arrays[name], 1, 0) for name in ("weighted sum", "HERON"))
    return [
        bootstrap_claim(
            f"weighted sum, factor 2 times {config.scales[largest]:g}: relative fall of mean z1",
            fall,
            [summed],
            ">=",
            1.0,
            kind="paper",
            source="a weighted sum hangs on its units",
            baseline=("HERON", fall(heron)),
        )
    ]


def ranking_claims(config: Config, arrays: Arrays) -> list[Claim]:
    """Part B: the ranking decides, the margins trade. The worst sigma by its mean over seeds."""
    small = np.asarray(config.sigmas) <= 1
    chosen = arrays["chosen"]  # [rankings, sigmas, seeds, factors]
    leads = (chosen[..., 0] - chosen[..., 1])[:, small]
    steps = np.diff(chosen[0, :, :, 0], axis=0)
    about = {"kind": "ours", "source": "the tree decides by the first factor that differs enough"}
    return [
        mean_claim(
            "ranking 1, 2, 3: least lead of z1 over z2, of sigma <= 1",
            lowest(leads[0]),
            ">",
            0,
            baseline=("ranking 2, 1, 3", lowest(leads[1]).mean()),
            **about,
        ),
        mean_claim(
            "ranking 2, 1, 3: least lead of z2 over z1, of sigma <= 1",
            lowest(-leads[1]),
            ">",
            0,
            baseline=("ranking 1, 2, 3", lowest(-leads[0]).mean()),
            **about,
        ),
        mean_claim(
            "ranking 1, 2, 3: largest step of z1 from one sigma to the next",
            -lowest(-steps),
            "<",
            0,
            kind="ours",
            source="margins trade the first factor for the others",
            baseline=("ranking 2, 1, 3", -lowest(-np.diff(chosen[1, :, :, 0], axis=0)).mean()),
        ),
    ]


def lowest(values: np.ndarray) -> np.ndarray:
    """The row of [rows, seeds] with the least mean."""
    return values[values.mean(-1).argmin()]


def pendulum_claims(ends: Mapping[str, np.ndarray], untrained: np.ndarray) -> list[Claim]:
    """Part C: true returns [seeds] at the end of training. The first is the gate of the others:
    where nobody learns, everybody is close to everybody."""
    heron, truth = ends["HERON, odd unit"], ends["true reward"]
    paper = {"kind": "paper", "source": "as good as engineered rewards, robust to their scale"}
    return [
        mean_claim(
            "pendulum, true reward: mean true return",
            truth,
            ">=",
            -200,
            kind="ours",
            source="the task is learnt; 0 at best",
            baseline=("untrained", untrained.mean()),
        ),
        mean_claim(
            "pendulum, HERON in the odd unit: mean shortfall from the true reward",
            shortfall(truth, heron),
            "<=",
            0.15,
            baseline=("untrained", shortfall(truth, untrained).mean()),
            **paper,
        ),
        mean_claim(
            "pendulum: lead of HERON over the weighted sum, both in the odd unit",
            heron - ends["weighted sum, odd unit"],
            ">",
            0,
            baseline=("untrained", (untrained - ends["weighted sum, odd unit"]).mean()),
            **paper,
        ),
    ]


def standardised(beta: float) -> str:
    """What a standardised sum is called."""
    return f"standardised sum, beta {beta:g}, odd unit"


def rival_claims(ends: Mapping[str, np.ndarray], untrained: np.ndarray) -> list[Claim]:
    """Part C against the tuned rival, the best of the standardised sums by its mean over the same
    seeds, which favours it."""
    swept = {name: each for name, each in ends.items() if name.startswith("standardised")}
    rival = max(swept.values(), key=np.mean)
    heron, plain = ends["HERON, odd unit"], ends["weighted sum, odd unit"]
    return [
        mean_claim(
            "pendulum, odd unit: mean shortfall of HERON from the best standardised sum",
            shortfall(rival, heron),
            "<=",
            0.15,
            kind="ours",
            source="a ranking in place of tuned weights; the margin asked of the true reward",
            baseline=("untrained", shortfall(rival, untrained).mean()),
        ),
        mean_claim(
            "pendulum, odd unit: lead of HERON over the best standardised sum",
            heron - rival,
            ">",
            0,
            kind="paper",
            source="better than weighted sums, which are tuned",
            baseline=("weighted sum, odd unit", (plain - rival).mean()),
        ),
    ]


def shortfall(truth: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """Relative to training on the true reward, seed by seed; returns are negative."""
    return (truth - returns) / np.abs(truth)
