"""The plots and the page of raft."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.raft import CLAIM, PAPER
from experiments.raft.config import Config
from experiments.raft.studies import KS
from experiments.raft.table import KS as TABLE_KS
from experiments.raft.table import ROUNDS, continuous_kl
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Runs = Mapping[str, Mapping[str, np.ndarray]]
MEAN: dict[str, Any] = {"centre": "mean", "spread": "t", "units": "worlds"}


def write_report(
    job: Run, config: Config, found: Mapping, claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, {study: flat(arrays) for study, arrays in found.items()})
    learning, rankings = found["learning"], found["rankings"]
    figures = {
        "learning": show_panels(
            learning_panels(config, learning),
            "Stages of RAFT and PPO",
            f"{config.prompts} prompts, K answers to each in a stage, then {config.steps} gradient "
            "steps for both methods.",
            "RAFT rises faster with larger K; at equal KL the curves nearly coincide; K = 1 stays",
        ),
        "scales": show_panels(
            scale_panels(config, learning, found["scales"], rankings),
            "Scale, shifts and penalties",
            "Left: r replaced by exp(3 r) - 7, which RAFT cannot tell from r. Right: the reward "
            "without shifts where those of prompts are added to what is learned from.",
            "PPO slows down on the scaled reward and RAFT does not; global ranking starts slower "
            "with shifts",
        ),
        "rounds": show_panels(
            round_panels(config, found["rounds"], rankings),
            "What rounds cost",
            "Left: exact rounds on a table against T log K - 1 + K^-T. Right: the penalised "
            "ranking, which selects by r - beta (log pi - log pi_0).",
            "exact KL lies on the bound; a larger beta stays nearer, and the largest swings",
        ),
    }
    write_page(
        job.out,
        CLAIM,
        lead="Sample K answers to each prompt, keep the best, fine-tune on it, repeat.",
        paper=PAPER,
        claims=claims,
        figures=figures,
        table=table,
    )


def flat(arrays: Mapping) -> dict[str, np.ndarray]:
    """name/measure -> array, without the parameters."""
    found = {}
    for name, value in arrays.items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{k}": x for k, x in value.items() if k != "params"}
        else:
            found[name] = value
    return found


def curve(config: Config, runs: Mapping[str, np.ndarray], measure: str) -> Series:
    """A measure against stages."""
    return band(np.arange(config.stages + 1), runs[measure], **MEAN)


def learning_panels(config: Config, learning: Runs) -> list[Panel]:
    """Reward and entropy against stages, reward against KL."""
    few = {f"RAFT, K = {k}": learning[f"RAFT, K = {k}"] for k in KS}
    learning = few | dict(learning)
    frontier = {
        name: Series(runs["kl"].mean(0), runs["reward"].mean(0)) for name, runs in learning.items()
    }
    return [
        Panel(
            "reward",
            "stage",
            "mean reward",
            {name: curve(config, runs, "reward") for name, runs in learning.items()},
        ),
        Panel("reward against distance", "KL to the start (nats)", "mean reward", frontier),
        Panel(
            "entropy",
            "stage",
            "nats",
            {name: curve(config, runs, "entropy") for name, runs in few.items()},
        ),
    ]


def scale_panels(config: Config, learning: Runs, scales: Runs, rankings: Runs) -> list[Panel]:
    """Reward against stages under transforms of the reward."""
    shown = {
        "RAFT, K = 8": learning["RAFT, K = 8"],
        "RAFT, scaled": scales["RAFT"],
        "PPO, K = 8": learning["PPO, K = 8"],
        "PPO, scaled": scales["PPO"],
    }
    kinds = ("local, offsets", "global", "global, offsets")
    return [
        Panel(
            "another scale",
            "stage",
            "mean reward",
            {name: curve(config, runs, "reward") for name, runs in shown.items()},
        ),
        Panel(
            "shifts of prompts",
            "stage",
            "mean reward",
            {name: curve(config, rankings[name], "reward") for name in kinds},
        ),
    ]


def round_panels(config: Config, rounds: Mapping[str, np.ndarray], rankings: Runs) -> list[Panel]:
    """KL of exact rounds, and reward against KL by penalty."""
    numbers = np.arange(1, ROUNDS + 1)
    exact = {
        f"exact, K = {k}": band(numbers, rounds["kl"][:, i], units="tables")
        for i, k in enumerate(TABLE_KS)
    }
    bounds = {
        f"T log K - 1 + K^-T, K = {k}": Series(
            numbers, np.array([continuous_kl(k, t) for t in numbers])
        )
        for k in TABLE_KS
    }
    names = [f"beta = {beta:g}" for beta in config.betas]
    penalised = {name: curve(config, rankings[name], "kl") for name in names}
    return [
        Panel("exact rounds", "round T", "KL to the start (nats)", exact, bounds=bounds),
        Panel("penalised ranking, K = 8", "stage", "KL to the start (nats)", penalised),
    ]
