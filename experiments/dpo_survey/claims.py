"""What dpo_survey claims, from policy -> metric -> [C, N]; bandits are the units."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from experiments.dpo_survey.config import Config
from experiments.dpo_survey.worlds import conditions
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim

Numbers = Mapping[str, Mapping[str, np.ndarray]]
SPEC = "run of the same design in NumPy"
RESCALED = ("cDPO", "rDPO", "IPO")  # other links of the margin of DPO


def all_claims(config: Config, numbers: Numbers) -> list[Claim]:
    """In the order of the page."""
    claims = [
        *clean_claims(config, numbers),
        *noise_claims(config, numbers),
        *order_claims(config, numbers),
        *length_claims(config, numbers),
        *excess_claims(config, numbers),
    ]
    size = f"{config.num_seeds} bandits"
    return [replace(claim, statement=f"{claim.statement}, {size}") for claim in claims]


def of(config: Config, numbers: Numbers, name: str, metric: str, condition: str) -> np.ndarray:
    """[N] of one policy under one condition."""
    return numbers[name][metric][list(conditions(config)).index(condition)]


def clean_claims(config: Config, numbers: Numbers) -> list[Claim]:
    """DPO on many right labels."""
    metric, condition = "KL from the optimum", "clean, many"
    return [
        mean_claim(
            f"DPO, {config.many} clean pairs: KL(pi* || pi)",
            of(config, numbers, "DPO", metric, condition),
            "<=",
            0.02,
            kind="theorem",
            source="the population minimiser of DPO is pi_ref exp(r / beta) / Z",
            baseline=("SimPO", of(config, numbers, "SimPO", metric, condition).mean()),
        )
    ]


def noise_claims(config: Config, numbers: Numbers) -> list[Claim]:
    """Gains from flipped labels, beside the optimum of right ones."""

    def gain(name: str) -> np.ndarray:
        return of(config, numbers, name, "gain", "flips")

    flips = f"{config.some} pairs, {100 * config.flip_rate:.0f}% flipped"
    lead = gain("rDPO") - gain("optimum")
    known = {"kind": "theorem", "source": "rDPO is unbiased under flips; the width: " + SPEC}
    return [
        mean_claim(
            f"rDPO, {flips}: gain less that of the optimum, at least",
            lead,
            ">=",
            -0.08,
            baseline=("DPO", (gain("DPO") - gain("optimum")).mean()),
            **known,
        ),
        mean_claim(
            f"rDPO, {flips}: gain less that of the optimum, at most",
            lead,
            "<=",
            0.08,
            baseline=("the best answer always", (gain("greedy") - gain("optimum")).mean()),
            **known,
        ),
        mean_claim(
            f"DPO, {flips}: gain",
            gain("DPO"),
            "<=",
            0.6,
            kind="ours",
            source=f"shrunk margins; {SPEC}: 0.41 of 0.90",
            baseline=("rDPO", gain("rDPO").mean()),
        ),
    ]


def order_claims(config: Config, numbers: Numbers) -> list[Claim]:
    """Corrections for noise rescale the margins and leave their order."""

    def accuracy(name: str) -> np.ndarray:
        return of(config, numbers, name, "accuracy", "flips")

    def largest(*columns: np.ndarray) -> float:
        dpo, *others = (column.mean() for column in columns)
        return float(max(abs(other - dpo) for other in others))

    return [
        bootstrap_claim(
            f"{config.some} pairs, {100 * config.flip_rate:.0f}% flipped: largest distance of the "
            f"ranking accuracy of {', '.join(RESCALED)} from that of DPO",
            largest,
            [accuracy(name) for name in ("DPO", *RESCALED)],
            "<=",
            0.01,
            kind="ours",
            source=f"{SPEC}: 0.863 to 0.865",
            baseline=("SFT", largest(accuracy("DPO"), accuracy("SFT"))),
        )
    ]


def length_claims(config: Config, numbers: Numbers) -> list[Claim]:
    """Labellers who like long answers."""

    def found(name: str, metric: str) -> np.ndarray:
        return of(config, numbers, name, metric, "length")

    biased = f"{config.many} pairs, labels biased by {config.length_bias:g} a token"
    kl, drift = "KL from the optimum", "drift"
    shares = found("SimPO", drift) - 0.5 * found("DPO", drift)
    return [
        mean_claim(
            f"R-DPO at the price {config.length_price:g} of a token, {biased}: KL(pi* || pi)",
            found("R-DPO", kl),
            "<=",
            0.03,
            kind="theorem",
            source="the price takes the bias out of the Bradley-Terry labels",
            baseline=("DPO", found("DPO", kl).mean()),
        ),
        mean_claim(
            f"DPO, {biased}: tokens by which answers lengthen",
            found("DPO", drift),
            ">=",
            1.0,
            kind="ours",
            source=f"{SPEC}: 1.71",
            baseline=("R-DPO", found("R-DPO", drift).mean()),
        ),
        mean_claim(
            f"SimPO, {biased}: tokens by which answers lengthen, less half of DPO's",
            shares,
            "<=",
            0.0,
            kind="ours",
            source=f"log-probs per token discount length; {SPEC}: 0.25 of 1.71",
            baseline=("DPO", 0.5 * found("DPO", drift).mean()),
        ),
    ]


def excess_claims(config: Config, numbers: Numbers) -> list[Claim]:
    """KTO gains more than the optimum by going too far."""

    def lead(name: str, metric: str) -> np.ndarray:
        found, best = (of(config, numbers, x, metric, "clean, many") for x in (name, "optimum"))
        return found - best

    about = {"kind": "ours", "source": f"{SPEC}: over-optimisation, not superiority"}
    return [
        mean_claim(
            f"KTO at z0 = 0, {config.many} clean pairs: {metric} above the optimum's",
            lead("KTO", metric),
            ">",
            0.0,
            baseline=("hinge", lead("hinge", metric).mean()),
            **about,
        )
        for metric in ("gain", "KL to the reference")
    ]
