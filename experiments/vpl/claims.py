"""What vpl claims, from the arrays of its stages; seeds are the units."""

from collections.abc import Mapping

import numpy as np

from experiments.vpl.config import Config
from experiments.vpl.studies import RULES
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim, mean_interval

Arrays = Mapping[str, np.ndarray]
PAPER = {"kind": "paper", "source": "a latent recovers each user's reward; Bradley-Terry averages"}


def all_claims(config: Config, stages: Mapping[str, Arrays]) -> list[Claim]:
    """In the order of the page."""
    return [
        *user_claims(config, stages["two"]),
        *identity_claims(config, stages["two"], stages["sweep"]),
        *curve_claims(stages),
        *beta_claims(config, stages["sweep"]),
        *scale_claims(config, stages["scales"]),
        *query_claims(config, stages),
        *grid_claims(stages["grid"]),
    ]


def user_claims(config: Config, two: Arrays) -> list[Claim]:
    """Two users with opposite tastes."""
    plain, served = two["no latent"], two["vpl"][:, -1]
    shown = f"{config.context} comparisons shown"
    return [
        *Claim.within(
            "users u and -u, Bradley-Terry without a latent: accuracy",
            plain.mean(),
            0.47,
            0.53,
            kind="theorem",
            source="opposite rewards in equal shares give P = 1/2 for every pair",
            interval=mean_interval(plain),
        ),
        mean_claim(
            f"users u and -u, VPL, {shown}: accuracy on unseen pairs",
            served,
            ">=",
            0.95,
            baseline=("Bradley-Terry", plain.mean()),
            **PAPER,
        ),
    ]


def identity_claims(config: Config, two: Arrays, sweep: Arrays) -> list[Claim]:
    """Who a user is, by the nearest of the kinds' mean latents. The largest beta must fail: its
    posterior is the prior."""
    collapsed = f"beta {config.betas[-1]:g}"
    names = {"identified": "posterior means", "identified by a draw": "draws from the posterior"}
    return [
        mean_claim(
            f"users u and -u, VPL, {config.context} comparisons shown: identified by {shown}",
            two[name],
            ">=",
            0.95,
            baseline=(collapsed, sweep[name][:, -1].mean()),
            **PAPER,
        )
        for name, shown in names.items()
    ]


def curve_claims(stages: Mapping[str, Arrays]) -> list[Claim]:
    """More comparisons, better service."""
    found = []
    for name, users in (("two", "users u and -u"), ("four", "four random users")):
        gains = np.diff(stages[name]["vpl"], axis=1)
        least = gains[:, gains.mean(0).argmin()]
        found.append(
            mean_claim(
                f"{users}, VPL: least gain in accuracy from one number of comparisons to the next",
                least,
                ">",
                0,
                kind="ours",
                source="the posterior sharpens with what is seen",
                baseline=("Bradley-Terry, which sees none", 0.0),
            )
        )
    four = stages["four"]
    lead = four["vpl"][:, -1] - four["no latent"]
    return [
        *found,
        mean_claim("four random users: lead of VPL over Bradley-Terry", lead, ">", 0, **PAPER),
    ]


def beta_claims(config: Config, sweep: Arrays) -> list[Claim]:
    """The largest weight of the KL leaves the prior: Bradley-Terry."""
    last, first = sweep["vpl"][:, -1], sweep["vpl"][:, 0]
    beta = config.betas[-1]
    return [
        mean_claim(
            f"users u and -u, beta {beta:g}: accuracy, the posterior being the prior",
            last,
            "<=",
            0.53,
            kind="theorem",
            source="special case: beta without bound is Bradley-Terry",
            baseline=(f"beta {config.betas[0]:g}", first.mean()),
        )
    ]


def scale_claims(config: Config, scales: Arrays) -> list[Claim]:
    """Ranges of the second user's rewards over those of the first."""

    def ratio(ranges: np.ndarray) -> float:
        first, second = ranges.mean(0)
        return float(second / first)

    raw, rates = scales["raw range"], scales["win rate range"]
    larger = f"utilities of the second user times {config.scale:g}"
    known = {"kind": "paper", "source": "VPL-SPO: win rates share one scale over latents"}
    return [
        bootstrap_claim(
            f"{larger}: range of its raw rewards over that of the first",
            ratio,
            [raw],
            ">",
            2,
            kind="ours",
            source="well beyond the 1.25 that is asked of win rates",
            baseline=("win rates", ratio(rates)),
        ),
        bootstrap_claim(
            f"{larger}: range of its win-rate rewards over that of the first, at least",
            ratio,
            [rates],
            ">=",
            0.8,
            **known,
        ),
        bootstrap_claim(
            f"{larger}: range of its win-rate rewards over that of the first, at most",
            ratio,
            [rates],
            "<=",
            1.25,
            baseline=("raw rewards", ratio(raw)),
            **known,
        ),
    ]


def query_claims(config: Config, stages: Mapping[str, Arrays]) -> list[Claim]:
    """Chosen sets against twice as many random comparisons."""
    found = []
    doubled = [config.sizes.index(2 * size) for size in config.asked]
    for rule in RULES[1:]:
        for name, users in (("two", "users u and -u"), ("four", "four random users")):
            chosen = stages[name]["active"][:, RULES.index(rule)]
            leads = chosen - stages[name]["vpl"][:, doubled]
            halves = stages[name]["active"][:, 0] - stages[name]["vpl"][:, doubled]
            worst = leads.mean(0).argmin()
            found.append(
                mean_claim(
                    f"{users}, sets by {rule}: least lead over twice as many random comparisons",
                    leads[:, worst],
                    ">=",
                    0,
                    kind="paper",
                    source="active queries need about half as many",
                    baseline=("random sets", halves.mean(0).min()),
                )
            )
    return found


def grid_claims(grid: Arrays) -> list[Claim]:
    """Whose goal a planned policy reaches first."""
    own, plain = grid["vpl"][:, 0, -1], grid["no latent"][:, 0, -1]
    return [
        mean_claim(
            "grid with two goals, policies planned on VPL's win rates: own goal reached first",
            own,
            ">=",
            0.95,
            baseline=("Bradley-Terry", plain.mean()),
            **PAPER,
        )
    ]
