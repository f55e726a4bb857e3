"""What maxmin_rlhf claims, from the arrays of its stages; worlds are the units."""

from collections.abc import Mapping

import numpy as np

from experiments.maxmin_rlhf.config import Config, minority
from experiments.maxmin_rlhf.methods import MOVED, POLICIES
from experiments.maxmin_rlhf.shop import TRAINED
from rlhf_jax.reports.claims import Claim, behind_gates
from rlhf_jax.reports.intervals import mean_claim

Arrays = Mapping[str, np.ndarray]
SPEC = "acceptance of this design, from a NumPy run of it: 20 worlds of 20"


def all_claims(config: Config, stages: Mapping[str, Arrays]) -> list[Claim]:
    """In the order of the page."""
    served = stages["groups"]
    return [
        *one_reward_claims(config, served),
        *maxmin_claims(config, served),
        *em_claims(config, stages["fits"]),
        gap_claim(config, served),
        *moving_claims(config, stages["moving"]),
    ]


def rates(served: Arrays, policy: str) -> np.ndarray:
    """Win rates over the reference [R, N, 2] of one policy: majority, minority."""
    return served["win rates"][:, :, POLICIES.index(policy)]


def people(config: Config, ratio: float) -> str:
    """The users in words."""
    few = minority(config, ratio)
    return f"{config.users - few} and {few} users, {config.comparisons} comparisons each"


def one_reward_claims(config: Config, served: Arrays) -> list[Claim]:
    """What Bradley-Terry on all comparisons does to a minority."""
    found = rates(served, "one reward")
    return [
        mean_claim(
            f"One reward, {people(config, ratio)}: win rate of its policy by the minority's reward",
            found[i, :, 1],
            "<",
            0.5,
            kind="paper",
            source="the impossibility result, and 42% of the minority at 10:1; below the reference",
            baseline=("the same with equal groups", found[0, :, 1].mean()),
        )
        for i, ratio in enumerate(config.ratios)
        if ratio >= 6
    ]


def maxmin_claims(config: Config, served: Arrays) -> list[Claim]:
    """The worst-off group at the last ratio."""
    worst = {name: rates(served, name)[-1].min(-1) for name in POLICIES}
    maxmin, single, least = (
        worst[name] for name in ("MaxMin", "one reward", "worst of each answer")
    )
    size = people(config, config.ratios[-1])
    wins = (maxmin >= 0.6) & (maxmin >= single + 0.2)
    return [
        Claim(
            f"{size}: share of the worlds of this run in which MaxMin has a win rate of 0.6 or "
            "more in the worst group, 0.2 above one reward",
            np.mean(wins),
            ">=",
            0.9,
            kind="ours",
            source=SPEC,
            baseline=("one reward", np.mean(single >= 0.6)),
        ),
        mean_claim(
            f"MaxMin minus one reward, {size}: win rate in the worst group",
            maxmin - single,
            ">=",
            0.2,
            kind="paper",
            source="+33% for minority groups; 0.2 is the acceptance of this design",
            baseline=("equal groups", worst_gain(served)),
        ),
        mean_claim(
            f"MaxMin minus the worst reward of each answer, {size}: win rate in the worst group",
            maxmin - least,
            ">=",
            0.0,
            kind="ours",
            source="E min <= min E: the official code takes the minimum of each answer",
            baseline=("one reward minus the same", (single - least).mean()),
        ),
    ]


def worst_gain(served: Arrays) -> float:
    """MaxMin minus one reward in the worst group where groups are equal."""
    found = [rates(served, name)[0].min(-1) for name in ("MaxMin", "one reward")]
    return float((found[0] - found[1]).mean())


def em_claims(config: Config, fits: Arrays) -> list[Claim]:
    """Who belongs where; the mean over both groups, so that a majority cannot hide a minority."""
    lowest = fits["recall"].mean(-1).mean(1).argmin(0)
    return [
        mean_claim(
            f"{kind} EM, {people(config, config.ratios[lowest[i]])}, the ratio at which it is "
            "lowest: users recognised by as many held-out comparisons, mean of the two groups",
            fits["recall"][lowest[i], :, i].mean(-1),
            ">=",
            0.95,
            kind="ours",
            source=SPEC + ", accuracy 1.000",
            baseline=("everybody in one group", 0.5),
        )
        for i, kind in enumerate(("Hard", "Soft"))
    ]


def gap_claim(config: Config, served: Arrays) -> Claim:
    """The certificate of the policies."""
    gaps = served["gaps"]
    return Claim(
        f"Duality gap of MaxMin on learned rewards after {config.dual_steps} steps, the largest "
        f"of {gaps[..., 0].size} worlds",
        gaps[..., -1].max(),
        "<=",
        1e-6,
        kind="theorem",
        source="strong duality: max_pi min_u F_u = min_w g(w)",
        baseline=("equal weights, step 0", gaps[..., 0].max()),
    )


def moving_claims(config: Config, moving: Arrays) -> list[Claim]:
    """Policy and weights that move in turns."""
    worst, moved, majority = (moving[name][:, -1] for name in MOVED)
    return [
        mean_claim(
            f"True rewards, {config.policy_steps} steps of policy and weights in turns: what the "
            "worst group lacks of the best, exponentiated weights over the worst group's alone",
            moved - worst,
            "<",
            0.0,
            kind="ours",
            source="the worst group's steps chatter: its weights never settle",
            baseline=("the majority's reward alone", (majority - worst).mean()),
        )
    ]


def shop_claims(config: Config, found: Arrays) -> list[Claim]:
    """The language panel, from the arrays of `shop.shop_study`; seeds are the units."""
    sizes = config.shop
    few = sizes.minority
    majority, rates = (
        dict(zip(TRAINED, found["win rates"][..., group].T, strict=True)) for group in (0, 1)
    )
    size = (
        f"{sizes.users - few} and {few} users, {sizes.rl_steps} steps of GRPO from the shop's SFT"
    )
    gates = [
        mean_claim(
            f"Shop: users that the mixture puts together, mean of both groups, {size}",
            found["recall"].mean(-1),
            ">=",
            0.95,
            kind="ours",
            source="a gate: without the groups there is nothing to serve",
            baseline=("everybody in one group", 0.5),
        ),
    ]
    claims = [
        mean_claim(
            f"Shop: minority's win rate over SFT with one reward, {size}",
            rates["one reward"],
            "<",
            0.5,
            kind="paper",
            source="42% of the minority at 10:1",
            baseline=("MaxMin", rates["MaxMin"].mean()),
        ),
        mean_claim(
            f"Shop: minority's win rate over SFT, MaxMin minus one reward, {size}",
            rates["MaxMin"] - rates["one reward"],
            ">",
            0.0,
            kind="paper",
            source="56.7% in place of 42% at 10:1",
            baseline=(
                "the majority's in its place",
                float((majority["MaxMin"] - majority["one reward"]).mean()),
            ),
        ),
    ]
    return behind_gates(gates, claims)
