"""Rewards from preferences of segments, learned as if they came from regret or partial return."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.regret_preference import stages
from experiments.regret_preference.claims import (
    NEAR,
    board_claims,
    converse_claim,
    lottery_claims,
    rival_claims,
)
from experiments.regret_preference.config import Config
from experiments.regret_preference.learners import LABELS, MODELS
from experiments.regret_preference.report import write_report
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages

Scores = Mapping[str, np.ndarray]


def run(config: Config, job: Run) -> Outcome:
    """Random boards with each labeller and each learner, rivals with a prior, lotteries, then the
    delivery board."""
    works = {
        "boards": partial(stages.run_boards, config),
        "lotteries": partial(stages.run_lotteries, config),
        "delivery": partial(stages.run_delivery, config),
    }
    found = run_stages(job, works, x64=True)
    boards, lotteries = (cut_scores(found[name]) for name in ("boards", "lotteries"))
    flat = {model: values.reshape(-1, *values.shape[2:]) for model, values in lotteries.items()}
    priors = {name: found["boards"][f"scaled/{name}"] for name in (*stages.PRIORS, "no labels")}
    claims = [
        *board_claims(config, boards),
        converse_claim(config, boards),
        *rival_claims(config, boards, priors),
        *lottery_claims(config, flat),
    ]
    table = score_table(config, boards, priors)
    write_report(job, config, boards, lotteries, found["delivery"], claims, table)
    return Outcome(claims, numbers=summary(config, found, table, lotteries), table=table)


def cut_scores(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Model, and "<model>, converse", -> scaled returns, cut at -1."""
    learners = tuple(f"scaled/{model}" for model in MODELS)
    return {
        name.removeprefix("scaled/"): np.maximum(values, -1.0)
        for name, values in found.items()
        if name.startswith(learners)
    }


def score_table(config: Config, scores: Scores, priors: Mapping) -> Table:
    """Labels and learner as rows, numbers of pairs as columns."""
    rows: list[tuple[str | None, ...]] = [
        (f"regret, {labels}", learner, *(cell(values) for values in scores[learner][:, j].T))
        for j, labels in enumerate(LABELS)
        for learner in MODELS
    ]
    rows += [
        (
            f"partial return, {labels}",
            learner,
            *(None for _ in config.sizes[1:]),
            cell(scores[f"{learner}, converse"][:, j]),
        )
        for j, labels in enumerate(LABELS)
        for learner in MODELS
    ]
    rows += [
        (
            f"regret, {labels}",
            f"partial return, prior {name} x {strength:g}",
            *(cell(values) for values in np.maximum(priors[name][:, j, :, k], -1.0).T),
        )
        for name in stages.PRIORS
        for k, strength in enumerate(config.strengths)
        for j, labels in enumerate(LABELS)
    ]
    return Table(
        f"Mean scaled return (cut at -1) and share of boards above {NEAR}",
        ("labels from", "learner", *(f"{size} pairs" for size in config.sizes)),
        rows,
        note=f"{config.num_boards} boards of {config.side} x {config.side} cells; the plan for the "
        f"mean of the boards' law, without labels: {cell(np.maximum(priors['no labels'], -1.0))}",
    )


def summary(config: Config, found: Mapping, table: Table, lotteries: Scores) -> dict:
    """What the table leaves out."""
    boards = found["boards"]
    missed = boards["scaled/regret"] <= NEAR
    worse = boards["loss/regret"] > boards["truth"]
    return {
        "rows": table.rows,
        "regret fits not near-optimal": missed.sum(0).tolist(),
        "of these, loss above that of the true weights": (missed & worse).sum(0).tolist(),
        "share of ties in noiseless labels": boards["ties"].mean(0).tolist(),
        "lotteries": {
            f"win {win:g}, {labels}: {name}": cell(values[w, :, j])
            for w, win in enumerate(config.win_weights)
            for j, labels in enumerate(LABELS)
            for name, values in lotteries.items()
        },
        "delivery board, scaled return": dict(
            zip(MODELS, found["delivery"]["scaled"][1:].tolist(), strict=True)
        ),
    }


def cell(values: np.ndarray) -> str:
    """Mean over boards, and how many are near-optimal."""
    return f"{values.mean():.2f}, {(values > NEAR).mean():.0%}"
