"""Claims of pairwise_rl, from the arrays of its stages."""

from collections.abc import Mapping

import numpy as np

from experiments.pairwise_rl.config import Config
from experiments.pairwise_rl.judges import MEASURES, TRAINED
from experiments.pairwise_rl.optimise import at_budget, exact_at_budget
from experiments.pairwise_rl.strings import MODELS
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim

Arrays = Mapping[str, np.ndarray]
SPEC = "acceptance of this design, from a NumPy run of it"
TWO, MARGIN, CALIBRATED = "two orders", "two orders, margin", "calibrated score"
SHIFTED, SCALED = "shifted score", "shifted and scaled score"


def all_claims(config: Config, stages: Mapping[str, Arrays]) -> list[Claim]:
    """Every claim, stage by stage."""
    return [
        *budget_claims(config, stages["bandit"]),
        *baseline_claims(config, stages["bandit"]),
        *order_claims(config, stages["bandit"], stages["judges"]),
        *string_claims(config, stages["strings"]),
    ]


def budget_claims(config: Config, bandit: Arrays) -> list[Claim]:
    """Win rates at the KL budget, without a baseline per prompt; the unit is a world."""
    wins = at_budget(config, bandit, "none")
    size = (
        f"{config.prompts} prompts, {config.answers} answers, {config.iterations} iterations of "
        f"PPO without a baseline per prompt, KL {config.budget:g}"
    )
    claims = []
    for other, gap, rival in ((SHIFTED, 0.01, SCALED), (SCALED, 0.025, SHIFTED)):
        lead, chance = wins[TWO] - wins[other], wins[rival] - wins[other]
        claims += [
            mean_claim(
                f"Win rate over the anchor, two orders minus {other}, {size}",
                lead,
                ">=",
                gap,
                kind="ours",
                source=SPEC,
                baseline=(rival, chance.mean()),
            ),
            Claim(
                f"Share of the worlds of this run where that lead is at least {gap:g}",
                np.mean(lead >= gap),
                "==",
                1.0,
                kind="ours",
                source=SPEC + ": all of five seeds",
                baseline=(rival, np.mean(chance >= gap)),
            ),
        ]
    away = np.abs(wins[TWO] - wins[CALIBRATED])
    claims.append(
        mean_claim(
            f"Win rate over the anchor, two orders away from {CALIBRATED}, {size}",
            away,
            "<=",
            0.006,
            kind="ours",
            source=SPEC,
            baseline=(SHIFTED, np.abs(wins[SHIFTED] - wins[CALIBRATED]).mean()),
        )
    )
    return claims


def baseline_claims(config: Config, bandit: Arrays) -> list[Claim]:
    """The suspected causes taken away: sampling, then shifts, by the other answers to a prompt."""
    wins, plain = (at_budget(config, bandit, name) for name in ("others", "none"))
    exact = exact_at_budget(bandit)
    size = f"the same with the mean of the other {config.group - 1} answers as a baseline"
    return [
        mean_claim(
            f"Win rate over the anchor, two orders minus {CALIBRATED}, exact optima of KL "
            f"{config.budget:g}",
            exact[TWO] - exact[CALIBRATED],
            ">",
            0.006,
            kind="ours",
            source="the tolerance above cannot be met: the win rate itself is the pairwise reward",
            baseline=(MARGIN, np.mean(exact[MARGIN] - exact[CALIBRATED])),
        ),
        mean_claim(
            f"Win rate over the anchor, {SHIFTED} away from {CALIBRATED}, {size}",
            np.abs(wins[SHIFTED] - wins[CALIBRATED]),
            "<=",
            0.006,
            kind="ours",
            source="a baseline per prompt removes shifts; the tolerance above",
            baseline=("no baseline", np.abs(plain[SHIFTED] - plain[CALIBRATED]).mean()),
        ),
        mean_claim(
            f"Win rate over the anchor, {MARGIN} minus {SCALED}, {size}",
            wins[MARGIN] - wins[SCALED],
            ">",
            0.006,
            kind="ours",
            source="a baseline per prompt removes no scale; the tolerance above",
            baseline=(f"over {SHIFTED}", np.mean(wins[MARGIN] - wins[SHIFTED])),
        ),
        mean_claim(
            f"Win rate over the anchor, {MARGIN} away from {CALIBRATED}, {size}",
            np.abs(wins[MARGIN] - wins[CALIBRATED]),
            "<=",
            0.006,
            kind="ours",
            source="the margin is the score less the anchor's, a shift; the tolerance above",
            baseline=(TWO, np.abs(wins[TWO] - wins[CALIBRATED]).mean()),
        ),
    ]


def order_claims(config: Config, bandit: Arrays, judges: Arrays) -> list[Claim]:
    """What asking in both orders, and training on both, is worth."""
    errors, column = bandit["errors"], MEASURES.index
    size = f"{config.judges.pairs} labels with a bias of deviation {config.bias:g}"
    gain = {
        name: x[:, column("two orders")] - x[:, column("one order")] for name, x in judges.items()
    }
    bias = {name: x[:, column("bias")] for name, x in judges.items()}
    return [
        Claim(
            f"Error of P by the mean margin of two orders, judge with bias {config.bias:g}",
            errors[:, 2].max(),
            "<=",
            1e-5,
            kind="theorem",
            source="a bias that is added to both margins cancels; float32 rounding",
            baseline=("mean of two probabilities", errors[:, 1].mean()),
        ),
        mean_claim(
            f"Accuracy, two orders minus one, table fitted to {size} in the order shown",
            gain[TRAINED[0]],
            ">=",
            0.1,
            kind="ours",
            source="half of what this bias costs one order, arctan(1 / sqrt(2)) / pi = 0.20",
            baseline=("fitted in both orders", gain[TRAINED[2]].mean()),
        ),
        mean_claim(
            f"Mean |bias| in nats, table fitted to {size} in both orders",
            bias[TRAINED[2]],
            "<=",
            0.01,
            kind="theorem",
            source="the loss over both orders is even and convex in the bias: 0 is its minimum",
            baseline=("fitted in the order shown", bias[TRAINED[0]].mean()),
        ),
    ]


def string_claims(config: Config, strings: Arrays) -> list[Claim]:
    """The verdict of a transformer beside a scalar head on the same trunk and pairs.

    The judge reads both answers in both orders, so that it is also compared on as many tokens.
    """
    sizes, found = config.strings, strings["accuracy"]
    judge, *scores = (found[:, :, i] for i in (0, 2, 3))
    return [
        mean_claim(
            f"Accuracy on held-out pairs, verdict minus {name}, {size} training pairs, "
            f"{sizes.steps} steps of {sizes.batch} pairs, transformer of width {sizes.width}",
            judge[:, i] - score[:, i],
            ">",
            0.0,
            kind="paper",
            source="abstract: generative pairwise models are better reward models",
            baseline=("a coin", np.mean(0.5 - score[:, i])),
        )
        for name, score in zip(MODELS[2:], scores, strict=True)
        for i, size in enumerate(sizes.sizes)
    ]
