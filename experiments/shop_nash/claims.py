"""What shop_nash claims of its pairwise model and of each Nash method before the population.

Held-out prompts and pairs are the units; every method is trained once.
"""

import numpy as np
from numpy.typing import ArrayLike

from experiments.shop_nash.evaluate import Tournament
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim

BASELINES = ("PPO on Bradley-Terry", "iterative DPO")


def accuracy_claim(preference: ArrayLike, reward: ArrayLike) -> Claim:
    """From [N] whether each model is right about a held-out pair, 1/2 at a tie."""
    better = np.asarray(preference) - np.asarray(reward)
    return mean_claim(
        f"preference model: accuracy less Bradley-Terry's, {better.size} held-out pairs",
        better,
        ">",
        0.0,
        kind="paper",
        source="no score explains preferences that go round",
    )


def method_claims(games: Tournament) -> list[Claim]:
    """Each Nash method that asks the population, against the better of two baselines."""
    names = games.names
    trained = [i for i, name in enumerate(names) if name != "SFT"]
    nash = {"kind": "paper", "source": "a Nash policy has the best worst case"}

    def worst(wins: np.ndarray, player: int) -> float:
        """Lowest mean win rate over the trained rivals, from wins [N, M, M]."""
        return wins[:, player].mean(0)[[i for i in trained if i != player]].min()

    def excess(wins: np.ndarray, player: int) -> float:
        return worst(wins, player) - max(worst(wins, names.index(rival)) for rival in BASELINES)

    def less(own: np.ndarray, rivals: np.ndarray) -> float:
        """From [N] and [N, baselines] gaps."""
        return own.mean() - rivals.mean(0).min()

    rivals = np.stack([games.crossfit_gaps[name] for name in BASELINES], axis=-1)
    size = f"{len(games.wins)} held-out prompts, one training run"
    claims = []
    for player, name in enumerate(names):
        if name in (*BASELINES, "SFT") or "learned" in name:
            continue
        claims += [
            bootstrap_claim(
                f"{name}: worst case less that of the better baseline, {size}",
                lambda wins, player=player: excess(wins, player),
                [games.wins],
                ">",
                0.0,
                **nash,
            ),
            bootstrap_claim(
                f"{name}: exploitability less that of the better baseline, {size}",
                less,
                [games.crossfit_gaps[name], rivals],
                "<",
                0.0,
                **nash,
            ),
        ]
    return claims
