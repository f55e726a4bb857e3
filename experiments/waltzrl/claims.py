"""What waltzrl claims, from measures [methods, seeds, points]; seeds are the units."""

from collections.abc import Mapping

import numpy as np

from experiments.waltzrl.config import Config
from experiments.waltzrl.shop import STAGES
from experiments.waltzrl.training import METHODS
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim

Arrays = Mapping[str, np.ndarray]
RATES = ("attacks", "refusals")


def curves(runs: Arrays, measure: str, method: str) -> np.ndarray:
    """[seeds, points]."""
    return runs[measure][list(METHODS).index(method)]


def ends(runs: Arrays, measure: str, method: str) -> np.ndarray:
    """[seeds] at the end."""
    return curves(runs, measure, method)[:, -1]


def lead(runs: Arrays, method: str, other: str) -> np.ndarray:
    """[seeds] by how much a method is below another one, the smaller of both rates."""
    return np.min([ends(runs, x, other) - ends(runs, x, method) for x in RATES], axis=0)


def all_claims(config: Config, runs: Arrays) -> list[Claim]:
    """In the order of the page."""
    size = f"{config.first_stage} + {config.second_stage} steps of {config.batch} episodes"
    rivals = {"one agent": 0.05, "conversation frozen": 0.07}
    found = []
    for rival, least in rivals.items():
        below = lead(runs, "both", rival)
        other = "conversation frozen" if rival == "one agent" else "one agent"
        control = lead(runs, other, rival)
        found.append(
            mean_claim(
                f"Both agents trained, {size}: by how much attacks and over-refusals are below "
                f"{rival}, the smaller of the two",
                below,
                ">=",
                least,
                kind="paper",
                source="3.7 / 7.6 beside 12.2 / 8.6 of one agent and 5.1 / 14.2 of a frozen one; "
                "the margin is that of this design",
                baseline=(other, control.mean()),
            )
        )
    return [*found, label_claim(runs, size), *untrained_claims(runs)]


def label_claim(runs: Arrays, size: str) -> Claim:
    """Labels go where nothing pays for them."""
    whole, kept, plain = (
        ends(runs, "labels", name) for name in ("both", "both, label term kept", "both, DIR alone")
    )
    return mean_claim(
        f"Label accuracy, {size}: DIR after a right label minus DIR alone",
        whole - plain,
        ">=",
        0.05,
        kind="paper",
        source="ablation: without a label term accuracy is lowest",
        baseline=("label term kept minus not kept", (kept - whole).mean()),
    )


def untrained_claims(runs: Arrays) -> list[Claim]:
    """Exact, alike in all seeds: feedback at random spoils what was good."""
    found = []
    for rate, name in zip(RATES, ("attacks", "over-refusals"), strict=True):
        base = curves(runs, rate, "one agent")[0, 0]
        untrained = curves(runs, rate, "both")[0, 0]
        found.append(
            Claim(
                f"Two agents before training minus one: {name}, exact",
                untrained - base,
                ">",
                0.0,
                kind="ours",
                source="acceptance of this design: .399 / .395 beside .332 / .328",
                baseline=("both agents trained", (ends(runs, rate, "both") - base).mean()),
            )
        )
    return found


def shop_claims(config: Config, found: Arrays) -> list[Claim]:
    """The language panel, from the arrays of `shop.shop_study`; seeds are the units."""
    sizes = config.shop
    stages = STAGES[: found["attacks"].shape[1]]
    at = {name: {x: found[x][:, i] for x in found} for i, name in enumerate(stages)}
    gate = Claim(
        f"Shop: feedback that can be read before RL, {sizes.sft_steps} steps of SFT",
        at["before"]["readable"].mean(),
        ">=",
        sizes.gate,
        kind="ours",
        source="a gate: unreadable feedback teaches nothing, and nothing is compared",
        baseline=("the shipped SFT policy", 0.0),
    )
    if len(stages) < len(STAGES):
        return [gate]
    size = f"{sizes.first_stage} + {sizes.second_stage} steps of {sizes.batch_size} prompts"

    def below(name: str, other: str) -> np.ndarray:
        return np.min([at[other][x] - at[name][x] for x in RATES], axis=0)

    rivals = (
        ("one agent", "one agent", "first stage", "after the first stage"),
        ("before", "both before RL", "before, draft alone", "the draft before RL, unrevised"),
    )
    return [
        gate,
        *(
            mean_claim(
                f"Shop, both agents trained, {size}: by how much attacks and over-refusals are "
                f"below {words}, the smaller of the two",
                below("both", other),
                ">",
                0.0,
                kind="paper",
                source="3.7 / 7.6 beside 12.2 / 8.6 of one agent, 13.4 / 12.7 before",
                baseline=(control, below(worse, other).mean()),
            )
            for other, words, worse, control in rivals
        ),
    ]
