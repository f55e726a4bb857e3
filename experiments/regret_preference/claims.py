"""What is claimed of both learners on boards and lotteries, and what must fail each claim."""

from collections.abc import Mapping

import numpy as np

from experiments.regret_preference.config import Config
from experiments.regret_preference.learners import LABELS, MODELS
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import (
    mean_claim,
    mean_interval,
    near_end,
    share_claim,
    share_interval,
)

# Model -> scaled returns [boards, labels, size] on labels of regret. "<model>, converse" ->
# [boards, labels] on the most labels of partial returns.
Scores = Mapping[str, np.ndarray]
NEAR = 0.9  # scaled return from which a policy is near-optimal
FEW = 300  # pairs up to which partial return is claimed to fail
BEHIND = 0.01  # of scaled return: less is no loss


def board_claims(config: Config, scores: Scores) -> list[Claim]:
    """Labels from regret: who is near-optimal how often. The other learner must fail each claim."""
    regret, partial_return = (scores[model] for model in MODELS)
    about = {"kind": "ours", "source": "synthetic labels; threshold from trials"}
    claims = []
    for j, labels in enumerate(LABELS):
        for i, size in enumerate(config.sizes):
            ours, theirs = regret[:, j, i], partial_return[:, j, i]
            name = f"{size} {labels} labels"
            near, loses = share_interval(theirs > NEAR), share_interval(ours > theirs + BEHIND)
            claims += [
                share_claim(
                    f"{name}: boards where regret > {NEAR}",
                    ours > NEAR,
                    ">=",
                    0.95,
                    baseline=near_end("partial return", near, ">="),
                    **about,
                ),
                share_claim(
                    f"{name}: boards regret loses",
                    theirs > ours + BEHIND,
                    "<=",
                    0.05,
                    baseline=near_end("boards partial return loses", loses, "<="),
                    **about,
                ),
            ]
            if size <= FEW:
                kept = share_interval(ours > NEAR)
                claims.append(
                    share_claim(
                        f"{name}: boards where partial return > {NEAR}",
                        theirs > NEAR,
                        "<=",
                        0.85,
                        baseline=near_end("regret", kept, "<="),
                        **about,
                    )
                )
    return claims


def lead(scores: Scores, noisy: int, *, converse: bool) -> np.ndarray:
    """[boards] 1 where regret alone is near-optimal with the most pairs, -1 where partial return
    alone is."""
    found = [
        scores[f"{model}, converse"][:, noisy] if converse else scores[model][:, noisy, -1]
        for model in MODELS
    ]
    return (found[0] > NEAR).astype(float) - (found[1] > NEAR)


def converse_claim(config: Config, scores: Scores) -> Claim:
    """Labels with noise from partial return, most pairs: the model that labels is ahead again."""
    noisy = LABELS.index("logistic")
    return mean_claim(
        f"{config.sizes[-1]} logistic labels of partial return: share of boards > {NEAR}, "
        "partial return less regret",
        -lead(scores, noisy, converse=True),
        ">",
        0,
        kind="ours",
        source="the matching model is identified with noise",
        baseline=near_end(
            "labels of regret", mean_interval(-lead(scores, noisy, converse=False)), ">"
        ),
    )


def best_strength(near: np.ndarray) -> np.ndarray:
    """[boards] whether the plan is near-optimal at the best strength in hindsight; near [boards,
    strengths]."""
    return near[:, near.mean(0).argmax()]


def rival_claims(config: Config, scores: Scores, priors: Mapping) -> list[Claim]:
    """Regret against partial return with a prior whose strength is tuned on the same boards."""
    noisy = LABELS.index("logistic")
    converse = near_end(
        f"{config.sizes[-1]} logistic labels of partial return",
        mean_interval(lead(scores, noisy, converse=True)),
        ">",
    )
    claims = []
    for prior in ("ridge", "the boards' law"):
        for j, labels in enumerate(LABELS):
            for i, size in enumerate(config.sizes):
                rival = best_strength(priors[prior][:, j, i] > NEAR)
                ours = scores[MODELS[0]][:, j, i] > NEAR
                claims.append(
                    mean_claim(
                        f"{size} {labels} labels: share of boards > {NEAR}, regret less partial "
                        f"return with {prior} as its prior",
                        ours.astype(float) - rival,
                        ">",
                        0,
                        kind="ours",
                        source="tuned rival: the best of its strengths, known only in hindsight",
                        baseline=converse,
                    )
                )
    return claims


def lottery_claims(config: Config, scores: Scores) -> list[Claim]:
    """Boards on which what is better is decided by odds. scores: [boards, labels]."""
    near = {
        (name, labels): values[:, j] > NEAR
        for name, values in scores.items()
        for j, labels in enumerate(LABELS)
    }
    about = {"kind": "paper", "source": "Knox et al., stochastic MDPs; threshold as on boards"}
    claims = [
        share_claim(
            f"lotteries, {config.lottery_pairs} {labels} labels: boards where regret > {NEAR}",
            near["regret", labels],
            ">=",
            0.95,
            baseline=near_end(
                "partial return", share_interval(near["partial return", labels]), ">="
            ),
            **about,
        )
        for labels in LABELS
    ]
    own = near["partial return, converse", "noiseless"]
    return [
        *claims,
        share_claim(
            f"lotteries, {config.lottery_pairs} noiseless labels of partial return: boards where "
            f"partial return > {NEAR}",
            own,
            "<=",
            0.85,
            baseline=near_end(
                "regret on labels of regret",
                share_interval(near["regret", "noiseless"]),
                "<=",
            ),
            **about,
        ),
    ]
