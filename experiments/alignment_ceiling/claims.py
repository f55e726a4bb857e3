"""What alignment_ceiling claims of its runs, and the baselines that must fail."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from experiments.alignment_ceiling.config import Config
from experiments.alignment_ceiling.gradients import KINDS, LEARNERS
from experiments.alignment_ceiling.sweeps import TAILS
from rlhf_jax.ops.mismatch import correlations_around_peak, rank_correlation
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim, share_claim

Arrays = Mapping[str, np.ndarray]
INSIDE = 0.9  # a peak counts as inside before this share of the last KL
MODEL, BLIND = "reward model", "length-blind"


def pool_claims(config: Config, pool: Arrays, tails: Arrays) -> list[Claim]:
    """Link from score to gold and from score to the downstream metric, on exact optima."""
    before, after = around_peak(pool[f"{MODEL}/score"], pool[f"{MODEL}/gold"])
    falls = np.sum(~np.isnan(after))
    gaps = {name: pool[f"{name}/off"] - pool[f"{name}/on"] for name in (MODEL, BLIND)}
    about = {"kind": "ours", "source": "the paper names the mismatch; size set before the run"}
    light, larger = (inside(tails, name) for name in TAILS)
    return [
        *(
            share_claim(
                f"reward model, {answers:,} answers: share of {config.num_seeds} worlds with the "
                "gold peak inside",
                found,
                ">=",
                0.8,
                baseline=(TAILS[0], light.mean()),
                **about,
            )
            for answers, found in (
                (config.answers, inside(pool, MODEL)),
                (config.many_answers, larger),
            )
        ),
        mean_claim(
            "reward model: rank correlation of score and gold up to the gold peak",
            known(before),
            ">=",
            0.95,
            baseline=("from the peak on", known(after).mean()),
            **about,
        ),
        mean_claim(
            f"reward model: the same from the gold peak on, {falls} worlds where gold falls",
            known(after),
            "<=",
            -0.5,
            baseline=("up to the peak", known(before).mean()),
            **about,
        ),
        mean_claim(
            f"reward model: order accuracy on the reference's answers minus at beta "
            f"{config.judged:g}",
            gaps[MODEL],
            ">=",
            0.3,
            baseline=(BLIND, gaps[BLIND].mean()),
            **about,
        ),
        mean_claim(
            "reward model: ceiling of label accuracy minus held-out accuracy",
            pool["ceiling"] - pool["validation"],
            "<=",
            0.01,
            kind="ours",
            source="the reward model is as accurate as labels allow",
            baseline=(BLIND, (pool["ceiling"] - pool["blind"]).mean()),
        ),
        *downstream_claims(pool),
    ]


def downstream_claims(pool: Arrays) -> list[Claim]:
    """Where the metric goes that no reward model sees."""
    left = {name: remaining(pool[f"{name}/downstream"]) for name in (MODEL, BLIND)}
    later = {name: peak_gap(pool, name) for name in (MODEL, BLIND)}
    return [
        mean_claim(
            "reward model: downstream metric at the end over its peak",
            left[MODEL],
            "<",
            0.5,
            kind="ours",
            source="verbosity is paid by the score and hurts downstream; half set before the run",
            baseline=(BLIND, left[BLIND].mean()),
        ),
        mean_claim(
            "reward model: KL of the gold peak minus KL of the downstream peak",
            later[MODEL],
            ">",
            0,
            kind="ours",
            source="each objective of the chain peaks before the one that it stands for",
            baseline=(BLIND, later[BLIND].mean()),
        ),
    ]


def population_claims(config: Config, models: Arrays) -> list[Claim]:
    """Link from a reward model's accuracy to the gold score of its policy."""
    found, blind = link(models), link(models, models["visible"] == 0)
    (small, large), count = config.budgets, models["accuracy"].shape[1]
    about = {"kind": "ours", "source": "accuracy ranks weak optimisation only; set before the run"}
    named = f"{count} reward models: rank correlation of accuracy and gold at KL"
    return [
        mean_claim(
            f"{named} {small:g}",
            found[:, 0],
            ">=",
            0.5,
            baseline=(f"KL {large:g}", found[:, 1].mean()),
            **about,
        ),
        mean_claim(
            f"{named} {large:g}",
            found[:, 1],
            "<=",
            0,
            baseline=("the length-blind of them", blind[:, 1].mean()),
            **about,
        ),
    ]


def gradient_claims(curves: Arrays) -> list[Claim]:
    """The same curve by GRPO, PPO and RLOO on samples: the worst of the three, by its mean."""
    return [claim for kind in KINDS for claim in kind_claims(curves, kind)]


def kind_claims(curves: Arrays, kind: str) -> list[Claim]:
    """On one kind of table."""

    def of(method: str, measure: str) -> np.ndarray:
        return curves[f"{kind}/{method}/{measure}"]

    def lost(method: str) -> np.ndarray:
        return of(method, "gold").max(1) - of(method, "gold")[:, -1]

    def falling(method: str) -> np.ndarray:
        after = around_peak(of(method, "score"), of(method, "gold"))[1]
        return np.where(np.isnan(after), 1.0, after)  # gold that never falls

    named = f"{', '.join(LEARNERS)}, {kind} answers, worst"
    about = {"kind": "ours", "source": "the curve of the exact optima, through sampled gradients"}
    return [
        mean_claim(
            f"{named}: gold lost from its peak to the end, in deviations",
            min((lost(name) for name in LEARNERS), key=np.mean),
            ">=",
            0.25,
            baseline=("GRPO on gold", lost("gold").mean()),
            **about,
        ),
        mean_claim(
            f"{named}: rank correlation of score and gold from the gold peak on, 1 without a fall",
            max((falling(name) for name in LEARNERS), key=np.mean),
            "<=",
            -0.5,
            baseline=("GRPO on gold", falling("gold").mean()),
            **about,
        ),
        mean_claim(
            f"{named}: KL of the gold peak minus KL of the downstream peak, beyond GRPO on gold",
            min((peak_gap(curves, f"{kind}/{name}") for name in LEARNERS), key=np.mean)
            - peak_gap(curves, f"{kind}/gold"),
            ">",
            0,
            baseline=("GRPO on gold", 0.0),
            **about,
        ),
    ]


def around_peak(scores: np.ndarray, gold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank correlations of runs [S, N] before and after the gold peak, [S] each."""
    before, after = correlations_around_peak(jnp.asarray(scores), jnp.asarray(gold))
    return np.asarray(before), np.asarray(after)


def known(x: np.ndarray) -> np.ndarray:
    """The entries that are numbers, or one NaN if none is."""
    there = x[~np.isnan(x)]
    return there if there.size else np.full(1, np.nan)


def inside(pool: Arrays, name: str) -> np.ndarray:
    """[S] whether gold of this policy peaks before INSIDE of its last KL."""
    kl = pool[f"{name}/kl"]
    return peak_kl(kl, pool[f"{name}/gold"]) < INSIDE * kl[:, -1]


def peak_kl(kl: np.ndarray, values: np.ndarray) -> np.ndarray:
    """[S] KL where curves [S, N] peak."""
    return kl[np.arange(len(kl)), values.argmax(1)]


def peak_gap(curves: Arrays, name: str) -> np.ndarray:
    """[S] KL of the gold peak of this policy minus that of the downstream peak."""
    kl = curves[f"{name}/kl"]
    return peak_kl(kl, curves[f"{name}/gold"]) - peak_kl(kl, curves[f"{name}/downstream"])


def remaining(metric: np.ndarray) -> np.ndarray:
    """[S] the end of curves [S, N] as a share of their peak."""
    return metric[:, -1] / metric.max(1)


def link(models: Arrays, which: np.ndarray | None = None) -> np.ndarray:
    """[S, budgets] rank correlation of accuracy and gold over reward models, or `which` [R]."""
    which = np.ones(models["accuracy"].shape[1], bool) if which is None else which
    gold = jnp.asarray(models["gold"][..., which])
    accuracy = jnp.broadcast_to(jnp.asarray(models["accuracy"][:, None, which]), gold.shape)
    return np.asarray(rank_correlation(accuracy, gold))
