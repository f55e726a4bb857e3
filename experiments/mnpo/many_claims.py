"""What mnpo claims of one against many, and the baselines that must fail."""

from collections.abc import Mapping

import numpy as np

from experiments.mnpo.config import Config
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_interval, mean_claim, mean_interval, near_end

Arrays = Mapping[str, np.ndarray]


def equilibrium_claims(config: Config, many: Mapping[str, Arrays]) -> list[Claim]:
    """Self-play on one against many ends at the equilibrium of its own number of players."""
    claims = []
    for i, count in enumerate(config.players):
        gaps = many[str(count)]["dual gap"]  # [S, players]
        other = config.players[-1] if i == 0 else config.players[0]
        theirs = gaps[:, config.players.index(other)]
        claims.append(
            mean_claim(
                f"Eq. 7, {count} players, one preference: DualGap after {config.many_updates} "
                "updates of self-play, mean over populations",
                gaps[:, i],
                "<=",
                1e-6,
                kind="paper",
                source="Eq. 9: no player gains alone",
                baseline=near_end(
                    f"the equilibrium of {other} players", mean_interval(theirs), "<="
                ),
            )
        )
    return claims


def average_claims(config: Config, many: Mapping[str, Arrays]) -> list[Claim]:
    """Without KL: the average policy of n players keeps the regret bound of two."""
    claims = []
    for count in config.players:
        each = many[str(count)]
        average, start = (each[part] / each["bound"] for part in ("average", "start"))
        claims.append(
            mean_claim(
                f"Eq. 7 without KL, {count} players: what a best response gains against the "
                "average policy, over regret / T, mean over populations",
                average,
                "<=",
                1.0,
                kind="paper",
                source="the average is an equilibrium up to O(1 / sqrt T)",
                baseline=near_end(
                    "staying at the reference", bootstrap_interval(np.mean, start), "<="
                ),
            )
        )
    return claims


def call_claims(config: Config, calls: Arrays) -> list[Claim]:
    """More players against two, at equal calls of the judge, each at its best setting."""
    total = config.calls * config.call_updates
    claims = []
    for count in config.players[1:]:
        for yard, words, chance in (
            ("pairwise", "beats that of two players", 0.5),
            ("arena", f"is named among {count - 1} answers of two players'", 1 / count),
        ):
            claims.append(
                mean_claim(
                    f"{total:,} calls each, {count} players: chance that an answer of their policy "
                    f"{words}, mean over populations",
                    calls[f"{count}/{yard}"],
                    ">",
                    chance,
                    kind="paper",
                    source="Table 5: more players end higher",
                    baseline=near_end(
                        "two players, other labels",
                        mean_interval(calls[f"{count}/again/{yard}"]),
                        ">",
                    ),
                )
            )
    return claims


def own_judge_claims(config: Config, many: Mapping[str, Arrays]) -> list[Claim]:
    """A judge for each player: steps from one's own policy find an equilibrium, those of HT-MNPO
    from the mean of the others do not, at the best weight of the reference."""
    claims = []
    for count in config.players:
        each = many[str(count)]
        ends = each["ht"][..., -1]  # [S, rho]
        best = ends[:, ends.mean(axis=0).argmin()]
        claims.append(
            mean_claim(
                f"Eq. 7, {count} players, a judge each: DualGap of the worst player after "
                f"{config.many_updates} updates of mirror descent from one's own policy, mean over "
                "populations",
                each["own"][:, -1],
                "<=",
                1e-6,
                kind="ours",
                source="Eq. 9 with P_i: no player gains alone",
                baseline=near_end(
                    "HT-MNPO, as many calls, at its best rho", mean_interval(best), "<="
                ),
            )
        )
    return claims
