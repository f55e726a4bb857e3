"""Rewards from preferences of segments, learned as if they came from regret or partial return."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.regret_preference.claims import NEAR, board_claims
from experiments.regret_preference.config import Config
from experiments.regret_preference.learners import (
    LABELS,
    MODELS,
    draw_prefs,
    fit_weights,
    planned_return,
    planned_solution,
    sample_segments,
    uniform_return,
    utilities,
)
from experiments.regret_preference.report import write_report
from rlhf_jax.envs.gridworlds import delivery_board
from rlhf_jax.envs.random_boards import random_board
from rlhf_jax.losses.reward import soft_bradley_terry_loss
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages


def run(config: Config, job: Run) -> Outcome:
    """Random boards with each labeller and each learner, then the delivery board."""

    works = {
        "boards": partial(run_boards, config),
        "truth": partial(run_truth, config),
        "delivery": partial(run_delivery, config),
    }
    boards, truth, delivery = run_stages(job, works, x64=True).values()
    scores = {model: np.maximum(boards[f"scaled/{model}"], -1.0) for model in MODELS}
    claims = board_claims(config, scores)
    rows = [
        (f"{source}, {labels}", learner, *(cell(values) for values in scores[learner][:, i, j].T))
        for i, source in enumerate(MODELS)
        for j, labels in enumerate(LABELS)
        for learner in MODELS
    ]
    table = Table(
        f"Mean scaled return (cut at -1) and share of boards above {NEAR}",
        ("labels from", "learner", *(f"{size} pairs" for size in config.sizes)),
        rows,
        note=f"{config.num_boards} boards of {config.side} x {config.side} cells",
    )
    write_report(job, config, scores, delivery, claims, table)
    missed = boards["scaled/regret"][:, 0] <= NEAR
    worse = boards["loss/regret"][:, 0] > truth["loss"]
    numbers = {
        "rows": rows,
        "regret fits not near-optimal": missed.sum(0).tolist(),
        "of these, loss above that of the true weights": (missed & worse).sum(0).tolist(),
        "share of ties in noiseless labels": boards["ties"].mean(0).tolist(),
        "delivery board, scaled return": dict(
            zip(MODELS, delivery["scaled"][1:].tolist(), strict=True)
        ),
    }
    return Outcome(claims, numbers, table)


def run_boards(config: Config) -> dict:
    """Scaled returns [boards, source, labels, size] of both learners.

    A program of XLA holds one chain of batched linear solves at a time: two that do not wait for
    each other can wait for the same two threads for ever.
    """
    keys = jax.random.split(jax.random.key(config.seed), config.num_boards)
    worlds, segments, prefs = jax.jit(jax.vmap(partial(draw_board, config)))(keys)
    counted = jnp.arange(config.sizes[-1]) < jnp.array(config.sizes)[:, None]
    low = jax.jit(jax.vmap(uniform_return))(worlds)
    high = jax.jit(jax.vmap(lambda world: planned_return(world, world.weights)))(worlds)
    low, high = (x[:, None, None, None] for x in (low, high))
    results = {"ties": (prefs[:, :, 0] == 0.5).mean(-1)}
    for model in MODELS:
        fit = partial(
            fit_weights, model=model, starts=config.starts, steps=config.steps, rate=config.rate
        )
        fits = over_data(fit)(worlds, segments, prefs, counted.astype(prefs.dtype))
        returns = jax.jit(over_boards(planned_return))(worlds, fits[0])
        results |= {
            f"weights/{model}": fits[0],
            f"loss/{model}": fits[1],
            f"scaled/{model}": (returns - low) / (high - low),
        }
    return results


def run_truth(config: Config) -> dict:
    """Loss [boards, labels, size] of the true weights on labels of regret, in nats."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_boards)
    counted = (jnp.arange(config.sizes[-1]) < jnp.array(config.sizes)[:, None]).astype(float)

    def losses(key):
        world, segments, prefs = draw_board(config, key)
        seen = utilities(world.weights, world, segments, model="regret")
        each = jax.vmap(partial(soft_bradley_terry_loss, seen[:, 0], seen[:, 1]))(prefs[0])
        return each @ counted.T / counted.sum(-1)

    return {"loss": jax.jit(jax.vmap(losses))(keys)}


def draw_board(config: Config, key):
    """A board, its segments [N, 2], and preferences [source, labels, N]."""
    board_key, segment_key, label_key = jax.random.split(key, 3)
    world = random_board(board_key, height=config.side, width=config.side)
    size = {"pairs": config.sizes[-1], "length": config.segment_length}
    segments = sample_segments(segment_key, world, **size)
    return world, segments, label(label_key, world, segments)


def label(key, world, segments):
    """Preferences [source, labels, N] under the true weights."""
    seen = [utilities(world.weights, world, segments, model=model) for model in MODELS]
    kinds = jnp.array([False, True])
    return jnp.stack(
        [jax.vmap(lambda noisy, u=u: draw_prefs(key, u, noisy=noisy))(kinds) for u in seen]
    )


def over_data(fit):
    """`fit` over boards, sources, kinds of labels and sizes, compiled."""
    for axes in ((None, None, None, 0), (None, None, 0, None), (None, None, 0, None)):
        fit = jax.vmap(fit, axes)
    return jax.jit(jax.vmap(fit, (0, 0, 0, None)))


def over_boards(work):
    """`work(world, weights)` over boards, sources, kinds of labels and sizes."""
    for _ in range(3):
        work = jax.vmap(work, (None, 0))
    return jax.vmap(work)


def run_delivery(config: Config) -> dict:
    """The fixed board: weights, values and policies, true and learned from noiseless regret.

    Returns:
      arrays with leading axis 3: true, learned by regret, learned by partial return.
    """
    world = delivery_board()
    segment_key, label_key = jax.random.split(jax.random.key(config.seed))
    size = {"pairs": config.delivery_pairs, "length": config.segment_length}
    segments = jax.jit(partial(sample_segments, world=world, **size))(segment_key)
    prefs = jax.jit(label)(label_key, world, segments)[0, 0]
    counted = jnp.ones(config.delivery_pairs)
    sizes = {"starts": config.starts, "steps": config.steps, "rate": config.rate}
    fits = [
        jax.jit(partial(fit_weights, model=model, **sizes))(world, segments, prefs, counted)[0]
        for model in MODELS
    ]
    weights = jnp.stack([world.weights, *fits])
    plan = jax.jit(jax.vmap(lambda w: planned_solution(world, w)))
    values, probs = plan(weights)
    returns = jax.jit(jax.vmap(partial(planned_return, world)))(weights)
    low = jax.jit(uniform_return)(world)
    found = {"weights": weights, "values": values, "probs": probs, "cells": world.cells}
    return found | {"scaled": (returns - low) / (returns[0] - low)}


def cell(values: np.ndarray) -> str:
    """Mean over boards, and how many are near-optimal."""
    return f"{values.mean():.2f}, {(values > NEAR).mean():.0%}"
