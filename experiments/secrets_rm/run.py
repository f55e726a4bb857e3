"""Can voters find wrong labels, and does repairing them keep a reward model from overfitting?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.secrets_rm.config import Config
from experiments.secrets_rm.contrast import contrast_study
from experiments.secrets_rm.meta import MEASURES, meta_study
from experiments.secrets_rm.meta import METHODS as META
from experiments.secrets_rm.repairs import DECILES, METHODS, repair_study
from experiments.secrets_rm.report import write_report
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.reports.intervals import mean_claim, mean_interval
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]
SIXTH = 5
SPEC = "acceptance of this design, from a NumPy run of it"


def run(config: Config, job: Run) -> Outcome:
    """Voting and repairs, contrastive terms, MetaRM."""
    studies = {"repairs": repair_study, "contrast": contrast_study, "meta": meta_study}
    found = run_stages(job, {name: partial(work, config) for name, work in studies.items()})
    size = f"{config.pairs} pairs, {config.noise:.0%} wrong, {config.epochs} passes"
    claims = [*strength_claims(found["repairs"], size), *repair_claims(found["repairs"], size)]
    table = repair_table(config, found["repairs"])
    write_report(job, config, found, claims, table)
    return Outcome(claims, numbers=summary(found), table=table)


def strength_claims(repairs: Arrays, size: str) -> list[Claim]:
    """What the vote finds; the unit is a world."""
    deciles, right = repairs["deciles"], repairs["right"]
    return [
        Claim(
            f"Spearman correlation of strength tenth and mean share of right labels, {size}",
            spearman(right.mean(0)),
            "==",
            1.0,
            kind="paper",
            source="Figure 3: agreement with the labels rises with strength",
            baseline=("tenths at random", spearman(repairs["right at random"].mean(0))),
        ),
        mean_claim(
            f"A reward model trained on the bottom tenth alone: accuracy on clean pairs, {size}",
            deciles[:, 0],
            "<",
            0.3,
            kind="paper",
            source="Figure 4: below chance; 0.3 is the " + SPEC,
            baseline=("the top tenth alone", deciles[:, -1].mean()),
        ),
        mean_claim(
            f"Accuracy from the sixth tenth alone minus that from the top tenth alone, {size}",
            deciles[:, SIXTH] - deciles[:, -1],
            ">",
            0.0,
            kind="paper",
            source="Figure 4: the top group alone is not the best",
            baseline=("the bottom tenth", np.mean(deciles[:, 0] - deciles[:, -1])),
        ),
    ]


def gain_claims(curves: np.ndarray, size: str) -> list[Claim]:
    """What flipping is worth at the last pass."""
    final = {name: curves[:, i, -1] for i, name in enumerate(METHODS)}
    gain, chance = (final[name] - final["Bradley-Terry"] for name in ("flip", "flip at random"))
    return [
        mean_claim(
            f"Flip, {size}: accuracy at the end minus that of Bradley-Terry",
            gain,
            ">=",
            0.15,
            kind="ours",
            source=SPEC,
            baseline=("flip at random", chance.mean()),
        ),
        Claim(
            f"Flip, {size}: share of the worlds of this run in which it gains 0.15",
            np.mean(gain >= 0.15),
            ">=",
            0.9,
            kind="ours",
            source=SPEC + ": 9 worlds of 10",
            baseline=("flip at random", np.mean(chance >= 0.15)),
        ),
    ]


def repair_claims(repairs: Arrays, size: str) -> list[Claim]:
    """What repairs are worth: gains, then drops from the best pass to the last."""
    fall = drops(repairs["curves"])
    return [
        *gain_claims(repairs["curves"], size),
        mean_claim(
            f"Flip, {size}: best minus last accuracy",
            fall["flip"],
            "<=",
            0.03,
            kind="paper",
            source="Figure 8: flat; 0.03 is the " + SPEC,
            baseline=("Bradley-Terry", fall["Bradley-Terry"].mean()),
        ),
        mean_claim(
            f"Bradley-Terry, {size}: best minus last accuracy",
            fall["Bradley-Terry"],
            ">=",
            0.10,
            kind="paper",
            source="Figure 8: declines; 0.10 is the " + SPEC,
            baseline=("true labels", fall["true labels"].mean()),
        ),
        mean_claim(
            f"Soft labels (h = 1/2) with margins, {size}: best minus last accuracy",
            fall["soft + margin"],
            "<=",
            0.03,
            kind="paper",
            source="Figure 8: flat, read as for flip",
            baseline=("Bradley-Terry", fall["Bradley-Terry"].mean()),
        ),
        mean_claim(
            f"The same with doubted labels turned (h = 1), {size}: best minus last accuracy",
            fall["h = 1 + margin"],
            "<=",
            0.03,
            kind="ours",
            source="without the suspected cause, labels that are muted and not turned",
            baseline=("soft + margin", fall["soft + margin"].mean()),
        ),
    ]


def drops(curves: np.ndarray) -> dict[str, np.ndarray]:
    """name -> best minus last accuracy [seeds], from curves [seeds, methods, epochs]."""
    fall = curves.max(-1) - curves[..., -1]
    return {name: fall[:, i] for i, name in enumerate(METHODS)}


def spearman(values: np.ndarray) -> float:
    """1 - 6 sum d^2 / (n (n^2 - 1)) against the order of the axis; exactly 1 if it rises."""
    size, ranks = len(values), np.argsort(np.argsort(values, kind="stable"))
    return float(1 - 6 * np.sum((ranks - np.arange(size)) ** 2) / (size * (size**2 - 1)))


def repair_table(config: Config, repairs: Arrays) -> Table:
    """Best and last accuracy of each method, means over worlds."""
    curves, fall = repairs["curves"], drops(repairs["curves"])
    rows = [
        (name, curves[:, i].max(-1).mean(), curves[:, i, -1].mean(), fall[name].mean())
        for i, name in enumerate(METHODS)
    ]
    return Table(
        f"Accuracy on clean pairs, mean of {config.num_seeds} worlds",
        ("trained on", "best pass", "last pass", "drop"),
        rows,
        note=f"{repairs['doubted'].mean():.3f} of the pairs have strength below 0",
    )


def meta_lead(gold: np.ndarray) -> list[tuple[float, float, float]]:
    """By round, the mean of MetaRM minus eta = 0 and its interval, from gold [seeds, 2, rounds]."""
    leads = np.moveaxis(gold[:, 1] - gold[:, 0], -1, 0)
    return [(float(each.mean()), *mean_interval(each)) for each in leads]


def summary(found: Mapping[str, Arrays]) -> dict:
    """Means over worlds."""
    repairs, meta = found["repairs"], found["meta"]
    shift = {
        method: dict(zip(MEASURES, meta["shift"][:, i].mean(0).tolist(), strict=True))
        for i, method in enumerate(META)
    }
    gap = meta["shift"][..., MEASURES.index("shifted gap")]
    return {
        "tenths": list(range(1, DECILES + 1)),
        "right labels by tenth": repairs["right"].mean(0).tolist(),
        "accuracy by tenth": repairs["deciles"].mean(0).tolist(),
        "spread of voters by tenth": repairs["spread"].mean(0).tolist(),
        "doubted": repairs["doubted"].mean(),
        "contrast, best": {k: v.max(1).mean() for k, v in found["contrast"].items()},
        "contrast, last": {k: v[:, -1].mean() for k, v in found["contrast"].items()},
        "shift": shift,
        "shift: worlds with a smaller gap by MetaRM": float(np.mean(gap[:, 1] < gap[:, 0])),
        "rounds": meta["rounds"].mean(0).tolist(),
        "rounds, gold": meta["gold"].mean(0).tolist(),
        "rounds, gold: MetaRM minus eta = 0": meta_lead(meta["gold"]),
    }
