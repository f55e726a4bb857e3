"""What rl_perspective claims; the unit is a seed."""

from collections.abc import Mapping

import numpy as np

from experiments.rl_perspective.config import Config, Tokens
from experiments.rl_perspective.prompts import gap_closed
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim, share_claim
from rlhf_jax.reports.rates import fit_rate

Arrays = Mapping[str, np.ndarray]
PREFIXES = "Q-learning on prefixes, replay"
REPLAYED = "Q-learning on positions, replay"
EQUAL = "BC, as many episodes"  # as RLHF sees, demonstrations and pairs


def compounding_claims(config: Config, costs: Arrays) -> list[Claim]:
    """Slopes of log cost in log T, and the last costs; the unit is a rope with its data."""
    names = ("BC", EQUAL, "MaxEnt IRL", "RLHF")
    slopes = {name: cost_slopes(config, costs[name]) for name in names}
    longest = config.compounding.horizons[-1]
    about = {"kind": "paper", "source": "planning has no compounding error"}
    steep = [
        mean_claim(
            f"{name}: slope of log cost in log T",
            slopes[name],
            ">=",
            1.8,
            kind="theorem",
            source="slips compound: cost of order T^2",
            baseline=("RLHF", slopes["RLHF"].mean()),
        )
        for name in names[:2]
    ]
    flat = [
        mean_claim(
            f"{name}: slope of log cost in log T",
            slopes[name],
            "<=",
            1.2,
            baseline=(EQUAL, slopes[EQUAL].mean()),
            **about,
        )
        for name in names[2:]
    ]

    def last_over(name: str, under: str) -> np.ndarray:
        return (costs[name] / costs[under])[:, -1]

    rival = "BC, as many with slips"
    return [
        *steep,
        *flat,
        mean_claim(
            f"RLHF: cost over that of BC, T = {longest}",
            last_over("RLHF", "BC"),
            "<=",
            0.05,
            baseline=(EQUAL, last_over(EQUAL, "BC").mean()),
            **about,
        ),
        mean_claim(
            f"RLHF: cost over that of BC from as many demonstrations with slips, T = {longest}",
            last_over("RLHF", rival),
            "<=",
            1.0,
            baseline=(EQUAL, last_over(EQUAL, rival).mean()),
            **about,
        ),
    ]


def cost_slopes(config: Config, costs: np.ndarray) -> np.ndarray:
    """Slope of each seed, from costs [seeds, horizons]."""
    return fit_rate(config.compounding.horizons, costs, law="power").slopes


def prompt_claims(found: Arrays) -> list[Claim]:
    """Gaps closed with all logged queries, and more queries never do worse in the mean."""
    closed = {which: gap_closed(found, which) for which in ("logged prompts", "all prompts")}
    curves = [found[f"OIRL, {which}"] for which in closed]
    about = {"kind": "ours", "source": "a reward model chooses prompts; 0 is the best single one"}

    def least_rise(*curves: np.ndarray) -> float:
        return float(min(np.diff(each.mean(0)).min() for each in curves))

    return [
        mean_claim(
            "OIRL, logged prompts: mean gap closed",
            closed["logged prompts"][:, -1],
            ">=",
            0.9,
            baseline=("fewest queries", closed["logged prompts"][:, 0].mean()),
            **about,
        ),
        share_claim(
            "OIRL, all prompts: share of seeds that close 0.8 of the gap",
            closed["all prompts"][:, -1] >= 0.8,
            ">=",
            0.8,
            baseline=("fewest queries", np.mean(closed["all prompts"][:, 0] >= 0.8)),
            **about,
        ),
        bootstrap_claim(
            "OIRL: least rise of mean success with more queries",
            least_rise,
            curves,
            ">",
            0.0,
            baseline=("a prompt at random", 0.0),
            **about,
        ),
    ]


def token_claims(config: Tokens, curves: Arrays) -> list[Claim]:
    """Shares of right tokens at the end [vocabularies, seeds]; the rival is tuned on the seeds."""
    sizes = config.vocabularies
    ends = {name: curve[..., -1] for name, curve in curves.items()}
    values, least, most = ends["Q-learning"], sizes[0], sizes[-1]
    worst = ends["REINFORCE"][ends["REINFORCE"].mean(-1).argmin()]
    prefixes = {name: each[0] for name, each in ends.items() if name.startswith(PREFIXES)}
    rival = max(prefixes.values(), key=np.mean)
    about = {"kind": "ours", "source": "on-policy data against bootstrapped maxima"}
    policy = ("REINFORCE", ends["REINFORCE"][0].mean())
    return [
        mean_claim(
            "REINFORCE: share of right tokens, worst |V|",
            worst,
            ">=",
            0.95,
            baseline=(f"Q-learning, |V| = {least}", values[0].mean()),
            **about,
        ),
        mean_claim(
            f"REINFORCE: lead over Q-learning on prefixes with replay, |V| = {least}, best rate",
            ends["REINFORCE"][0] - rival,
            ">",
            0.0,
            baseline=(REPLAYED, (ends[REPLAYED][0] - rival).mean()),
            **about,
        ),
        mean_claim(
            f"Q-learning on positions: share of right tokens, |V| = {least}",
            values[0],
            "<=",
            0.5,
            baseline=policy,
            **about,
        ),
        mean_claim(
            f"Q-learning on positions: share at |V| = {most} less that at {least}",
            values[-1] - values[0],
            "<",
            0.0,
            baseline=("REINFORCE", (ends["REINFORCE"][-1] - ends["REINFORCE"][0]).mean()),
            **about,
        ),
        mean_claim(
            f"Q-learning, |V| = {least}: lead of prefixes with replay over positions",
            prefixes[f"{PREFIXES}, rate {config.q_rate:g}"] - values[0],
            ">",
            0.0,
            baseline=(REPLAYED, (ends[REPLAYED][0] - values[0]).mean()),
            **about,
        ),
    ]
