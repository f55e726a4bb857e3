"""What is claimed of the raft runs."""

from collections.abc import Mapping

import numpy as np

from experiments.raft.config import COMPARED, Config
from experiments.raft.studies import KS, SCALED_K
from experiments.raft.table import KS as TABLE_KS
from experiments.raft.table import ROUNDS, continuous_kl
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim

Runs = Mapping[str, Mapping[str, np.ndarray]]
SPEC = "acceptance of this design, from a NumPy run of it"


def table_claims(config: Config, rounds: Mapping[str, np.ndarray]) -> list[Claim]:
    """Rounds are powers, and what they cost in KL."""
    size = f"{config.table_answers} answers, K = 4 and 8, up to {ROUNDS} rounds, all tables"
    bounds = np.array([[continuous_kl(k, t + 1) for t in range(ROUNDS)] for k in TABLE_KS])
    single = np.array([[(t + 1) * continuous_kl(k, 1) for t in range(ROUNDS)] for k in TABLE_KS])
    return [
        Claim(
            f"T exact rounds of best-of-K against one of best-of-K^T, {size}: largest difference",
            rounds["power"].max(),
            "<=",
            1e-9,
            kind="theorem",
            source="F_T = F_0^(K^T), derived from the exact step of Algorithm 1",
            baseline=("one round of best-of-K T", rounds["product"].max()),
        ),
        Claim(
            f"KL to the start minus T log K - 1 + K^-T, {size}: largest",
            np.max(rounds["kl"] - bounds),
            "<=",
            0.0,
            kind="theorem",
            source="the divergence of best-of-K^T without ties, an upper bound with them",
            baseline=("minus T times that of one round", np.max(rounds["kl"] - single)),
        ),
    ]


def tie_claim(config: Config, ties: Mapping[str, np.ndarray]) -> Claim:
    """The law of the first of several best answers."""
    return Claim(
        f"Best of 4 with ties, {config.draws} draws: largest difference to the exact law",
        np.abs(ties["drawn"] - ties["exact"]).max(),
        "<=",
        2.0 / config.draws**0.5,
        kind="ours",
        source="four standard errors of a share of 1/2",
        baseline=("a law that splits ties evenly", np.abs(ties["drawn"] - ties["even"]).max()),
    )


def order_claims(config: Config, learning: Runs) -> list[Claim]:
    """More answers to choose from learn faster."""
    after = {k: learning[f"RAFT, K = {k}"]["reward"][:, COMPARED] for k in KS}
    before = {k: learning[f"RAFT, K = {k}"]["reward"][:, 0] for k in KS}
    pairs = [(KS[i + 1], KS[i]) for i in range(len(KS) - 1)]
    ahead = np.all([after[many] > after[few] for many, few in pairs], axis=0)
    return [
        mean_claim(
            f"RAFT, {COMPARED} stages, {config.prompts} prompts: reward with K = {many} minus "
            f"that with K = {few}",
            after[many] - after[few],
            ">",
            0.0,
            kind="paper",
            source="its best row has the largest K, 32 (read in a secondary source)",
            baseline=("before training", np.mean(before[many] - before[few])),
        )
        for many, few in pairs
    ] + [
        Claim(
            f"Share of the worlds of this run in which reward after {COMPARED} stages is in the "
            "order of K = 1, 4, 8, 32",
            np.mean(ahead),
            ">=",
            0.9,
            kind="ours",
            source=SPEC + ": 9 worlds of 10",
            baseline=("before training", 0.0),
        )
    ]


def scale_claims(learning: Runs, scales: Runs) -> list[Claim]:
    """Only the order of rewards matters."""
    name, other = f"RAFT, K = {SCALED_K}", f"PPO, K = {SCALED_K}"
    moved = {
        method: np.abs(learning[plain]["params"] - scales[method]["params"]).max()
        for method, plain in (("RAFT", name), ("PPO", other))
    }
    drops = {
        method: learning[plain]["reward"][:, COMPARED] - scales[method]["reward"][:, COMPARED]
        for method, plain in (("RAFT", name), ("PPO", other))
    }
    return [
        Claim(
            f"{name}, reward r replaced by exp(3 r) - 7, same draws: largest difference of a "
            "parameter over all stages and worlds",
            moved["RAFT"],
            "==",
            0.0,
            kind="paper",
            source="RAFT depends on the reward only through its ranking",
            baseline=("PPO", moved["PPO"]),
        ),
        mean_claim(
            f"{other}, the same replacement: reward lost after {COMPARED} stages",
            drops["PPO"],
            ">",
            0.5,
            kind="ours",
            source=SPEC,
            baseline=("RAFT", drops["RAFT"].mean()),
        ),
    ]


def ppo_claims(config: Config, learning: Runs) -> list[Claim]:
    """Faster by the stage, equal at the end."""
    gap = learning["RAFT, K = 8"]["reward"] - learning["PPO, K = 8"]["reward"]
    early, late = gap[:, COMPARED], gap[:, -1]
    size = f"K = 8, {config.prompts} prompts, {config.steps} gradient steps a stage for both"
    return [
        mean_claim(
            f"Reward of RAFT minus PPO after {COMPARED} stages, {size}",
            early,
            ">",
            0.0,
            kind="ours",
            source=SPEC,
            baseline=("before training", gap[:, 0].mean()),
        ),
        Claim(
            "Share of the worlds of this run in which it is positive",
            np.mean(early > 0),
            ">=",
            0.9,
            kind="ours",
            source=SPEC + ": 9 worlds of 10",
            baseline=("before training", 0.0),
        ),
        mean_claim(
            f"The same after {config.stages} stages, absolute value",
            np.abs(late),
            "<=",
            0.1,
            kind="ours",
            source=SPEC + ", at 12 stages",
            baseline=(f"after {COMPARED} stages", np.abs(early).mean()),
        ),
    ]


def ranking_claims(config: Config, learning: Runs, rankings: Runs) -> list[Claim]:
    """Global ranking prefers easy prompts; a penalised ranking stays near."""
    local, world = learning["RAFT, K = 8"], rankings["global"]["reward"]
    offset = {kind: rankings[f"{kind}, offsets"] for kind in ("local", "global")}
    lost = offset["local"]["reward"][:, 1] - offset["global"]["reward"][:, 1]
    near, free = (rankings[f"beta = {beta:g}"]["kl"][:, -1] for beta in (config.betas[-1], 0.0))
    return [
        Claim(
            f"Local ranking, rewards of a prompt shifted by N(0, {config.offset:g}^2): largest "
            "difference of a parameter to rewards without the shift",
            np.abs(offset["local"]["params"] - local["params"]).max(),
            "==",
            0.0,
            kind="ours",
            source="only the order within a prompt matters",
            baseline=(
                "global ranking",
                np.abs(offset["global"]["params"] - rankings["global"]["params"]).max(),
            ),
        ),
        mean_claim(
            "With the shifts, the reward without them after one stage: local minus global, K = 8",
            lost,
            ">",
            0.0,
            kind="ours",
            source="global ranking keeps answers to easy prompts, whatever they are worth there",
            baseline=("without the shifts", np.mean(local["reward"][:, 1] - world[:, 1])),
        ),
        mean_claim(
            f"Penalised ranking, K = 8, beta {config.betas[-1]:g}, {config.stages} stages: KL to "
            "the start minus that without a penalty",
            near - free,
            "<",
            -1.0,
            kind="ours",
            source="the penalty must show: a nat",
            baseline=("the penalty left out", 0.0),
        ),
    ]
