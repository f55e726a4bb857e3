"""What rl_perspective claims; the unit is a seed."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.rl_perspective.config import Config
from experiments.rl_perspective.prompts import gap_closed
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim, share_claim
from rlhf_jax.reports.rates import fit_rate

Arrays = Mapping[str, np.ndarray]
PREFIXES = "Q-learning on prefixes, replay"


def compounding_claims(config: Config, costs: Arrays) -> list[Claim]:
    """Slopes of log cost in log T, and the last costs; the unit is a seed's data."""
    slopes = {name: cost_slopes(config, costs[name]) for name in ("BC", "MaxEnt IRL", "RLHF")}
    longest = config.compounding.horizons[-1]
    about = {"kind": "paper", "source": "planning has no compounding error"}
    flat = [
        mean_claim(
            f"{name}: slope of log cost in log T",
            slopes[name],
            "<=",
            1.2,
            baseline=("BC", slopes["BC"].mean()),
            **about,
        )
        for name in ("MaxEnt IRL", "RLHF")
    ]
    return [
        mean_claim(
            "BC: slope of log cost in log T",
            slopes["BC"],
            ">=",
            1.8,
            kind="theorem",
            source="slips compound: cost of order T^2",
            baseline=("RLHF", slopes["RLHF"].mean()),
        ),
        *flat,
        mean_claim(
            f"RLHF: cost over that of BC, T = {longest}",
            (costs["RLHF"] / costs["BC"])[:, -1],
            "<=",
            0.05,
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
            **about,
        ),
        share_claim(
            "OIRL, all prompts: share of seeds that close 0.8 of the gap",
            closed["all prompts"][:, -1] >= 0.8,
            ">=",
            0.8,
            **about,
        ),
        bootstrap_claim(
            "OIRL: least rise of mean success with more queries",
            least_rise,
            curves,
            ">=",
            0.0,
            **about,
        ),
    ]


def token_claims(vocabularies: Sequence[int], curves: Arrays) -> list[Claim]:
    """Shares of right tokens at the end [vocabularies, seeds]."""
    ends = {name: curve[..., -1] for name, curve in curves.items()}
    values, least, most = ends["Q-learning"], vocabularies[0], vocabularies[-1]
    worst = ends["REINFORCE"][ends["REINFORCE"].mean(-1).argmin()]
    about = {"kind": "ours", "source": "on-policy data; a naive Q-learner, no tuned rival"}
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
            f"Q-learning on positions: share of right tokens, |V| = {least}",
            values[0],
            "<=",
            0.5,
            **about,
        ),
        mean_claim(
            f"Q-learning on positions: share at |V| = {most} less that at {least}",
            values[-1] - values[0],
            "<=",
            0.0,
            **about,
        ),
        mean_claim(
            f"Q-learning, |V| = {least}: lead of prefixes over positions",
            ends[PREFIXES][0] - values[0],
            ">",
            0.0,
            **about,
        ),
    ]
