"""What the tables of fine_grained_rlhf claim."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from experiments.fine_grained_rlhf.config import CLAIMED, Config
from experiments.fine_grained_rlhf.facts import MEASURES, settings
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim

Arrays = Mapping[str, np.ndarray]
FASTER = "dense rewards learn faster; the same return, so the gap is that of density"
TABLE_5 = "Table 5: relevance pulls short, completeness and factuality pull long"
STEERS = "the weights of the heads control the answers"


def density_claims(config: Config, speeds: np.ndarray) -> list[Claim]:
    """Updates [arms, lengths, seeds]: segments against the whole answer."""
    dense, whole = np.moveaxis(speeds, -1, 1)  # [seeds, lengths] each
    lengths = config.density.lengths
    shortest, longest = lengths[0], lengths[-1]

    def ratio(place: int, dense: np.ndarray, whole: np.ndarray) -> float:
        return float(np.median(whole[:, place]) / np.median(dense[:, place]))

    def least_step(dense: np.ndarray, whole: np.ndarray) -> float:
        return min(np.diff([ratio(i, dense, whole) for i in range(len(lengths))]))

    about: dict[str, Any] = {"kind": "ours", "source": FASTER}
    goal = config.density.goal
    return [
        bootstrap_claim(
            f"{longest} segments: updates to {goal:g} good, whole answer over segments, medians",
            partial(ratio, len(lengths) - 1),
            [dense, whole],
            ">=",
            2.0,
            baseline=(f"{shortest} segments", ratio(0, dense, whole)),
            **about,
        ),
        Claim(
            f"{longest} segments: share of seeds in which rewards of segments are first",
            np.mean(dense[:, -1] < whole[:, -1]),
            ">=",
            1.0,
            **about,
        ),
        bootstrap_claim(
            f"least step of that ratio from one length to the next, {lengths}",
            least_step,
            [dense, whole],
            ">",
            0,
            **about,
        ),
    ]


def facts_claims(config: Config, runs: Arrays) -> list[Claim]:
    """Runs [seeds, updates, measures] of each setting."""
    last = config.facts.last
    ends = {name: measured(runs[name][:, -last:].mean(1)) for name in settings(config.facts)}
    return [
        *speed_claims(config, runs["full"], runs["whole answer"]),
        *steering_claims(ends),
        *ablation_claims(ends),
    ]


def measured(values: np.ndarray) -> dict[str, np.ndarray]:
    """[..., measures] by name."""
    return dict(zip(MEASURES, np.moveaxis(np.asarray(values, float), -1, 0), strict=True))


def speed_claims(config: Config, full: np.ndarray, whole: np.ndarray) -> list[Claim]:
    """The same rewards, paid with segments or at the end; runs [seeds, updates, measures]."""
    dense, late = (measured(runs)["return"] for runs in (full, whole))
    about = {"kind": "ours", "source": FASTER}
    last = config.facts.last
    return [
        mean_claim(
            "facts, full reward: lead in mean return over training, segments over whole answer",
            dense.mean(1) - late.mean(1),
            ">",
            0,
            **about,
        ),
        mean_claim(
            "facts, full reward: lead in updates to 80% of the final return",
            updates_to_share(late, last) - updates_to_share(dense, last),
            ">",
            0,
            **about,
        ),
    ]


def updates_to_share(returns: np.ndarray, last: int) -> np.ndarray:
    """[seeds] first update at 80% of the way from the first return to the last ones."""
    first, final = returns[:, :1], returns[:, -last:].mean(1, keepdims=True)
    return np.argmax(returns >= first + 0.8 * (final - first), axis=1).astype(float)


def steering_claims(ends: Mapping[str, Mapping[str, np.ndarray]]) -> list[Claim]:
    """Measures at the end, [seeds], along the claimed weights of relevance."""
    names = [f"w1 = {w:g}" for w in CLAIMED]

    def steps(measure: str) -> np.ndarray:
        return np.diff(np.stack([ends[name][measure] for name in names]), axis=0)

    about = {"kind": "paper", "source": STEERS}
    weights = ", ".join(f"{w:g}" for w in CLAIMED)
    longest = steps("length").max(0)
    return [
        mean_claim(f"facts, w1 in {weights}: largest step of length", longest, "<", 0, **about),
        mean_claim(
            f"facts, w1 in {weights}: least step of relevance",
            steps("relevance").min(0),
            ">",
            0,
            **about,
        ),
        mean_claim(
            f"facts, {names[-1]}: coverage",
            ends[names[-1]]["coverage"],
            "<=",
            0.6,
            baseline=(names[1], ends[names[1]]["coverage"].mean()),
            kind="ours",
            source="the three marginal facts are not worth a penalty of 2",
        ),
    ]


def ablation_claims(ends: Mapping[str, Mapping[str, np.ndarray]]) -> list[Claim]:
    """Measures at the end, [seeds], with one head left out."""
    lengths = {name: each["length"] for name, each in ends.items()}
    others = ("full", "without factuality", "without completeness")
    longest = np.max([lengths[name] for name in others], axis=0)
    about = {"kind": "paper", "source": TABLE_5}
    other = "without relevance"
    away, left, full = ends[other], ends["without factuality"], ends["full"]
    return [
        mean_claim(
            "facts, without relevance: lead in length over the longest of the others",
            lengths[other] - longest,
            ">",
            0,
            baseline=("without factuality", (left["length"] - longest).mean()),
            **about,
        ),
        mean_claim(
            "facts, without factuality: change of length",
            left["length"] - full["length"],
            "<",
            0,
            baseline=(other, (away["length"] - full["length"]).mean()),
            **about,
        ),
        mean_claim(
            "facts, without factuality: change of relevance",
            left["relevance"] - full["relevance"],
            ">",
            0,
            baseline=(other, (away["relevance"] - full["relevance"]).mean()),
            **about,
        ),
    ]
