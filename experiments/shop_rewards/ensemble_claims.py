"""What is claimed of ensembles: less gold is lost, fewer errors are shared on separate trunks."""

import numpy as np

from experiments.shop_rewards.findings import OTHER, SINGLE, Findings, competent
from experiments.shop_rewards.policies import fall
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim

CONSERVATIVE = ("WCO", "UWO")
COSTE = "Coste et al. 2023, Section 5: WCO and UWO lose less than one model, also with wrong labels"


def best_of_claims(found: Findings, size: str) -> list[Claim]:
    """Gold of the best of all answers, under wrong labels, against the single model."""
    claims = []
    for reading in CONSERVATIVE:
        if not competent(found, "flipped", reading, SINGLE, OTHER):
            continue
        single, other, mine = (
            found.each("flipped", name, "best_of")[:, -1] for name in (SINGLE, OTHER, reading)
        )
        n = 2 ** (found.each("flipped", reading, "best_of").shape[1] - 1)
        claims.append(
            mean_claim(
                f"{reading} of separate trunks, {size}, flipped: gold of the best of {n} less that "
                "of a single model",
                mine - single,
                ">",
                0.0,
                kind="paper",
                source=COSTE,
                baseline=("another single model", float((other - single).mean())),
            )
        )
    return claims


def fall_claims(found: Findings, size: str) -> list[Claim]:
    """How much less gold falls under GRPO than on the single model."""
    claims = []
    for reading in CONSERVATIVE:
        names = (SINGLE, OTHER, reading)
        if any(name not in found.policies for name in names) or not competent(
            found, "flipped", *names
        ):
            continue
        single, other, mine = (
            np.array([fall(path.gold) for path in found.policies[name]]) for name in names
        )
        claims.append(
            mean_claim(
                f"GRPO on {reading} of separate trunks, {size}, flipped: fall of gold from its "
                "peak on a single model less that on it",
                single - mine,
                ">",
                0.0,
                kind="paper",
                source=COSTE,
                baseline=("another single model", float((single - other).mean())),
            )
        )
    return claims


def error_claims(found: Findings, size: str) -> list[Claim]:
    """Members on one trunk share more of their errors."""
    if not {"separate", "shared"} <= {*found.errors}:
        return []
    separate, shared, halves = (
        np.array(found.errors[name]) for name in ("separate", "shared", "halves")
    )
    return [
        mean_claim(
            f"{size}, flipped: correlation of two members' errors on a shared trunk less that on "
            "separate trunks",
            shared - separate,
            ">",
            0.0,
            kind="ours",
            source="heads read one vector of the answer, separate trunks as many as there are",
            baseline=("one pair of separate members less another", float(halves.mean())),
        )
    ]
