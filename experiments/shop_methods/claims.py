"""What shop_methods claims: only what a paper says of a method, and a gate of the reward model.

Seeds are the units of intervals; each has prompts, labels, a reward model and draws of its own.
"""

import numpy as np

from experiments.shop_methods.config import DIRECT, OFFLINE, ONLINE
from experiments.shop_methods.filters import MIDDLE, NONE, RANDOM, WORST
from experiments.shop_methods.findings import Findings
from experiments.shop_methods.names import CHANGED, POWER, SHIFT
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim, mean_interval

GATE = 0.6  # accuracy of the reward on held-out pairs
ROUNDING = 0.01  # of the way: a shift of 5 deviations rounds the differences of float32 scores
CONTROL = "osp_hard"  # not a method of its own: osp with its labels rounded


def all_claims(found: Findings, size: str) -> list[Claim]:
    """Gate, invariances, filters, leagues, greedy answers, soft labels, forgetting; not of what was
    not run.

    Args:
      size: of the labels and answers, in words.
    """
    return [
        *gate_claims(found, size),
        *invariance_claims(found),
        *filter_claims(found),
        *league_claims(found, size),
        *greedy_claims(found, size),
        *soft_claims(found, size),
        *direct_claims(found, size),
    ]


def gate_claims(found: Findings, size: str) -> list[Claim]:
    """The reward that online methods are paid tells answers apart."""
    return [
        mean_claim(
            f"reward implied by DPO, {size}: accuracy on held-out pairs",
            [one["implied"] for one in found.quality],
            ">=",
            GATE,
            kind="ours",
            source="the gate: a reward that cannot tell answers apart ranks no optimiser",
            baseline=("a coin", 0.5),
        )
    ]


def invariance_claims(found: Findings) -> list[Claim]:
    """RAFT reads only the order of rewards, P3O only differences within a prompt; PPO both."""
    claims = []
    if "raft" in found.controls:
        claims.append(
            Claim(
                "RAFT, exp(c r) in place of r: change of the parameters over that of training",
                found.controls["raft"][POWER],
                "==",
                0.0,
                kind="theorem",
                source="Dong et al. 2023, Section 3.2: only the order of rewards is used",
                baseline=("PPO", found.controls[CHANGED][POWER]),
            )
        )
    if "p3o" in found.controls:
        claims.append(
            Claim(
                "P3O, a shift of all rewards of a prompt: change of the parameters over that of "
                "training",
                found.controls["p3o"][SHIFT],
                "<=",
                ROUNDING,
                kind="theorem",
                source="Wu et al. 2023, Theorem 1: equivalent rewards give the same update; up to "
                "float32",
                baseline=("PPO", found.controls[CHANGED][SHIFT]),
            )
        )
    return claims


def filter_claims(found: Findings) -> list[Claim]:
    """PF-PPO's filters beat none where the middle of the reward is noise."""
    if not found.filters:
        return []
    golds = {name: np.array(each) for name, each in found.filters.items()}
    plain = golds[NONE]
    return [
        mean_claim(
            f"PF-PPO on gold with a noisy middle half, {len(plain)} draws: gold with the filter "
            f"{name!r} less that without one",
            golds[name] - plain,
            ">",
            0.0,
            kind="paper",
            source="Zhang et al. 2024, 2409.06957, table of pass@1: BR and BW above PPO-M",
            baseline=("the two in the middle", float((golds[MIDDLE] - plain).mean())),
        )
        for name in (WORST, RANDOM)
        if name in golds
    ]


def league_claims(found: Findings, size: str) -> list[Claim]:
    """Online methods beat offline ones from the same labels."""
    online = tuple(name for name in ONLINE if name != CONTROL)
    if not (found.several(OFFLINE) and found.several(online)):
        return []
    offline_gold, online_gold = found.league_gold(OFFLINE), found.league_gold(online)
    start = np.array([np.nanmean(one.gold) for one in found.start])
    return [
        mean_claim(
            f"{size}: gold of online methods less that of offline ones, means of those with all "
            "seeds",
            online_gold - offline_gold,
            ">",
            0.0,
            kind="paper",
            source="Dong et al. 2024, 2405.07863, Table 1: online iterations beat offline DPO",
            baseline=("SFT in place of online methods", float((start - offline_gold).mean())),
        )
    ]


def greedy_claims(found: Findings, size: str) -> list[Claim]:
    """What is learned is more than what a lower temperature gives without training."""
    names = [name for name in found.several(OFFLINE + ONLINE) if name != CONTROL]
    if not names:
        return []
    start = np.array([np.nanmean(one.greedy) for one in found.start])
    return [
        mean_claim(
            f"{size}: gold of greedy answers less that of SFT's, mean of the methods with all "
            "seeds",
            np.mean([found.greedy_golds(name) for name in names], axis=0) - start,
            ">",
            0.0,
            kind="ours",
            source="sampled answers also gain by a sharper policy, greedy ones only by a better",
            baseline=("SFT at any lower temperature: its greedy answers are the same", 0.0),
        )
    ]


def soft_claims(found: Findings, size: str) -> list[Claim]:
    """Soft labels keep the policy nearer to where it began than the same ones rounded.

    At one rate: the hard labels of online DPO, which takes a lower one, must keep it nearer still.
    """
    if not {"osp", CONTROL, "online_dpo"} <= set(found.numbers):
        return []
    soft, hard, slow = (found.kls(name) for name in ("osp", CONTROL, "online_dpo"))
    return [
        mean_claim(
            f"OSP, {size}, one rate: KL with hard labels less KL with soft ones, nats per answer",
            hard - soft,
            ">",
            0.0,
            kind="paper",
            source="Zhai et al. 2024, 2405.14103: soft labels keep within the trust region",
            baseline=("hard labels of online DPO at its own rate", (slow - soft).mean()),
        )
    ]


def direct_claims(found: Findings, size: str) -> list[Claim]:
    """RL without SFT forgets less than SFT, at its gold; undecided where it does not come to it."""
    others = [name for name in (*OFFLINE, *ONLINE) if name in found.numbers]
    if not ({*DIRECT} <= {*found.numbers} and others):
        return []
    (name,), start = DIRECT, found.start[0].forgetting  # one SFT policy for all seeds
    gold, least = found.golds(name), np.array([np.nanmean(one.gold) for one in found.start])
    kept = start - found.forgettings(name)
    rest = np.mean([start - found.forgettings(other).mean() for other in others])
    return [
        Claim(
            f"direct RL, {size}, gold {gold.mean():.3f} beside SFT's {least.mean():.3f}, undecided "
            "below it: loss of SFT on the base corpus less that of direct RL, nats per token",
            kept.mean(),
            ">",
            0.0,
            kind="paper",
            source="Zheng et al. 2024, 2403.02513, abstract: SFT loses knowledge, direct RL less",
            interval=mean_interval(kept) if (gold >= least).all() else (np.nan, np.nan),
            baseline=("the methods from SFT", float(rest)),
        )
    ]
