"""Biased pairs, raw and curated: which of them make a reward model better as they grow?"""

from collections.abc import Mapping

import numpy as np

from experiments.skywork_reward_v2.config import Config
from experiments.skywork_reward_v2.report import write_report
from experiments.skywork_reward_v2.rounds import CURATED, RECIPES, run_unit
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.reports.intervals import mean_claim
from rlhf_jax.training import Run, run_stages

COUNTED = ("kept", "flipped", "asked", "both agree right", "both agree if independent")


def run(config: Config, job: Run) -> Outcome:
    """All recipes on every true reward, the claims, the report."""

    def rounds() -> dict:
        units = [run_unit(config, unit) for unit in range(config.num_seeds)]
        return {name: np.stack([unit[name] for unit in units]) for name in units[0]}

    found = run_stages(job, {"rounds": rounds}, x64=True)["rounds"]
    claims = [*raw_claims(config, found), *curated_claims(config, found)]
    table = accuracy_table(config, found)
    write_report(job, config, found, claims, table)
    return Outcome(claims, numbers_of(config, found), table)


def raw_claims(config: Config, found: Mapping) -> list[Claim]:
    """Uncurated pairs: no gain from size, and a reward model that follows style."""
    few, many = config.sizes[0], config.sizes[-1]
    raw, clean = (gain(found[f"all/{name}"]) for name in ("raw", "clean labels"))
    raw_gap, flip_gap = (gap(found, name) for name in ("raw", "filter + flip"))
    return [
        mean_claim(
            f"raw: accuracy gained from {few} to {many} pairs",
            raw,
            "<=",
            0.01,
            kind="paper",
            source="Fig. 7: 12M uncurated pairs give no gain; the threshold is ours",
            baseline=("clean labels", clean.mean()),
        ),
        mean_claim(
            f"raw: accuracy on all minus on hard pairs, {many} pairs",
            raw_gap,
            ">=",
            0.15,
            kind="ours",
            source="0.4 of the labels are style; threshold from trials",
            baseline=("filter + flip", flip_gap.mean()),
        ),
    ]


def curated_claims(config: Config, found: Mapping) -> list[Claim]:
    """Curated pairs: better than raw, than the gold model, and not by style."""
    many = config.sizes[-1]
    ours = {kind: found[f"{kind}/filter + flip"][:, -1] for kind in ("all", "hard")}
    raw, chance = (found[f"all/{name}"][:, -1] for name in ("raw", "random gold model"))
    gold = found["all/gold only"]
    raw_gap, flip_gap = (gap(found, name) for name in ("raw", "filter + flip"))
    correction = {"kind": "paper", "source": "Fig. 7: correction adds more at every stage"}
    return [
        Claim(
            f"filter + flip minus raw, {many} pairs, worst seed",
            (ours["all"] - raw).min(),
            ">=",
            0.10,
            kind="ours",
            source="stand-in for Fig. 7, left; threshold from trials",
            baseline=("random gold model", (chance - raw).mean()),
        ),
        Claim(
            f"filter + flip minus gold only, {many} pairs, worst seed",
            (ours["all"] - gold).min(),
            ">",
            0.0,
            kind="paper",
            source="Fig. 8: curated pairs reach more than the seed data",
            baseline=("raw", (raw - gold).mean()),
        ),
        mean_claim(
            f"filter + flip: accuracy on all minus on hard pairs, {many} pairs",
            flip_gap,
            "<=",
            0.02,
            kind="ours",
            source="stand-in for RM-Bench, easy to hard; threshold from trials",
            baseline=("raw", raw_gap.mean()),
        ),
        *(
            mean_claim(
                f"filter + flip minus filter, {kind} pairs of the test, {many} pairs",
                values - found[f"{kind}/filter"][:, -1],
                ">",
                0.0,
                baseline=("random gold model", random_excess(found, kind)),
                **correction,
            )
            for kind, values in ours.items()
        ),
    ]


def gain(accuracy: np.ndarray) -> np.ndarray:
    """[num_seeds] from the smallest pool to the largest."""
    return accuracy[:, -1] - accuracy[:, 0]


def gap(found: Mapping, recipe: str) -> np.ndarray:
    """[num_seeds] accuracy on all minus on hard pairs, at the largest size."""
    return found[f"all/{recipe}"][:, -1] - found[f"hard/{recipe}"][:, -1]


def random_excess(found: Mapping, kind: str) -> float:
    """Filter and flip under a random gold model, minus the filter, at the largest size."""
    return float((found[f"{kind}/random gold model"] - found[f"{kind}/filter"])[:, -1].mean())


def accuracy_table(config: Config, found: Mapping) -> Table:
    """Mean accuracy on all and on hard pairs, recipe by size."""
    gold = pair_of_means(found["all/gold only"], found["hard/gold only"])
    rows = [("gold only", *(gold for _ in config.sizes))]
    for recipe in RECIPES:
        both = [found[f"{kind}/{recipe}"] for kind in ("all", "hard")]
        rows.append(
            (recipe, *(pair_of_means(a, h) for a, h in zip(both[0].T, both[1].T, strict=True)))
        )
    return Table(
        f"Mean accuracy on all / hard test pairs, {config.num_seeds} seeds",
        ("recipe", *(f"{size} pairs" for size in config.sizes)),
        rows,
        note="hard: style points to the worse answer",
    )


def pair_of_means(on_all: np.ndarray, on_hard: np.ndarray) -> str:
    """Two means over seeds, "all / hard"."""
    return f"{on_all.mean():.3f} / {on_hard.mean():.3f}"


def numbers_of(config: Config, found: Mapping) -> dict:
    """Means over seeds by size, and in how many seeds filter + flip is ahead."""
    ours = found["all/filter + flip"][:, -1]
    others = {"gold only": found["all/gold only"]}
    others |= {name: found[f"all/{name}"][:, -1] for name in RECIPES if name != "filter + flip"}
    return {
        "sizes": list(config.sizes),
        "seeds where filter + flip is ahead": {
            name: int((ours > other).sum()) for name, other in others.items()
        },
        "pairs": {
            recipe: {name: found[f"{name}/{recipe}"].mean(0).round(4).tolist() for name in COUNTED}
            | {f"{way} and right": right_share(found, way, recipe) for way in ("kept", "flipped")}
            for recipe in CURATED
        },
    }


def right_share(found: Mapping, way: str, recipe: str) -> list[float | None]:
    """Of the pairs kept or flipped in all seeds, how many are right; None if there are none."""
    rightly, all_of_them = (found[f"{name}/{recipe}"].mean(0) for name in (f"rightly {way}", way))
    return [
        round(float(x / y), 4) if y else None for x, y in zip(rightly, all_of_them, strict=True)
    ]
