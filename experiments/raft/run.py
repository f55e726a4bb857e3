"""Are rounds of best-of-K one round of a power of K, and what does RAFT do beside PPO?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.raft import claims, studies, table
from experiments.raft.config import COMPARED, Config
from experiments.raft.report import write_report
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages


def run(config: Config, job: Run) -> Outcome:
    """Exact tables, then learned worlds."""
    works = {
        "rounds": partial(table.run_rounds, config),
        "ties": partial(table.run_ties, config),
        "learning": partial(studies.run_learning, config),
        "scales": partial(studies.run_scales, config),
        "rankings": partial(studies.run_rankings, config),
    }
    found = run_stages(job, works, x64=True)
    learning, rankings = found["learning"], found["rankings"]
    made = [
        *claims.table_claims(config, found["rounds"]),
        claims.tie_claim(config, found["ties"]),
        *claims.order_claims(config, learning),
        *claims.scale_claims(learning, found["scales"]),
        *claims.ppo_claims(config, learning),
        *claims.ranking_claims(config, learning, rankings),
    ]
    shown = learning | {f"scaled reward, {name}": x for name, x in found["scales"].items()}
    shown |= {f"{name}, K = 8": x for name, x in rankings.items() if name != "beta = 0"}
    numbers = Table(
        f"Means of {config.num_seeds} worlds",
        ("learned by", "reward, 1 stage", f"{COMPARED}", f"{config.stages}", "KL", "entropy"),
        [row(name, runs) for name, runs in shown.items()],
        note="KL to the start and entropy in nats, at the last stage",
    )
    write_report(job, config, found, made, numbers)
    return Outcome(made, summary(found), numbers)


def row(name: str, runs: Mapping[str, np.ndarray]) -> tuple:
    """Means over worlds."""
    reward = runs["reward"].mean(0)
    ends = (runs[measure][:, -1].mean() for measure in ("kl", "entropy"))
    return name, reward[1], reward[COMPARED], reward[-1], *ends


def summary(found: Mapping[str, Mapping]) -> dict:
    """Means over worlds, stage by stage."""
    numbers = {
        study: {
            name: {measure: runs[measure].mean(0).tolist() for measure in ("reward", "kl")}
            for name, runs in found[study].items()
        }
        for study in ("learning", "scales", "rankings")
    }
    rounds = {name: x.mean(0).tolist() for name, x in found["rounds"].items()}
    return numbers | {"rounds": rounds, "ties": {k: x.tolist() for k, x in found["ties"].items()}}
