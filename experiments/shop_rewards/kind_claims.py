"""What is claimed of single kinds, each against the scalar head or a variant that must fail."""

import numpy as np

from experiments.shop_rewards.findings import (
    SHARED,
    SINGLE,
    WRONG,
    Findings,
    competent,
)
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim

SERVED = 0.6
FEATURES_TENTH = "features, a tenth of the pairs"


def curation_claims(found: Findings, size: str) -> list[Claim]:
    """Curation beats raw pairs where the marks point the wrong way."""
    if not competent(found, "spurious", "curated", SINGLE):
        return []
    raw, curated = (found.each("spurious", name, "shifted") for name in (SINGLE, "curated"))
    baseline = None
    if ("spurious", SHARED) in found.numbers:
        other = found.each("spurious", SHARED, "shifted")
        baseline = ("several heads on the raw pairs", float((other - raw).mean()))
    return [
        mean_claim(
            f"curated, {size}, spurious: accuracy on shifted pairs less that of the raw pairs",
            curated - raw,
            ">",
            0.0,
            kind="paper",
            source="Liu et al. 2025 (Skywork-Reward-V2), Section 5: curated data beat as many raw",
            baseline=baseline,
        )
    ]


def user_claims(found: Findings) -> list[Claim]:
    """The minority is served, and not by Bradley-Terry."""
    if not found.users:
        return []
    mine, other = (
        np.array([one[model]["minority"] for one in found.users])
        for model in ("users", "Bradley-Terry")
    )
    return [
        mean_claim(
            "users (VPL), two opposite tastes: accuracy for new users of the minority",
            mine,
            ">=",
            SERVED,
            kind="ours",
            source="the gate, asked of the minority; one reward for all can serve one taste only",
            baseline=("Bradley-Terry", float(other.mean())),
        )
    ]


def feature_claims(found: Findings, size: str) -> list[Claim]:
    """A tenth of the pairs is enough for a few named features."""
    if not competent(found, "clean", FEATURES_TENTH, SINGLE):
        return []
    raw, mine, wrong = (
        found.each("clean", name, "accuracy") for name in (SINGLE, FEATURES_TENTH, WRONG)
    )
    return [
        mean_claim(
            f"named features from a tenth of {size}, clean: held-out accuracy less that of a "
            "scalar head on all",
            mine - raw,
            ">=",
            0.0,
            kind="paper",
            source="Nath et al. 2024: named features need a fraction of the comparisons",
            baseline=("features that say nothing, all pairs", float((wrong - raw).mean())),
        )
    ]
