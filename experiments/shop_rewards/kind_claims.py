"""What is claimed of single kinds, each against the scalar head or a variant that must fail."""

import numpy as np

from experiments.shop_rewards.curve import NAMED, TEXT
from experiments.shop_rewards.density import DENSE, SUM
from experiments.shop_rewards.findings import (
    SINGLE,
    UNNORMALISED,
    WRONG,
    Findings,
    competent,
)
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim

SERVED, PAID = 0.6, 0.2
CORRECTIONS = "corrections"
FEATURES_TENTH = "features, a tenth of the pairs"


def curation_claims(found: Findings, size: str, rho: float) -> list[Claim]:
    """Curation beats raw pairs where the marks point the wrong way.

    The gate is asked of the curated model alone: that the raw one reads marks and nothing else is
    what the claim is about.
    """
    if ("spurious", SINGLE) not in found.numbers or not competent(found, "spurious", "curated"):
        return []
    raw, curated = (found.each("spurious", name, "shifted") for name in (SINGLE, "curated"))
    marks = 0.5 * (1.0 - rho)  # of shifted pairs that more marks put in the right order
    return [
        mean_claim(
            f"curated, {size}, spurious: accuracy on shifted pairs less that of the raw pairs",
            curated - raw,
            ">",
            0.0,
            kind="paper",
            source="Liu et al. 2025 (Skywork-Reward-V2), Section 5: curated data beat as many raw",
            baseline=("a count of the marks", float(marks - raw.mean())),
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


def curve_claims(found: Findings, size: str) -> list[Claim]:
    """Whether trained weights beat untrained ones, and whether the text overtakes the features."""
    if not found.curves:
        return []
    text, named = (
        np.array([curve.accuracies[name] for curve in found.curves]) for name in (TEXT, NAMED)
    )
    untrained = np.array([curve.untrained for curve in found.curves])
    fewest = found.curves[0].sizes[TEXT][0]
    few = [
        curve.accuracies[NAMED][list(curve.sizes[NAMED]).index(fewest)] for curve in found.curves
    ]
    wrong = found.each("clean", WRONG, "accuracy")
    return [
        mean_claim(
            f"named features on all of {size}, clean: held-out accuracy less that of their "
            "untrained mean",
            named[:, -1] - untrained,
            ">",
            0.0,
            kind="ours",
            source="weights that pairs do not improve need no pairs",
            baseline=("features that say nothing", float((wrong - untrained).mean())),
        ),
        mean_claim(
            f"crossover: scalar head less named features, both on all of {size}, clean: held-out "
            "accuracy",
            text[:, -1] - named[:, -1],
            ">=",
            0.0,
            kind="ours",
            source="noise of the ratings sets a ceiling, which a head that reads the text has not",
            baseline=(f"both from {fewest} pairs", float((text[:, 0] - few).mean())),
        ),
    ]


def length_claims(found: Findings, size: str) -> list[Claim]:
    """Correction rewards do not pay for length once they are divided by it."""
    if not competent(found, "flipped", CORRECTIONS):
        return []
    mine, sums = (found.each("flipped", name, "length") for name in (CORRECTIONS, UNNORMALISED))
    return [
        mean_claim(
            f"corrections divided by length, {size}, flipped: rank correlation with length within "
            "prompts of the pool, less that of gold",
            mine,
            "<=",
            PAID,
            kind="ours",
            source="a reward that pays for length sorts answers by it; gold itself may like some",
            baseline=("the same rewards, not divided", float(sums.mean())),
        )
    ]


def density_claims(found: Findings, size: str) -> list[Claim]:
    """Rewards of spans teach a policy faster where they are earned than as one sum.

    Both arms earn the same reward, right or wrong about gold, so its gate is not asked.
    """
    if not found.density:
        return []
    dense, end = (np.array([arms[name].mean() for arms in found.density]) for name in (DENSE, SUM))
    before = np.array([arms[SUM][0] for arms in found.density])
    return [
        mean_claim(
            f"PPO on spans, {size}, flipped: mean return over training, paid by sentence, less "
            "that of the same rewards summed at the end",
            dense - end,
            ">",
            0.0,
            kind="paper",
            source="Wu et al. 2023, Section 3: denser rewards of equal return learn faster",
            baseline=("the policy before training", float((before - end).mean())),
        )
    ]
