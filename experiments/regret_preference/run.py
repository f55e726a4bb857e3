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
    """Model -> scaled returns, cut at -1."""
    return {model: np.maximum(found[f"scaled/{model}"], -1.0) for model in MODELS}


def score_table(config: Config, scores: Scores, priors: Mapping) -> Table:
    """Labels and learner as rows, numbers of pairs as columns."""
    rows = [
        (f"{source}, {labels}", learner, *(cell(values) for values in scores[learner][:, i, j].T))
        for i, source in enumerate(MODELS)
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
    missed = boards["scaled/regret"][:, 0] <= NEAR
    worse = boards["loss/regret"][:, 0] > boards["truth"]
    return {
        "rows": table.rows,
        "regret fits not near-optimal": missed.sum(0).tolist(),
        "of these, loss above that of the true weights": (missed & worse).sum(0).tolist(),
        "share of ties in noiseless labels": boards["ties"].mean(0).tolist(),
        "lotteries": {
            f"win {win:g}, labels of {source}, {labels}, learner {model}": cell(
                lotteries[model][w, :, i, j, 0]
            )
            for w, win in enumerate(config.win_weights)
            for i, source in enumerate(MODELS)
            for j, labels in enumerate(LABELS)
            for model in MODELS
        },
        "delivery board, scaled return": dict(
            zip(MODELS, found["delivery"]["scaled"][1:].tolist(), strict=True)
        ),
    }


def cell(values: np.ndarray) -> str:
    """Mean over boards, and how many are near-optimal."""
    return f"{values.mean():.2f}, {(values > NEAR).mean():.0%}"
