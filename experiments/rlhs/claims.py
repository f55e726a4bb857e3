"""What is claimed: of both algorithms on the market, and of steps seen on random chains.

market: {"dpo" or "ppo": [N, kinds, times, 3]} of `market.means`, by `learners.label_kinds`.
chains: {"mean", "largest", "accuracy", "blind accuracy": [chains, horizons]}.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.rlhs.chains import gap_bound
from experiments.rlhs.config import Config
from experiments.rlhs.learners import label_kinds
from experiments.rlhs.shop import BEFORE, MEASURES
from rlhf_jax.labs.shop_models import GATES
from rlhf_jax.reports.claims import Claim, behind_gates
from rlhf_jax.reports.intervals import mean_claim, mean_interval
from rlhf_jax.reports.rates import bound_claim, fit_rate

Arrays = Mapping[str, np.ndarray]
UTILITY, SATISFACTION = 0, 1
ORACLE = 0.6  # a right good can be bought at its price in 0.6 of the states; else nothing is best
TRUSTED = 0.75  # the least accuracy of which utility and satisfaction are claimed
SPEC = "acceptance of this design, from a NumPy run of it"
NAMES = {"dpo": "DPO", "ppo": "PPO on a reward model"}


def final(config: Config, runs: np.ndarray, column: int) -> dict[str, np.ndarray]:
    """Name of the labels -> [N] of a column of `means` at the end."""
    names = [name for name, _, _ in label_kinds(config)]
    return dict(zip(names, runs[:, :, -1, column].T, strict=True))


def hindsight(config: Config, runs: np.ndarray, column: int) -> np.ndarray:
    """[N, accuracies], an outcome simulated for each message."""
    found = final(config, runs, column)
    return np.stack([found[f"hindsight, q = {q:g}"] for q in config.accuracies], axis=-1)


def all_claims(config: Config, market: Arrays, chains: Arrays) -> list[Claim]:
    """In the order of the page."""
    made = [claim for name in NAMES for claim in market_claims(config, name, market[name])]
    return [*made, *chain_claims(config, chains)]


def market_claims(config: Config, algorithm: str, runs: np.ndarray) -> list[Claim]:
    """Foresight pleases and harms; hindsight of a good enough model serves."""
    name, pairs = NAMES[algorithm], f"{config.pairs:,} pairs"
    utility, content = final(config, runs, UTILITY), final(config, runs, SATISFACTION)
    before = runs[:, 0, 0]
    trusted = np.array(config.accuracies) >= TRUSTED
    by_accuracy = hindsight(config, runs, UTILITY)
    gap = hindsight(config, runs, SATISFACTION) - by_accuracy
    true, blind = "hindsight, q = 1", "hindsight, q = 0.5"
    lost, kept = utility["foresight"] < before[:, UTILITY], utility[true] < before[:, UTILITY]
    return [
        Claim(
            f"Share of the {config.num_seeds} data sets of this run in which {name}, labels by "
            f"foresight, {pairs}, ends below the reference's utility",
            np.mean(lost),
            ">=",
            0.9,
            kind="ours",
            source=f"{SPEC}: 9 of 10; Table 1 has utility -0.51 (DPO) and -0.71 (PPO)",
            baseline=(true, np.mean(kept)),
        ),
        mean_claim(
            f"{name}, labels by foresight: satisfaction",
            content["foresight"],
            ">=",
            0.98,
            kind="ours",
            source=f"{SPEC}; Table 1 has rating 0.95 (DPO) and 0.97 (PPO)",
            baseline=("the reference", before[:, SATISFACTION].mean()),
        ),
        mean_claim(
            f"{name}, labels by foresight: satisfaction minus utility",
            content["foresight"] - utility["foresight"],
            ">",
            1.0,
            kind="paper",
            source="Table 1: 1.46 (DPO) and 1.68 (PPO)",
            baseline=(true, (content[true] - utility[true]).mean()),
        ),
        mean_claim(
            f"{name}, labels by hindsight, {pairs}: lowest utility of the models with q >= "
            f"{TRUSTED:g}",
            by_accuracy[:, trusted].min(-1),
            ">=",
            0.95 * ORACLE,
            kind="ours",
            source=f"{SPEC}: 0.95 of the highest possible, {ORACLE:g}",
            baseline=(blind, utility[blind].mean()),
        ),
        mean_claim(
            f"{name}, labels by hindsight: largest satisfaction minus utility, q >= {TRUSTED:g}",
            gap[:, trusted].max(-1),
            "<",
            0.02,
            kind="ours",
            source=SPEC,
            baseline=(blind, (content[blind] - utility[blind]).mean()),
        ),
        slope_claim(config, name, runs),
    ]


def slope_claim(config: Config, name: str, runs: np.ndarray) -> Claim:
    """Utility does not fall where the world model gets better."""
    steps = np.diff(hindsight(config, runs, UTILITY))
    content = np.diff(hindsight(config, runs, SATISFACTION).mean(0))
    qs = ", ".join(f"{q:g}" for q in config.accuracies)
    return mean_claim(
        f"{name}, labels by hindsight: smallest step of the mean utility along q = {qs}",
        steps[:, steps.mean(0).argmin()],
        ">=",
        0.0,
        kind="ours",
        source=f"{SPEC}: it does not fall",
        baseline=("the same of satisfaction", content.min()),
    )


def chain_claims(config: Config, chains: Arrays) -> list[Claim]:
    """Errors vanish as gamma to the number of steps seen."""
    steps, log_gamma = np.array(config.horizons, float), np.log(config.gamma)
    rate = fit_rate(steps, chains["mean"], law="linear")
    words = "Slope of the log mean |error of the utility gap| against steps seen, "
    words += f"{config.chain_pairs:,} pairs in each of {config.chains} chains"
    about: dict[str, Any] = {"kind": "theorem", "interval": (rate.low, rate.high)}
    about["source"] = f"bound of the paper by 2 gamma^n / (1 - gamma): log gamma = {log_gamma:.4f}"
    still = np.tile(chains["largest"][:, :1], (1, len(steps)))
    first, last = chains["accuracy"][:, 0], chains["accuracy"][:, -1]
    blind = chains["blind accuracy"][:, -1] - first
    return [
        Claim(f"{words}, at least", rate.slope, ">=", 1.05 * log_gamma, **about),
        Claim(
            f"{words}, at most",
            rate.slope,
            "<=",
            0.95 * log_gamma,
            baseline=("a teacher who sees no step", 0.0),
            **about,
        ),
        bound_claim(
            "Largest error of the utility gap as a share of 2 gamma^n / (1 - gamma), any pair",
            chains["largest"],
            gap_bound(config),
            source="its Theorem 1, as it is told by a review",
            baseline=("a teacher who sees no step", still),
        ),
        *Claim.within(
            "Accuracy of labels by foresight, beliefs set by persuasion",
            first.mean(),
            0.48,
            0.52,
            kind="ours",
            source=f"{SPEC}: chance",
            interval=mean_interval(first),
        ),
        mean_claim(
            f"Accuracy of labels after {config.horizons[-1]} steps minus that by foresight",
            last - first,
            ">",
            0.05,
            kind="ours",
            source=f"{SPEC}: 0.71 beside 0.50; below 1, as one path of many is seen",
            baseline=("as many steps of other paths", blind.mean()),
        ),
    ]


# ---- The shop.


def of_worlds(shop: Mapping[str, Arrays], name: str, measure: str) -> np.ndarray:
    """[worlds] the mean of a measure over held-out prompts."""
    return shop["values"][name][:, MEASURES.index(measure)].mean(-1)


def gain(shop: Mapping[str, Arrays], name: str, other: str, measure: str) -> np.ndarray:
    """By how much one policy is ahead of another, [worlds]."""
    return of_worlds(shop, name, measure) - of_worlds(shop, other, measure)


def shop_claims(config: Config, shop: Mapping[str, Arrays]) -> list[Claim]:
    """Of `shop.shop_study`; the units are worlds, each with a training of its own."""
    sizes, before, after = config.shop, "foresight", "hindsight"
    size = f"DPO on {sizes.pairs} tempting prompts, {sizes.worlds} x {sizes.prompts} held out"
    pleased = gain(shop, after, BEFORE, "satisfaction").mean()
    served = gain(shop, before, BEFORE, "utility").mean()

    def pleasing(name: str) -> float:
        return float(gain(shop, name, before, "satisfaction").mean())

    claims = [
        mean_claim(
            f"Shop: satisfaction at once, labels in foresight minus SFT, {size}",
            gain(shop, before, BEFORE, "satisfaction"),
            ">",
            0.0,
            kind="paper",
            source="Table 1: immediate feedback has the highest rating",
            baseline=("hindsight minus SFT", float(pleased)),
        ),
        mean_claim(
            f"Shop: utility after the purchase, labels in hindsight minus SFT, {size}",
            gain(shop, after, BEFORE, "utility"),
            ">",
            0.0,
            kind="paper",
            source="Table 1: 0.23 (DPO) in hindsight",
            baseline=("foresight minus SFT", float(served)),
        ),
        mean_claim(
            f"Shop: utility after the purchase, labels in hindsight minus in foresight, {size}",
            gain(shop, after, before, "utility"),
            ">",
            0.0,
            kind="paper",
            source="Table 1: 0.23 beside -0.51 (DPO)",
            baseline=("satisfaction in its place", pleasing(after)),
        ),
        mean_claim(
            f"Shop: the same with a world model right about {sizes.accuracy:g} of what is hidden",
            gain(shop, "simulated hindsight", before, "utility"),
            ">",
            0.0,
            kind="paper",
            source="simulated outcomes suffice",
            baseline=("satisfaction in its place", pleasing("simulated hindsight")),
        ),
    ]
    return behind_gates(shop_gates(shop["competence"]), claims)


def shop_gates(competence: Arrays) -> list[Claim]:
    """The SFT policy can read its prompt."""
    return [
        mean_claim(
            f"Shop: the SFT policy's mean {name}, {competence[name].size} held-out prompts",
            competence[name],
            ">=",
            gate,
            kind="ours",
            source="the gate: a policy that cannot read its prompt proves nothing",
            baseline=("an answer of nothing", 0.0),
        )
        for name, gate in GATES.items()
    ]
