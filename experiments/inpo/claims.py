"""What inpo claims of its runs, and the baselines that must fail.

"Late gap": the regularised gap, mean over the last quarter of the rounds.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.inpo.config import Config
from experiments.inpo.stages import BETA, DPO
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import (
    bootstrap_claim,
    bootstrap_interval,
    mean_claim,
    mean_interval,
    near_end,
)
from rlhf_jax.reports.rates import Rate, bound_claim, fit_rate, rate_claim

CYCLE = "RPS(0.9)"
Arrays = Mapping[str, np.ndarray]
EARLIER = {"kind": "regression", "source": "mean of ten seeds of an earlier run"}


def tail(gaps: np.ndarray) -> np.ndarray:
    """The last quarter of the rounds of [S, rounds + 1]."""
    return gaps[:, -(gaps.shape[1] // 4) :]


def schedule_rate(result: Arrays, kl: str = "kl") -> Rate:
    """Of KL, after the transient and above rounding."""
    return fit_rate(result["times"], result[kl], law="power", start=10.0, floor=1e-20)


def convergence_claims(gaps: Mapping[str, Arrays], late: Mapping[str, Arrays]) -> list[Claim]:
    """Where INPO ends, sampled, on a transformer and exactly."""
    cycle = late[CYCLE]
    ours: dict[str, Any] = {"kind": "ours", "source": "a small share of the reference's gap, 0.083"}
    last = {
        name: np.concatenate([runs[name][:, -1] for runs in gaps.values()])
        for name in ("INPO, exact", "INPO without KL")
    }
    rival, theirs = best_dpo(cycle)
    return [
        *(
            mean_claim(
                f"{CYCLE}, {name}: late gap, mean over seeds",
                cycle[name],
                "<=",
                threshold,
                baseline=near_end(f"{rival}, its best", mean_interval(theirs), "<="),
                **ours,
            )
            for name, threshold in (("INPO, sampled", 0.002), ("INPO, transformer", 0.01))
        ),
        Claim(
            "INPO, exact: last gap, worst game and start",
            last["INPO, exact"].max(),
            "<=",
            1e-10,
            kind="ours",
            source="self-play at a constant step has no floor in a regularised game",
            baseline=near_end(
                "INPO without KL, mean over games and starts",
                bootstrap_interval(np.mean, last["INPO without KL"]),
                "<=",
            ),
        ),
    ]


def failure_claims(gaps: Mapping[str, Arrays], late: Mapping[str, Arrays]) -> list[Claim]:
    """What other rounds and other pairs do, against sampled INPO in the same games."""
    cycle, random = late[CYCLE], late["random"]
    best, better, inpo = (
        cycle[name] for name in ("best and worst of 8", "better of 2", "INPO, sampled")
    )
    reference = float(gaps[CYCLE]["INPO, sampled"][0, 0])
    near = f"iterative DPO, beta {BETA:g}"
    dpo, own = (tail(gaps[CYCLE][name]).min(axis=1) for name in (near, "INPO, sampled"))
    return [
        mean_claim(
            f"{CYCLE}, {near}: least gap of the last quarter, mean over starts",
            dpo,
            ">=",
            0.4,
            kind="ours",
            source="near a vertex, 0.8; at this beta, larger ones end lower",
            baseline=near_end("INPO, sampled", mean_interval(own), ">="),
        ),
        bootstrap_claim(
            "random games, uniform pairs: median late gap",
            np.median,
            [random["uniform pairs"]],
            ">=",
            0.01,
            kind="ours",
            source="a tenth of the reference's gap",
            baseline=near_end(
                "INPO, sampled", bootstrap_interval(np.median, random["INPO, sampled"]), ">="
            ),
        ),
        mean_claim(
            f"{CYCLE}, best and worst of 8: late gap over that of the reference, mean over seeds",
            best / reference,
            ">",
            1.0,
            kind="ours",
            source="worse than not to learn",
            baseline=near_end("INPO, sampled", mean_interval(inpo / reference), ">"),
        ),
        *(
            claim
            for name, values, low, high in (
                ("best and worst of 8", best, 0.105, 0.12),
                ("better of 2", better, 0.0015, 0.0025),
            )
            for claim in Claim.within(
                f"{CYCLE}, {name}: late gap",
                float(np.mean(values)),
                low,
                high,
                interval=mean_interval(values),
                **EARLIER,
            )
        ),
    ]


def rival_claims(late: Mapping[str, Arrays]) -> list[Claim]:
    """Sampled INPO against iterative DPO in the population, which is given its best beta."""
    return [rival_claim(name, runs) for name, runs in late.items()]


def best_dpo(runs: Mapping[str, np.ndarray]) -> tuple[str, np.ndarray]:
    """The iterative DPO with the least mean late gap over seeds, and its gaps [S]."""
    return min(((name, runs[name]) for name in DPO), key=lambda each: each[1].mean())


def rival_claim(game: str, runs: Mapping[str, np.ndarray]) -> Claim:
    """The ratio of mean late gaps; beta is chosen again in every resample."""
    betas = [f"{weight:g}" for weight in DPO.values()]

    def ratio(ours: np.ndarray, theirs: np.ndarray) -> float:
        return ours.mean() / theirs.mean(axis=0).min()

    rivals = np.stack([runs[name] for name in DPO], axis=-1)
    return bootstrap_claim(
        f"{game}, table, INPO on sampled pairs: mean late gap over that of iterative DPO, solved, "
        f"at the best beta of {', '.join(betas)}",
        ratio,
        [runs["INPO, sampled"], rivals],
        "<=",
        0.1,
        kind="ours",
        source="a tenth of the tuned rival, which has all pairs and exact labels",
        baseline=("the same loss on uniform pairs", ratio(runs["uniform pairs"], rivals)),
    )


def rate_claims(config: Config, hedge: Arrays, schedules: Mapping[str, Arrays]) -> list[Claim]:
    """Hedge on average and in the last policy, and the steps of Theorem 4."""
    rates = {
        name: fit_rate(config.hedge_updates, hedge[name], law="power")
        for name in ("average", "last")
    }
    average = rates["average"]
    return [
        rate_claim(
            "Hedge, random games, average: slope of log gap in log T, at most",
            average,
            -0.5,
            slack=0.1,
            source="regret bound of Hedge",
            baseline=("the last policy on RPS(1)", rates["last"].slope),
        ),
        Claim(
            "Hedge, random games, average: slope of log gap in log T, at least",
            average.slope,
            ">=",
            -0.6,
            kind="ours",
            source="no faster than its bound, -1/2, within 0.1",
            interval=(average.low, average.high),
        ),
        Claim(
            "Hedge, RPS(1) from the reference, last policy: least gap over T",
            hedge["last"][0].min(),
            ">=",
            0.25,
            kind="paper",
            source="the last policy of self-play circles",
            baseline=("the average, largest over T", hedge["cycle average"][0].max()),
        ),
        *(
            rate_claim(
                f"decaying steps, {name}: slope of log KL in log t",
                schedule_rate(each),
                -1.0,
                source="Theorem 4",
                baseline=("the same steps without KL", schedule_rate(each, "free").slope),
            )
            for name, each in schedules.items()
        ),
        *(
            bound_claim(
                f"decaying steps, {name}: largest KL over 32 C^2 / (beta^2 (T + 1)), all t",
                each["kl"],
                each["bound"],
                source="Theorem 4",
                baseline=("the same steps without KL", each["free"]),
            )
            for name, each in schedules.items()
        ),
    ]
