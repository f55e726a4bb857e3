"""What rlbff claims, from the numbers of its four studies."""

from collections.abc import Mapping

import numpy as np

from experiments.rlbff.config import Config
from experiments.rlbff.shop import AS_WELL, REWARDS
from experiments.rlbff.toy import CONSENSUS, SIZES
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim, mean_interval

Arrays = Mapping[str, np.ndarray]
SPEC = "the numbers reported for this toy"
BEST = SIZES.index(16)


def all_claims(config: Config, stages: Mapping[str, Arrays]) -> list[Claim]:
    """In the order of the page."""
    return [
        *principle_claims(config, stages["principles"]),
        *offset_claims(config, stages["offsets"]),
        *chosen_claims(config, stages["principles"]),
        *consensus_claims(config, stages["consensus"]),
        *shop_claims(config, stages["shop"]),
    ]


def principle_claims(config: Config, found: Arrays) -> list[Claim]:
    """Per principle far ahead, on the average no difference, and calibrated."""
    size = f"{config.items} items on {config.principles} principles"
    gap, blind = (
        found[f"accuracy/{name}"] - found["accuracy/Bradley-Terry"]
        for name in ("entailment", "principle-blind")
    )
    average = found["average/entailment"] - found["average/Bradley-Terry"]
    return [
        Claim(
            f"Entailment minus Bradley-Terry, {size}: accuracy on the queried principle, worst "
            f"of {config.num_seeds} seeds",
            gap.min(),
            ">=",
            0.25,
            kind="ours",
            source=f"{SPEC}: at least 0.25 in 10 of 10 seeds",
            baseline=("principle-blind cross-entropy minus Bradley-Terry", blind.mean()),
        ),
        *Claim.within(
            f"Entailment minus Bradley-Terry, {size}: accuracy on the average of all principles",
            average.mean(),
            -0.02,
            0.02,
            kind="ours",
            source=f"{SPEC}: within 0.02",
            interval=mean_interval(average),
        ),
        mean_claim(
            f"Entailment, {size}: calibration error of sigmoid(r)",
            found["error/entailment"],
            "<=",
            0.03,
            kind="ours",
            source=f"{SPEC}: at most 0.03",
            baseline=("the head of another principle", found["error/another principle"].mean()),
        ),
    ]


def offset_claims(config: Config, found: Arrays) -> list[Claim]:
    """Scores of different prompts are comparable."""
    gaps = {
        name: found[f"area/{name}"] - found["area/Bradley-Terry"]
        for name in ("entailment", "prompt-blind")
    }
    return [
        mean_claim(
            f"Entailment minus Bradley-Terry, {config.offsets.prompts} prompts of different ease, "
            f"{config.items} items: area under the curve over all prompts",
            gaps["entailment"],
            ">=",
            0.10,
            kind="ours",
            source=f"{SPEC}: at least 0.10",
            baseline=("entailment that is not told the prompt", gaps["prompt-blind"].mean()),
        )
    ]


def chosen_claims(config: Config, found: Arrays) -> list[Claim]:
    """Best of 16 under a principle, or several, chosen at inference."""
    best = {
        name: found[f"best/{name}"][:, BEST]
        for name in ("entailment", "Bradley-Terry", "another principle")
    }
    least = {
        name: found[f"together/{name}"][:, BEST]
        for name in ("minimum of entailment", "mean of entailment", "Bradley-Terry")
    }
    return [
        mean_claim(
            "Best of 16 by entailment minus by Bradley-Terry: gold of the chosen principle",
            best["entailment"] - best["Bradley-Terry"],
            ">",
            0.0,
            kind="ours",
            source="a principle is chosen at inference; 0 is no gain",
            baseline=(
                "the head of another principle",
                np.mean(best["another principle"] - best["Bradley-Terry"]),
            ),
        ),
        mean_claim(
            f"Best of 16 by the minimum over {config.chosen} heads minus by their mean: gold of "
            "the principle that is served least",
            least["minimum of entailment"] - least["mean of entailment"],
            ">",
            0.0,
            kind="ours",
            source="min: all principles must hold; 0 is no gain",
            baseline=(
                "Bradley-Terry minus the mean",
                np.mean(least["Bradley-Terry"] - least["mean of entailment"]),
            ),
        ),
    ]


def consensus_claims(config: Config, found: Arrays) -> list[Claim]:
    """Two of three annotators is the best rule: less filtering and more are both worse."""
    accuracy = {name: found["accuracy"][:, i] for i, name in enumerate(CONSENSUS)}
    about = f"{config.wrong:.0%} of the feedback on a wrong principle, {config.items} items"
    chance = accuracy["as many as 2 of 3"]
    return [
        mean_claim(
            f"2 of 3 annotators minus {other}, {about}: accuracy on the queried principle",
            accuracy["2 of 3"] - accuracy[other],
            ">",
            0.0,
            kind="paper",
            source="ablation of the consensus threshold: 0.8 is better than 0.7 and 0.9",
            baseline=(
                "as many items drawn at random",
                np.mean(chance - accuracy["2 of 3" if other == "3 of 3" else other]),
            ),
        )
        for other in ("1 of 3", "3 of 3")
    ]


def shop_claims(config: Config, found: Arrays) -> list[Claim]:
    """From comments on shop answers to a reward under a chosen principle."""
    size = f"{config.shop.answers} answers with three comments each"
    best = {name: found["best"][:, i].mean(-1) for i, name in enumerate((*REWARDS, *AS_WELL))}
    told, blind = (
        best[name] - best["Bradley-Terry"] for name in ("entailment, agreed", "principle-blind")
    )
    return [
        mean_claim(
            f"Shop, {size}: share of invented points that the span check removes",
            found["removed/invented"],
            ">=",
            0.8,
            kind="ours",
            source="the check exists for them; threshold from trials",
            baseline=("points with a quote", found["removed/quoted"].mean()),
        ),
        mean_claim(
            f"Shop, {size}: right verdicts after consensus minus before",
            found["right/merged"] - found["right/checked"],
            ">=",
            0.05,
            kind="ours",
            source="what every annotator names is true more often; threshold from trials",
            baseline=(
                "the span check alone",
                np.mean(found["right/checked"] - found["right/extracted"]),
            ),
        ),
        mean_claim(
            f"Shop, best of {config.shop.pool} by entailment minus by Bradley-Terry, {size}: share "
            "that follows the chosen principle",
            told,
            ">",
            0.0,
            kind="ours",
            source="a principle is chosen at inference; 0 is no gain",
            baseline=("principle-blind cross-entropy minus Bradley-Terry", blind.mean()),
        ),
    ]
