"""What rm_ensembles claims, from gold scores [seeds, n] of the best of n by each proxy."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.rm_ensembles.config import Config
from experiments.rm_ensembles.members import uwo
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim, share_claim

Worlds = Mapping[str, Mapping[str, np.ndarray]]
BEST = uwo(2.0)
PAPER = {
    "kind": "paper",
    "source": "Coste et al. 2023, Fig. 3 and Section 5, 25% label noise; thresholds of this world",
}


def all_claims(config: Config, stages: Mapping[str, Worlds]) -> list[Claim]:
    """In the order of the stages; each names the number of candidates."""
    noisy, clean, control = (stages[name] for name in ("noise", "no-noise", "shared-errors"))
    return [
        *drop_claims(config, noisy),
        *final_claims(config, noisy),
        *baseline_claims(config, noisy),
        *start_claims(config, noisy),
        *regularised_claims(config, noisy),
        *clean_claims(config, noisy, clean),
        *control_claims(config, noisy, control),
    ]


def relative_drop(gold: np.ndarray) -> float:
    """Of the mean curve: (peak - final) / (peak - base), 0 where it ends at its peak."""
    mean = gold.mean(0)
    peak = mean.max()
    return float((peak - mean[-1]) / (peak - mean[0])) if peak > mean[0] else 1.0


def fewer(gold: np.ndarray, other: np.ndarray) -> float:
    """How much more of its peak the second curve loses."""
    return relative_drop(other) - relative_drop(gold)


def drop_claims(config: Config, noisy: Worlds) -> list[Claim]:
    """Who over-optimises, best of all candidates."""
    single, mean, best = (noisy["gold"][name] for name in ("single", "mean", BEST))
    n = f"best of {config.candidates}, {config.noise:.0%} noise"
    drop = partial(bootstrap_claim, **PAPER)
    return [
        drop(
            f"single model, {n}: relative drop of gold",
            relative_drop,
            [single],
            ">=",
            0.3,
            baseline=(BEST, relative_drop(best)),
        ),
        drop(
            f"{BEST}, {n}: relative drop of gold",
            relative_drop,
            [best],
            "<=",
            0.05,
            baseline=("single", relative_drop(single)),
        ),
        drop(
            f"{n}: drop of the single model minus that of the mean", fewer, [mean, single], ">", 0
        ),
        drop(f"{n}: drop of the mean minus that of {BEST}", fewer, [best, mean], ">", 0),
    ]


def final_claims(config: Config, noisy: Worlds) -> list[Claim]:
    """Final gold scores, world by world."""
    single, wide = (noisy["gold"][name][:, -1] for name in ("single", "wide"))
    return [
        share_claim(
            f"{name}, best of {config.candidates}, {config.noise:.0%} noise: share of worlds where "
            "final gold is above the single model's",
            noisy["gold"][name][:, -1] > single,
            ">=",
            0.9,
            baseline=("one model with the units of all", float((wide > single).mean())),
            **PAPER,
        )
        for name in ("WCO", uwo(1.0))
    ]


def baseline_claims(config: Config, noisy: Worlds) -> list[Claim]:
    """Against one large model, averaged weights and heads on one trunk; same pairs and passes."""
    about = {"kind": "ours", "source": "what an ensemble is worth beside its cheaper forms"}
    final = {name: gold[:, -1] for name, gold in noisy["gold"].items()}
    others = {
        "wide": "one model with the units of all",
        "averaged": "weight averaging (WARM)",
        f"shared trunk, {BEST}": f"{BEST} of heads on one trunk",
    }
    leads = [
        mean_claim(
            f"{BEST}, best of {config.candidates}, {config.noise:.0%} noise: final gold minus that "
            f"of {words}",
            final[BEST] - final[name],
            ">",
            0,
            **about,
        )
        for name, words in others.items()
    ]
    apart, heads = (noisy["correlation"][f"{name}, far"] for name in ("separate", "shared trunk"))
    return [
        *leads,
        mean_claim(
            "answers off the distribution: correlation of members' errors, heads on one trunk "
            "minus separate members",
            heads - apart,
            ">",
            0,
            **about,
        ),
    ]


def start_claims(config: Config, noisy: Worlds) -> list[Claim]:
    """What members must differ in: the scores that they start from, off the distribution."""
    near = f"narrow, {BEST}"
    apart, close = (noisy["correlation"][f"{name}, far"] for name in ("separate", "narrow"))
    about = {"kind": "ours", "source": "off the distribution a member is what it started from"}
    return [
        bootstrap_claim(
            f"{BEST}, best of {config.candidates}, {config.noise:.0%} noise: drop with first "
            f"weights {config.start / config.narrow:.2g} times smaller, minus the usual",
            fewer,
            [noisy["gold"][BEST], noisy["gold"][near]],
            ">",
            0,
            **about,
        ),
        mean_claim(
            "answers off the distribution: correlation of members' errors, smaller first weights "
            "minus the usual",
            close - apart,
            ">",
            0,
            **about,
        ),
    ]


def regularised_claims(config: Config, noisy: Worlds) -> list[Claim]:
    """The KL-regularised optimum at beta = 0.3."""
    place = config.betas.index(0.3)
    single = noisy["kl gold"]["single"][:, place]
    wide = noisy["kl gold"]["wide"][:, place]
    return [
        share_claim(
            f"{name}, KL-regularised optimum at beta 0.3: share of worlds where gold is above the "
            "single model's",
            noisy["kl gold"][name][:, place] > single,
            ">=",
            0.9,
            kind="ours",
            source="seen in ten worlds of this kind; the optimum of PPO, without its dynamics",
            baseline=("one model with the units of all", float((wide > single).mean())),
        )
        for name in ("WCO", uwo(1.0))
    ]


def clean_claims(config: Config, noisy: Worlds, clean: Worlds) -> list[Claim]:
    """Without noise there is nothing to mend."""
    return [
        bootstrap_claim(
            f"single model, best of {config.candidates}, no noise: relative drop of gold",
            relative_drop,
            [clean["gold"]["single"]],
            "<=",
            0.05,
            kind="ours",
            source="seen in ten worlds of this kind: nobody over-optimises",
            baseline=("the same with noise", relative_drop(noisy["gold"]["single"])),
        )
    ]


def control_claims(config: Config, noisy: Worlds, control: Worlds) -> list[Claim]:
    """Where all members err alike, the conservative proxies lose nearly what a single one does."""

    def kept(gold: np.ndarray, single: np.ndarray) -> float:
        return lost(gold) / lost(single) if lost(single) else 0.0

    def claim(name: str) -> Claim:
        usual = kept(noisy["gold"][name], noisy["gold"]["single"])
        return bootstrap_claim(
            f"shared errors, {name}, best of {config.candidates}: drop as a share of the single "
            "model's",
            kept,
            [control["gold"][name], control["gold"]["single"]],
            ">=",
            0.5,
            kind="ours",
            source="disagreement shows errors of one member only",
            baseline=("the same share with separate errors", usual),
        )

    return [claim(name) for name in ("WCO", uwo(1.0))]


def lost(gold: np.ndarray) -> float:
    """Peak minus end of the mean curve."""
    mean = gold.mean(0)
    return float(mean.max() - mean[-1])
