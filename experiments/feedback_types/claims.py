"""What is claimed of rules, of kinds of feedback, and of the tabular loop; what must fail each."""

from collections.abc import Mapping

import numpy as np
import scipy

from experiments.feedback_types.config import Config
from experiments.feedback_types.kinds import KINDS, MIXED, PARTS, TYPES
from experiments.feedback_types.rules import RANDOM, RIVALS
from experiments.feedback_types.stages import BLIND, DOUBTED, IN_ORDER, PICKED, wrong_minds
from experiments.feedback_types.tabular import DEAF
from rlhf_jax.reports.claims import Claim, largest_factor
from rlhf_jax.reports.intervals import (
    bootstrap_claim,
    bootstrap_interval,
    mean_claim,
    mean_interval,
    near_end,
    share_claim,
    share_interval,
)

Arrays = Mapping[str, np.ndarray]
TARGET = 0.95  # cosine
ACTIVE, TRAPPED = ("mutual information", "D-optimal"), "entropy"


def needed(cosines: np.ndarray, target: float) -> np.ndarray:
    """Answers [seeds] until the cosine [seeds, answers] first reaches the target, by index; the
    number of columns where it never does."""
    reached = cosines >= target
    return np.where(reached.any(-1), reached.argmax(-1), cosines.shape[-1])


def median_needed(cosines: np.ndarray) -> float:
    """Median over seeds, to the target."""
    return float(np.median(needed(cosines, TARGET)))


def ratio(over: np.ndarray, under: np.ndarray) -> float:
    """Of means."""
    return float(over.mean() / under.mean())


def query_claims(config: Config, cosines: Arrays) -> list[Claim]:
    """Information beats chance; what looks at the mean prediction alone falls for near-copies.

    Volume removal ranks pairs as entropy does: one claim serves both.
    """
    at = {name: runs[:, config.compared] for name, runs in cosines.items()}
    when = f"after {config.compared} queries"
    lost = share_interval(at[TRAPPED] > at[RANDOM])
    slow = bootstrap_interval(median_needed, cosines[RANDOM])
    ahead = [
        share_claim(
            f"{name}: seeds ahead of random {when}",
            at[name] > at[RANDOM],
            ">=",
            0.8,
            kind="paper",
            source="survey: active queries",
            baseline=near_end(TRAPPED, lost, ">="),
        )
        for name in ACTIVE
    ]
    quick = [
        bootstrap_claim(
            f"{name}: median queries to a cosine of .95",
            median_needed,
            [cosines[name]],
            "<=",
            20,
            kind="ours",
            source="half of what random needs in a trial",
            baseline=near_end(RANDOM, slow, "<="),
        )
        for name in ACTIVE
    ]
    best = ACTIVE[0]
    worse = mean_claim(
        f"{TRAPPED} less random: mean cosine {when}",
        at[TRAPPED] - at[RANDOM],
        "<",
        0,
        kind="paper",
        source="survey: uncertain is not informative",
        baseline=near_end(best, mean_interval(at[best] - at[RANDOM]), "<"),
    )
    return [*ahead, *quick, worse, rival_claim(at, when)]


def best_rival(at: Arrays) -> str:
    """The rival with the highest mean, picked on the seeds that it is measured on."""
    return max(RIVALS, key=lambda name: at[name].mean())


def rival_claim(at: Arrays, when: str) -> Claim:
    """Against rules that are told of the near-copies and look at far pairs alone."""
    rival, best = best_rival(at), ACTIVE[0]
    return mean_claim(
        f"{best} less the best of {len(RIVALS)} rules for far pairs: mean cosine {when}",
        at[best] - at[rival],
        ">",
        0,
        kind="ours",
        source="tuned rival: the best share of far pairs, known only in hindsight",
        baseline=near_end(TRAPPED, mean_interval(at[TRAPPED] - at[rival]), ">"),
    )


def wrong_claims(config: Config, cosines: np.ndarray) -> list[Claim]:
    """A learner who is wrong about the teacher. cosines [beliefs, DOUBTED, seeds, queries + 1].

    For a reward on the sphere and pairs of any direction alike, the direction of the reward has the
    largest expected likelihood under every beta, so a wrong one costs answers but no bias.
    """
    claims = []
    for (name, *_), runs in zip(wrong_minds(config), cosines, strict=True):
        last = dict(zip(DOUBTED, runs[..., config.compared], strict=True))
        best = ACTIVE[0]
        claims.append(
            mean_claim(
                f"learner assumes {name}: {best} less random, mean cosine "
                f"after {config.compared} queries",
                last[best] - last[RANDOM],
                ">",
                0,
                kind="ours",
                source="the direction is most likely under every beta",
                baseline=near_end(TRAPPED, mean_interval(last[TRAPPED] - last[RANDOM]), ">"),
            )
        )
    return claims


def after(config: Config, kinds: Arrays, order: str) -> dict[str, np.ndarray]:
    """Kind -> cosine [seeds] after `config.records` records in this order."""
    ending = f", {order}"
    return {
        name.removesuffix(ending): runs[:, config.records - 1]
        for name, runs in kinds.items()
        if name.endswith(ending)
    }


def type_claims(config: Config, kinds: Arrays) -> list[Claim]:
    """Means over seeds, and the mixture against its worst part, seed by seed."""
    last, blind = after(config, kinds, IN_ORDER), after(config, kinds, BLIND)
    parts = np.min([last[name] for name in PARTS], axis=0)
    worst = min(TYPES, key=lambda name: last[name].mean())
    about = {"kind": "ours", "source": "one likelihood for all feedback"}
    ranked = mean_interval(blind["ranking"] - last["comparison"])
    deaf = {name: f"{name}, {BLIND}" for name in ("ranking", worst, MIXED)}
    errors = 1 - np.stack([last[name] for name in (MIXED, *PARTS)], axis=-1)
    most = 1 + int(errors[:, 1:].mean(0).argmax())

    def over_parts(errors: np.ndarray, which: int = 0) -> float:
        return float(errors[:, which].mean() / errors[:, 1:].mean())

    return [
        mean_claim(
            "ranking less comparison: mean cosine",
            last["ranking"] - last["comparison"],
            ">=",
            0,
            baseline=near_end(deaf["ranking"], ranked, ">="),
            **about,
        ),
        mean_claim(
            "least mean cosine of a type of feedback",
            last[worst],
            ">=",
            0.85,
            baseline=near_end(deaf[worst], mean_interval(blind[worst]), ">="),
            **about,
        ),
        share_claim(
            "mixture: seeds not below its worst part",
            last[MIXED] >= parts,
            ">=",
            0.8,
            baseline=near_end(deaf[MIXED], share_interval(blind[MIXED] >= parts), ">="),
            **about,
        ),
        bootstrap_claim(
            "mixture: its mean error (1 - cosine) over that of its parts",
            over_parts,
            [errors],
            "<=",
            1,
            kind="ours",
            source="information adds up, and an error is convex in it (Jensen)",
            baseline=near_end(
                PARTS[most - 1], bootstrap_interval(lambda x: over_parts(x, most), errors), "<="
            ),
        ),
    ]


def kind_claims(config: Config, kinds: Arrays, cosines: Arrays) -> list[Claim]:
    """All kinds: what a record teaches is its information, and picking records pays.

    Efficient estimates have 1 - cosine near tr J^-1 / 2; the rival knows only the mean of kinds.
    """
    last = after(config, kinds, IN_ORDER)
    errors = 1 - np.stack([last[name] for name in KINDS], axis=-1)
    told = np.stack([kinds[f"{name}, told"] for name in KINDS], axis=-1)

    def off(errors: np.ndarray, told: np.ndarray) -> float:
        return largest_factor(errors.mean(0).tolist(), told.mean(0).tolist())

    def one_for_all(errors: np.ndarray) -> float:
        means = errors.mean(0)
        return largest_factor(means.tolist(), [float(scipy.stats.gmean(means))] * len(means))

    asked = {
        order: np.stack([needed(kinds[f"{name}, {order}"], TARGET) for name in KINDS], -1) + 1
        for order in (IN_ORDER, PICKED)
    }

    def share(picked: np.ndarray, in_order: np.ndarray) -> float:
        return float(np.exp(np.mean(np.log(picked.mean(0) / in_order.mean(0)))))

    pairs = [needed(cosines[name], TARGET) for name in (TRAPPED, RANDOM)]
    return [
        bootstrap_claim(
            f"{len(KINDS)} kinds: largest factor between mean error after {config.records} records "
            "and tr J^-1 / 2",
            off,
            [errors, told],
            "<=",
            2,
            kind="ours",
            source="efficient estimates; 2 for a prior and few records",
            baseline=near_end(
                "one error for all kinds", bootstrap_interval(one_for_all, errors), "<="
            ),
        ),
        bootstrap_claim(
            f"{len(KINDS)} kinds: records to a cosine of .95, picked by information over in order "
            "(geometric mean)",
            share,
            [asked[PICKED], asked[IN_ORDER]],
            "<",
            1,
            kind="ours",
            source="the same likelihood scores questions of every kind",
            baseline=near_end(f"pairs by {TRAPPED}", bootstrap_interval(ratio, *pairs), "<"),
        ),
    ]


def loop_claims(config: Config, regrets: Arrays) -> list[Claim]:
    """Planning with the estimate gets close to the best policy, sooner with chosen questions."""
    chosen, even, deaf = (regrets[name] for name in (ACTIVE[0], RANDOM, DEAF))
    at = config.compared
    about = {"kind": "ours", "source": "estimate, plan and ask in one loop"}
    flat = bootstrap_interval(ratio, deaf[:, -1], deaf[:, 0])
    behind = bootstrap_interval(ratio, deaf[:, at], even[:, at])
    return [
        bootstrap_claim(
            "loop: mean regret after all queries over that before",
            ratio,
            [chosen[:, -1], chosen[:, 0]],
            "<=",
            0.1,
            baseline=near_end(DEAF, flat, "<="),
            **about,
        ),
        bootstrap_claim(
            f"loop: mean regret over that of random, {at} queries",
            ratio,
            [chosen[:, at], even[:, at]],
            "<",
            1,
            baseline=near_end(DEAF, behind, "<"),
            **about,
        ),
    ]
