"""What shop_rewards claims. Seeds are the units of every interval: each has pairs of its own.

A reading that is not competent, below `GATE` on held-out pairs with clean labels, is not compared
by gold: its claims are left out, and its gate claim fails.
"""

from experiments.shop_rewards.config import Data
from experiments.shop_rewards.ensemble_claims import best_of_claims, error_claims, fall_claims
from experiments.shop_rewards.findings import CONTROLS, GATE, Findings, gate_form
from experiments.shop_rewards.kind_claims import (
    curation_claims,
    curve_claims,
    density_claims,
    feature_claims,
    length_claims,
    user_claims,
)
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim


def all_claims(found: Findings, data: Data) -> list[Claim]:
    """Gates first; then the comparisons of what passed."""
    size = f"{data.pairs} pairs"
    return [
        *gate_claims(found, size),
        *best_of_claims(found, size),
        *fall_claims(found, size),
        *error_claims(found, size),
        *curation_claims(found, size, data.rho),
        *user_claims(found),
        *feature_claims(found, size),
        *curve_claims(found, size),
        *length_claims(found, size),
        *density_claims(found, size),
    ]


def gate_claims(found: Findings, size: str) -> list[Claim]:
    """Each reading is right on enough held-out pairs."""
    readings = dict.fromkeys(name for _, name in found.numbers if name not in CONTROLS)
    return [
        mean_claim(
            f"{reading}, {size}, {form}: accuracy on held-out pairs with clean labels",
            found.each(form, reading, "accuracy"),
            ">=",
            GATE,
            kind="ours",
            source="the gate: a reward that cannot tell answers apart is not compared",
            baseline=("a coin", 0.5),
        )
        for reading, form in ((each, gate_form(found, each)) for each in readings)
    ]
