"""What regret_preference claims; the unit is a board."""

import numpy as np

from experiments.regret_preference.config import Config
from experiments.regret_preference.learners import LABELS, MODELS
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim, share_claim

NEAR = 0.9  # scaled return from which a policy is near-optimal
FEW = 300  # pairs up to which partial return is claimed to fail


def board_claims(config: Config, scores: dict) -> list[Claim]:
    """Labels from regret: who is near-optimal how often. scores: [boards, source, labels, size].

    What must fail is the other learner in the claimed one's place: the same pairs, labels and
    optimiser.
    """
    regret, partial_return = (scores[model][:, 0] for model in MODELS)
    about = {"kind": "ours", "source": "synthetic labels; threshold from trials"}
    claims = []
    for j, labels in enumerate(LABELS):
        for i, size in enumerate(config.sizes):
            ours, theirs = regret[:, j, i], partial_return[:, j, i]
            name = f"{size} {labels} labels"
            claims += [
                share_claim(
                    f"{name}: boards where regret > {NEAR}",
                    ours > NEAR,
                    ">=",
                    0.95,
                    baseline=("partial return", np.mean(theirs > NEAR)),
                    **about,
                ),
                share_claim(
                    f"{name}: boards regret loses",
                    theirs > ours + 0.01,
                    "<=",
                    0.05,
                    baseline=("partial return", np.mean(ours > theirs + 0.01)),
                    **about,
                ),
            ]
            if size <= FEW:
                claims.append(
                    share_claim(
                        f"{name}: boards where partial return > {NEAR}",
                        theirs > NEAR,
                        "<=",
                        0.85,
                        baseline=("regret", np.mean(ours > NEAR)),
                        **about,
                    )
                )
    return [*claims, *converse_claims(config, scores)]


def converse_claims(config: Config, scores: dict) -> list[Claim]:
    """Labels from partial return: its own model is ahead, as regret is under its own labels."""
    regret, partial_return = (scores[model][..., -1] for model in MODELS)
    lead = partial_return - regret  # [boards, source, labels]
    return [
        mean_claim(
            f"converse, {config.sizes[-1]} {labels} labels of partial return: lead of partial "
            "return over regret, mean scaled return",
            lead[:, 1, j],
            ">",
            0.0,
            kind="ours",
            source="the model that labels learns best",
            baseline=("labels of regret", lead[:, 0, j].mean()),
        )
        for j, labels in enumerate(LABELS)
    ]
