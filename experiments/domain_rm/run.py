"""Domain knowledge: what does a reward model save that sees a few named features and no text?"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from experiments.domain_rm.config import FEW, MANY, MORE, Config
from experiments.domain_rm.learners import study_all
from experiments.domain_rm.report import write_report
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.reports.intervals import mean_claim
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]


def run(config: Config, job: Run) -> Outcome:
    """All worlds in one stage, the claims, the report."""
    found = run_stages(job, {"worlds": partial(study_all, config)})["worlds"]
    claims = [
        *saving_claims(config, found),
        crossover_claim(config, found),
        *wrong_knowledge_claims(config, found),
        *best_of_claims(config, found),
    ]
    table = accuracy_table(config, found)
    write_report(job, config, found, claims, table)
    return Outcome(claims, numbers=summary(config, found), table=table)


def at(config: Config, found: Arrays, name: str, size: int) -> np.ndarray:
    """Accuracy [seeds] of a model from so many pairs."""
    return found[f"accuracy/{name}"][:, config.sizes.index(size)]


def saving_claims(config: Config, found: Arrays) -> list[Claim]:
    """Few pairs for the features against many for the raw vector."""
    features, raw = (partial(at, config, found, name) for name in ("features", "raw"))
    paper: dict[str, Any] = {"kind": "paper", "source": "abstract: 21 times fewer comparisons"}
    claims = []
    for size, share in ((MANY, 1.0), (MORE, 0.8)):
        lead, worse = features(FEW) - raw(size), raw(FEW) - raw(size)
        name = f"features from {FEW} pairs, accuracy above the raw model's from {size}"
        weak = f"the raw model from {FEW}"
        claims.append(
            mean_claim(f"{name}: mean lead", lead, ">", 0, baseline=(weak, worse.mean()), **paper)
        )
        # About the worlds that were drawn: no interval.
        claims.append(
            Claim(
                f"{name}: share of the {len(lead)} worlds",
                (lead > 0).mean(),
                ">=",
                share,
                baseline=(weak, (worse > 0).mean()),
                **paper,
            )
        )
    return claims


def crossover_claim(config: Config, found: Arrays) -> Claim:
    """The largest size, where the ceiling of the features shows."""
    features, raw = (partial(at, config, found, name) for name in ("features", "raw"))
    size = config.sizes[-1]
    return mean_claim(
        f"raw model minus features, both from {size} pairs: accuracy",
        raw(size) - features(size),
        ">=",
        0.03,
        kind="ours",
        source="the noise of the ratings sets a ceiling",
        baseline=(f"both from {MANY}", (raw(MANY) - features(MANY)).mean()),
    )


def wrong_knowledge_claims(config: Config, found: Arrays) -> list[Claim]:
    """A model that was given some of the features that decide."""
    whole, some, raw = (
        partial(at, config, found, name) for name in ("features", "some features", "raw")
    )
    last, name = config.sizes[-1], f"{config.kept} of {config.features} features from"
    return [
        mean_claim(
            f"{name} {MANY} pairs minus the raw model from as many: accuracy",
            some(MANY) - raw(MANY),
            "<=",
            0,
            kind="ours",
            source="a bottleneck without what decides saves nothing",
            baseline=(f"all features from {FEW}", (whole(FEW) - raw(MANY)).mean()),
        ),
        mean_claim(
            f"{name} {last} pairs minus all of them from {FEW}: accuracy",
            some(last) - whole(FEW),
            "<",
            0,
            kind="ours",
            source="omitted features are lost whatever the number of pairs",
            baseline=(f"all features from {last}", (whole(last) - whole(FEW)).mean()),
        ),
    ]


def best_of_claims(config: Config, found: Arrays) -> list[Claim]:
    """True log-odds of the best of n: the n where the lead is smallest, over worlds."""
    features, raw = found["best/features, few"], found["best/raw, many"]
    lead, worse = features - raw, found["best/raw, few"] - raw
    name = f"best of n by features from {FEW} pairs, above the raw model's from {MANY}"
    paper: dict[str, Any] = {"kind": "paper", "source": "its rewards give better summaries"}
    weak = f"the raw model from {FEW}"
    least = lead[:, lead.mean(0).argmin()]
    return [
        mean_claim(
            f"{name}: least mean lead of all n",
            least,
            ">",
            0,
            baseline=(weak, worse.mean(0).max()),
            **paper,
        ),
        Claim(
            f"{name}: share of worlds and n",
            (lead > 0).mean(),
            ">=",
            1.0,
            baseline=(weak, (worse > 0).mean()),
            **paper,
        ),
    ]


def matching_pairs(config: Config, found: Arrays) -> np.ndarray:
    """Pairs [seeds] from which the raw model is as accurate as the features from few; the first
    crossing, log-linear between sizes, and the largest size where there is none."""
    sizes = np.log(config.sizes)
    matched = []
    for raw, level in zip(found["accuracy/raw"], at(config, found, "features", FEW), strict=True):
        above = np.flatnonzero(raw >= level)
        i = above[0] if len(above) else len(raw) - 1
        if i == 0 or not len(above):
            matched.append(config.sizes[i])
            continue
        part = (level - raw[i - 1]) / (raw[i] - raw[i - 1])
        matched.append(np.exp(sizes[i - 1] + part * (sizes[i] - sizes[i - 1])))
    return np.array(matched)


def accuracy_table(config: Config, found: Arrays) -> Table:
    """Models as columns, sizes as rows."""
    names = ("features", "some features", "raw")
    network = dict(zip((FEW, MANY), found["accuracy/network"].mean(0), strict=True))
    rows = [
        (
            size,
            *(f"{at(config, found, name, size).mean():.3f}" for name in names),
            f"{network[size]:.3f}" if size in network else None,
        )
        for size in config.sizes
    ]
    mean = found["accuracy/mean of features"].mean()
    truth = found["accuracy/true weights"].mean()
    return Table(
        f"Agreement with the noise-free preference, mean over {config.num_seeds} worlds",
        ("pairs", "features", f"{config.kept} of them", "raw", "6-4-2 network"),
        rows,
        note=f"untrained mean of the features {mean:.3f}, their true weights {truth:.3f}",
    )


def summary(config: Config, found: Arrays) -> dict[str, Any]:
    """Means over worlds, and what the fits left."""
    matched = matching_pairs(config, found)
    return {
        **{name: np.mean(each, 0).tolist() for name, each in found.items() if "/" in name},
        "cosine of the weights": found["cosine"].mean(0).tolist(),
        "chosen ridges of raw": found["ridge"].mean(0).tolist(),
        f"pairs of raw that match features from {FEW}": matched.tolist(),
        "largest residual": max(
            float(each.max()) for name, each in found.items() if name.startswith("residual/")
        ),
    }
