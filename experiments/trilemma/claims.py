"""What the trilemma experiment claims, from the arrays of its stages; seeds are the units."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.trilemma.collapse import average_odds
from experiments.trilemma.config import Config
from experiments.trilemma.studies import CURVES, MEASURES
from experiments.trilemma.triangle_claims import SPEC, lowest, triangle_claims
from experiments.trilemma.world import SYSTEMS, own_entropy
from rlhf_jax.exact.sample_costs import table_labels
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim

Arrays = Mapping[str, np.ndarray]
Rival = tuple[str, float] | None
Rivals = tuple[Rival, Rival]
ONE, ALL, LINEAR = CURVES


def all_claims(config: Config, stages: Mapping[str, Arrays]) -> list[Claim]:
    """In the order of the page."""
    return [
        *slope_claims(config, stages["costs"]),
        bound_claim(config, stages["costs"]),
        *share_claims(config, stages["costs"]),
        *triangle_claims(config, stages["triangle"]),
        *price_claims(config, stages["costs"]["prices"]),
        *collapse_claims(config, stages["collapse"]),
        *mix_claims(config, stages["mixes"]),
        *core_claims(config, stages["cores"]),
    ]


def within(
    statement: str, x: np.ndarray, low: float, high: float, *, rivals: Rivals, **about: Any
) -> list[Claim]:
    """Claims that the mean of units is between, each with the rival that must fail it."""
    return [
        mean_claim(f"{statement}, at least", x, ">=", low, baseline=rivals[0], **about),
        mean_claim(f"{statement}, at most", x, "<=", high, baseline=rivals[1], **about),
    ]


# ---- Labels to the target.


def known(labels: np.ndarray) -> np.ndarray:
    """NaN where the target is not reached: a claim about it then fails."""
    return np.where(np.isfinite(labels), labels, np.nan)


def slopes(config: Config, labels: np.ndarray) -> np.ndarray:
    """[N] of log2 labels [bits, N] against d; all NaN if a target is not reached."""
    if not np.isfinite(labels).all():
        return np.full(labels.shape[1], np.nan)
    return np.polyfit(config.bits, np.log2(labels), 1)[0]


def slope_claims(config: Config, costs: Arrays) -> list[Claim]:
    """1 without structure, less with it."""
    found = {name: slopes(config, costs[name][0]) for name in CURVES}
    span = f"d = {config.bits[0]} to {config.bits[-1]}"
    aim = f"labels to an error of {config.target:g} of the worst-off group"
    people = {ONE: "one group", ALL: f"groups of shares {shares_of(config)}"}
    structured = (LINEAR, found[LINEAR].mean())
    claims = []
    for name in (ONE, ALL):
        claims += within(
            f"A table for each group, values without structure, {people[name]}, {span}: slope of "
            f"log2 of the {aim}",
            found[name],
            0.85,
            1.15,
            kind="paper",
            source=f"Omega(2^d); 1 +- 0.15 is the {SPEC}",
            rivals=(structured, None),
        )
    return [
        *claims,
        mean_claim(
            f"A linear reward for each group, linear values, {people[ALL]}, {span}: slope of log2 "
            f"of the {aim}",
            found[LINEAR],
            "<=",
            0.6,
            kind="ours",
            source=f"polynomial where structure is known: {SPEC}, 0.40",
            baseline=(ALL, found[ALL].mean()),
        ),
    ]


def shares_of(config: Config) -> str:
    """The shares in words."""
    return ", ".join(f"{x:g}" for x in config.shares)


def least_labels(config: Config, curve: str, bits: int) -> float:
    """The bound on labels for contexts that count alike."""
    alone = "one" in curve
    return table_labels(
        contexts=2**bits,
        share=1.0 if alone else config.shares[-1],
        error=config.target,
        flip_rate=config.flip_rate,
        entropy=1.0 if alone else own_entropy(config.overlap),
    )


def bound_shares(config: Config, costs: Arrays, curve: str) -> np.ndarray:
    """Labels over the bound on tables [bits, N], contexts counting alike."""
    labels = costs[curve][MEASURES.index("contexts")]
    bounds = [least_labels(config, curve, bits) for bits in config.bits]
    return labels / np.array(bounds)[:, None]


def bound_claim(config: Config, costs: Arrays) -> Claim:
    """No table is learnt below the bound; a linear reward is."""
    found = known(np.concatenate([bound_shares(config, costs, name) for name in (ONE, ALL)]))
    least = found[found.mean(1).argmin()]
    return mean_claim(
        f"Tables, one group and all groups, d = {config.bits[0]} to {config.bits[-1]}, contexts "
        f"counted alike: labels to an error of {config.target:g} over Fano's bound, where that is "
        "least",
        least,
        ">=",
        1.0,
        kind="theorem",
        source="n >= (S / alpha) (H - h(eps)) / (1 - h(f)), derived",
        baseline=(
            f"{LINEAR}, d = {config.bits[-1]}",
            bound_shares(config, costs, LINEAR)[-1].mean(),
        ),
    )


def share_claims(config: Config, costs: Arrays) -> list[Claim]:
    """What the smallest group costs."""
    every, one, linear = (known(costs[name][0]) for name in (ALL, ONE, LINEAR))
    ratios, against = np.log(every / one).mean(0), np.log(linear / one).mean()
    price, share = 1.0 / config.shares[-1], config.shares[-1]
    return within(
        f"Tables: log of labels with groups of shares {shares_of(config)} over labels with one, "
        f"mean over d = {config.bits[0]} to {config.bits[-1]}",
        ratios,
        float(np.log(price / 2)),
        float(np.log(price * 2)),
        kind="ours",
        source=f"F1: 1 / alpha = {price:g} for a smallest share of {share:g}, within a factor of 2",
        rivals=((f"{LINEAR} over the same", against), None),
    )


# ---- Robust, collapse, ways out.


def price_claims(config: Config, prices: np.ndarray) -> list[Claim]:
    """What flips cost; the last attack over none."""
    logs = np.log(known(prices) / known(prices[0]))
    last, names = logs[-1], [f"{x:g}" for x in config.attacks]
    size = f"A table for each group, d = {config.price_bits}"
    return [
        *within(
            f"{size}: log of the labels with {names[-1]} more flips over those with none",
            last,
            float(np.log(4.0)),
            float(np.log(16.0)),
            kind="ours",
            source="F2: 6.25 for one vote at 0.3, ln 6.25 = 1.83; 4 to 16 is the "
            "acceptance of this design",
            rivals=((f"{names[1]} more flips", logs[1].mean()), None),
        ),
        mean_claim(
            f"{size}: log of the labels at each attack in {', '.join(names)} over those at the one "
            "before, where it is least",
            lowest(np.diff(logs, axis=0)),
            ">",
            0.0,
            kind="ours",
            source="F2: the price rises with every flip",
            baseline=("none over itself", 0.0),
        ),
    ]


def mass(log_odds: np.ndarray) -> np.ndarray:
    """Probability of an option from its log-odds."""
    return 1.0 / (1.0 + np.exp(-log_odds))


def collapse_claims(config: Config, arrays: Arrays) -> list[Claim]:
    """What a KL weight makes of a majority."""
    share, beta = config.shares[0], config.betas[-1]
    odds = np.log(average_odds(share, margin=config.margin, beta=beta))
    ratio = arrays["Bradley-Terry reward"][-1] / float(odds)
    sure = config.margin / beta / float(odds)
    size = f"{config.labels} labels, {share:.0%} of the people against the others"
    return [
        mean_claim(
            f"DPO at beta = {beta:g}, {size}: probability of the majority's option",
            mass(arrays["DPO"][-1]),
            ">=",
            0.99,
            kind="paper",
            source="abstract: more than 99% of the probability on majority opinions",
            baseline=("MaxMin, same labels and beta", mass(arrays["MaxMin"][-1]).mean()),
        ),
        *within(
            f"One Bradley-Terry reward at beta = {beta:g}, {size}: its log-odds over "
            "(2 share - 1) margin / beta",
            ratio,
            0.8,
            1.2,
            kind="ours",
            source="the odds under the average reward; 1 +- 0.2",
            rivals=(
                ("MaxMin", (arrays["MaxMin"][-1] / float(odds)).mean()),
                ("the majority's own reward", sure),
            ),
        ),
    ]


def mix_claims(config: Config, mixes: Arrays) -> list[Claim]:
    """Structure that is half true: labels do not help a linear reward, they help a table."""
    place = len(config.mixes) // 2
    few, many = mixes["errors"][0, place], mixes["errors"][1, place]
    gains = {name: (few - many)[:, SYSTEMS.index(name)] for name in SYSTEMS}
    mix = config.mixes[place]
    return [
        mean_claim(
            f"Group linear, {mix:g} of the variance outside the features, d = {config.mix_bits}: "
            f"what {config.many} times {config.labels} labels take off the error of the worst-off "
            "group",
            gains["group linear"],
            "<=",
            0.05,
            kind="ours",
            source="F4: the error ends at what is outside the features; 0.05 is the target",
            baseline=("group table", gains["group table"].mean()),
        ),
        mean_claim(
            f"Group table, same values, {config.many * config.labels} labels: error of the "
            "worst-off group, below group linear by",
            (many[:, SYSTEMS.index("group linear")] - many[:, SYSTEMS.index("group table")]),
            ">",
            0.0,
            kind="ours",
            source="a table assumes nothing",
            baseline=(
                f"{config.labels} labels",
                (
                    few[:, SYSTEMS.index("group linear")] - few[:, SYSTEMS.index("group table")]
                ).mean(),
            ),
        ),
    ]


def core_claims(config: Config, cores: Arrays) -> list[Claim]:
    """A few core values, without group ids."""
    last = config.cores[-1]
    return [
        mean_claim(
            f"{last} core values by EM, {config.people} people of {config.comparisons} "
            f"comparisons, linear values, d = {config.core_bits}: error of the worst-off group",
            cores[str(last)],
            "<=",
            0.15,
            kind="ours",
            source="the way out K << |H|; half of what any system without ids has in the triangle",
            baseline=("one reward", cores["1"].mean()),
        )
    ]
