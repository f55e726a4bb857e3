"""What shop_nash claims, and the baseline that must fail each comparison.

Thresholds are relative to the exact regularised Nash policy of each prompt, or to 1/3, about the
exploitability of one voice. Intervals are over prompts; where a method has several training runs
the claim is about the worst of them.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from experiments.shop_nash.config import Config
from experiments.shop_nash.evaluate import Facts, Method
from experiments.shop_nash.world import exploitability, regularised_shares
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim, mean_interval, share_claim

PURE, MIXED, NEAR, BETTER, TURNS = 0.25, 0.1, 0.05, 0.05, 0.75
VOICED, LISTED = 0.95, 0.9
REGULAR = ("nash_mp", "nash_md", "egpo", "inpo")  # end near the regularised Nash policy
RANDOM_NAME = 0.1  # share of listed products among all names


class Gaps(NamedTuple):
    """What claims read of a method.

    last, average: [S, P, N] exploitability at each point, as of `Method`. turns: [S, N] of the last
    policy round the equilibrium, from SFT on.
    """

    label: str
    last: np.ndarray
    average: np.ndarray
    turns: np.ndarray

    def worst(self, *, average: bool = False) -> np.ndarray:
        """[N] at the end, of the run with the highest mean."""
        return self._run(average, sign=1)

    def best(self, *, average: bool = False) -> np.ndarray:
        """[N] at the end, of the run with the lowest mean."""
        return self._run(average, sign=-1)

    def _run(self, average: bool, *, sign: int) -> np.ndarray:
        ends = (self.average if average else self.last)[:, -1]
        return ends[int(np.argmax(sign * ends.mean(-1)))]


def runs(gaps: Gaps) -> str:
    """How many training runs, in words."""
    count = len(gaps.last)
    return "one training run" if count == 1 else f"each of {count} training runs"


def competence_claims(voiced: np.ndarray, listed: np.ndarray, untrained: float) -> list[Claim]:
    """The gate: SFT answers in a voice and names listed products.

    Args:
      voiced: [N] bool. listed: [M] bool, of recommendations. untrained: share of answers in a voice
        of the model before SFT.
    """
    gate = {"kind": "ours", "source": "a gate: the game needs a model that can play it"}
    return [
        share_claim(
            f"SFT: answers in one of the voices, {len(voiced)} held-out prompts",
            voiced,
            ">=",
            VOICED,
            baseline=("before SFT", untrained),
            **gate,
        ),
        share_claim(
            f"SFT: recommendations that name listed products only, {len(listed)} of them",
            listed,
            ">=",
            LISTED,
            baseline=("a name at random", RANDOM_NAME),
            **gate,
        ),
    ]


def purity_claim(rlhf: Gaps, fair: Gaps) -> Claim:
    """RLHF on Bradley-Terry scores ends with one voice."""
    return mean_claim(
        f"{rlhf.label}, {runs(rlhf)}: exploitability of the last policy",
        rlhf.best(),
        ">=",
        PURE,
        kind="theorem",
        source="the optimum of a score is one voice, whose exploitability is 0.32",
        baseline=(fair.label, fair.best().mean()),
    )


def cycle_claims(spo: Gaps, rlhf: Gaps, regular: Gaps) -> list[Claim]:
    """SPO without much KL: the last policy goes round, the average tends to the equilibrium."""
    return [
        mean_claim(
            f"{spo.label}, {runs(spo)}: turns of the last policy round the equilibrium",
            _lowest(spo.turns),
            ">=",
            TURNS,
            kind="theorem",
            source="SPO: self-play without KL is Hedge, the last policy of which goes round",
            baseline=(regular.label, regular.turns.mean(-1).max()),
        ),
        mean_claim(
            f"{spo.label}, {runs(spo)}: exploitability of the average policy",
            spo.worst(average=True),
            "<=",
            MIXED,
            kind="theorem",
            source="SPO: the average of no-regret play tends to the minimax winner",
            baseline=(f"{rlhf.label}, average", rlhf.best(average=True).mean()),
        ),
    ]


def _lowest(x: np.ndarray) -> np.ndarray:
    """[N] of the run with the lowest mean, from [S, N]."""
    return x[int(x.mean(-1).argmin())]


def regular_claim(gaps: Gaps, exact: np.ndarray, sft: np.ndarray) -> Claim:
    """A method with KL weight beta ends near the exact regularised Nash policy.

    Args:
      gaps: of the method. exact, sft: [N] exploitability of the regularised Nash policy at the same
        beta, and of the reference.
    """
    ends = gaps.last[:, -1] - exact
    run = int(np.abs(ends.mean(-1)).argmax())
    low, high = mean_interval(ends[run])
    # The interval of |mean|: it reaches 0 where the signed one has both signs.
    ends_of = (0.0 if low <= 0 <= high else min(abs(low), abs(high)), max(abs(low), abs(high)))
    return Claim(
        f"{gaps.label}, {runs(gaps)}: exploitability of the last policy, distance to that of "
        "the exact regularised Nash policy",
        abs(ends[run].mean()),
        "<=",
        NEAR,
        kind="theorem",
        source="the last policy tends to the regularised Nash policy",
        interval=ends_of,
        baseline=("SFT, which does not move", abs((sft - exact).mean())),
    )


def accuracy_claim(found: Mapping[str, np.ndarray]) -> Claim:
    """No score explains voices that go round, with any number of labels.

    Args:
      found: of `evaluate.accuracies`.
    """
    bayes = found["bayes"]
    return mean_claim(
        f"pairs in two voices: Bayes accuracy less the best Bradley-Terry score's, {bayes.size} "
        "held-out pairs",
        bayes - found["best_score"],
        ">=",
        BETTER,
        kind="theorem",
        source="three voices in a circle: a score is wrong about one pair of three, by 0.11",
        baseline=(
            "the same before one judge",
            (found["one_judge_bayes"] - found["one_judge_score"]).mean(),
        ),
    )


def conclude(config: Config, methods: Mapping[str, Method], facts: Facts) -> list[Claim]:
    """The claims about the games."""
    prefs = facts.prefs
    gaps = {
        name: Gaps(one.label, one.last_gaps(prefs), one.average_gaps(prefs), one.turns(facts.sft))
        for name, one in methods.items()
    }
    exact = regularised_shares(facts.sft, prefs, beta=config.game.beta)
    target, sft = exploitability(exact, prefs), exploitability(facts.sft, prefs)
    regular = [regular_claim(gaps[name], target, sft) for name in REGULAR]
    rlhf = gaps["bradley_terry"]
    return [
        purity_claim(rlhf, gaps["nash_mp"]),
        *cycle_claims(gaps["spo_low"], rlhf, gaps["nash_mp"]),
        *regular,
        accuracy_claim(facts.accuracies),
    ]
