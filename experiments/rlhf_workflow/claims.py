"""What iterative DPO claims against DPO on pairs of the reference."""

from collections.abc import Mapping

import numpy as np

from experiments.rlhf_workflow.config import Config
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim, share_claim

Paths = Mapping[str, Mapping[str, np.ndarray]]
ABOUT = {"kind": "ours", "source": "Sec. 3 in a linear bandit; threshold from 20 seeds of a trial"}


def round_claims(config: Config, paths: Paths) -> list[Claim]:
    """Gaps at the end, and how fast they fall."""
    ends = {name: found["gap"][:, -1] for name, found in paths.items()}
    labels = config.rounds * config.pairs
    offline = ends["offline"]

    def wins(name: str, threshold: float) -> Claim:
        return share_claim(
            f"bandits where the gap of {name} is below that of offline DPO, {labels} labels",
            ends[name] < offline,
            ">=",
            threshold,
            baseline=(
                "offline, best and worst",
                np.mean(ends["offline, best and worst"] < offline),
            ),
            **ABOUT,
        )

    def slopes(name: str) -> np.ndarray:
        rounds = np.log(np.arange(1, config.rounds + 1))
        return np.polyfit(rounds, np.log(paths[name]["gap"][:, 1:]).T, 1)[0]

    return [
        wins("enhancer", 0.9),
        wins("online", 0.75),
        bootstrap_claim(
            f"mean gap of offline DPO over that of the enhancer, {labels} labels",
            lambda a, b: float(a.mean() / b.mean()),
            (offline, ends["enhancer"]),
            ">=",
            2.0,
            baseline=(
                "offline, best and worst",
                offline.mean() / ends["offline, best and worst"].mean(),
            ),
            **ABOUT,
        ),
        mean_claim(
            "slope of log gap over log labels, online less offline",
            slopes("online") - slopes("offline"),
            "<=",
            -0.1,
            baseline=(
                "offline, best and worst",
                np.mean(slopes("offline, best and worst") - slopes("offline")),
            ),
            **ABOUT,
        ),
    ]


def trap_claims(config: Config, paths: Paths) -> list[Claim]:
    """Labels without noise, and a reference that moves."""
    rising = paths["online, best and worst, sure labels"]["gap"]
    calm = paths["online, best and worst"]["gap"][: len(rising)]
    moved = paths["online, last policy as reference"]["kl"]
    fixed, best = (paths["online"][key][: len(moved)] for key in ("kl", "best_kl"))
    return [
        mean_claim(
            "online DPO on best and worst with sure labels: gap at the end less that after a round",
            rising[:, -1] - rising[:, 1],
            ">=",
            0.1,
            kind="ours",
            source="KL-regularised optima need calibrated labels; 0.61 to 0.89 in 20 seeds",
            baseline=("Bradley-Terry labels", np.mean(calm[:, -1] - calm[:, 1])),
        ),
        mean_claim(
            f"KL to pi_0 after {config.rounds} rounds with the last policy as reference, in units "
            "of that of pi*",
            moved[:, -1] / best[:, -1],
            ">=",
            2.0,
            kind="ours",
            source="the optimum of T rounds is pi_0 exp(T r / eta)",
            baseline=("pi_0 as reference", np.mean(fixed[:, -1] / best[:, -1])),
        ),
    ]


def promise_claims(config: Config, found: Mapping[str, np.ndarray]) -> list[Claim]:
    """The offline guarantee: kept, empty where data are few, not empty where they are many."""
    few, many = config.sizes[0], config.sizes[-1]
    source = "Zhu et al. 2023, arXiv:2301.11270, Theorem 3.2"
    return [
        share_claim(
            f"bandits where pessimism loses no more than the bound, {few} to {many} pairs of the "
            f"reference, weights times {config.guarantee_scale:g}",
            (found["loss"] <= found["bound"]).all(0),
            ">=",
            0.8,
            kind="theorem",
            source=f"{source}; confidence 0.95 at each of {len(config.sizes)} sizes",
            baseline=(
                "a bound a hundredth as large",
                np.mean((found["loss"] <= found["bound"] / 100).all(0)),
            ),
        ),
        share_claim(
            f"bandits where the bound is vacuous, {few} pairs of the reference, weights times "
            f"{config.guarantee_scale:g}",
            found["vacuous"][0],
            ">=",
            0.8,
            kind="ours",
            source="a bound above the range of rewards says nothing",
            baseline=(f"{many} pairs", found["vacuous"][-1].mean()),
        ),
    ]
