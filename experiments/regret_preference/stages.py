"""Boards, lotteries and the delivery board: segments, labels, fits and scaled returns."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.regret_preference.config import Config
from experiments.regret_preference.learners import (
    LABELS,
    MODELS,
    board_prior,
    draw_prefs,
    fit_weights,
    fit_with_prior,
    flat_prior,
    planned_return,
    planned_solution,
    sample_segments,
    uniform_return,
    utilities,
)
from rlhf_jax.envs.gridworlds import delivery_board
from rlhf_jax.envs.random_boards import lottery_board, random_board
from rlhf_jax.losses.reward import soft_bradley_terry_loss

PRIORS = {"ridge": flat_prior, "the boards' law": board_prior}


def board_keys(config: Config) -> jax.Array:
    """One key for each random board."""
    return jax.random.split(jax.random.key(config.seed), config.num_boards)


def counted_pairs(config: Config) -> jax.Array:
    """[sizes, N] which of all the pairs are in each size."""
    return (jnp.arange(config.sizes[-1]) < jnp.array(config.sizes)[:, None]).astype(float)


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


def run_boards(config: Config) -> dict:
    """Scaled returns [boards, source, labels, size] of both learners on random boards."""
    drawn = jax.jit(jax.vmap(partial(draw_board, config)))(board_keys(config))
    return {"ties": (drawn[2][:, :, 0] == 0.5).mean(-1)} | scored(
        config, *drawn, counted_pairs(config)
    )


def scored(config: Config, worlds, segments, prefs, counted) -> dict:
    """Weights, losses and scaled returns of both learners: [boards, source, labels, size].

    Boards one after another, so that no fit waits for the policy iteration of another board.
    """
    found = {}
    for model in MODELS:
        fit = partial(
            fit_weights, model=model, starts=config.starts, steps=config.steps, rate=config.rate
        )

        def work(data, fit=fit):
            world, segments, prefs = data
            each = jax.vmap(partial(fit, world, segments), (None, 0))
            weights, losses = jax.vmap(jax.vmap(each, (0, None)), (0, None))(prefs, counted)
            return weights, losses, scaled_returns(world, weights)

        run = jax.jit(lambda data, work=work: jax.lax.map(work, data))
        weights, losses, scaled = run((worlds, segments, prefs))
        found |= {
            f"weights/{model}": weights,
            f"loss/{model}": losses,
            f"scaled/{model}": scaled,
        }
    return found


def scaled_returns(world, weights):
    """True returns of plans for weights [*B, d]: 0 for uniform actions, 1 for the best."""
    low, high = uniform_return(world), planned_return(world, world.weights)
    plan = jnp.vectorize(partial(planned_return, world), signature="(d)->()")
    return (plan(weights) - low) / (high - low)


def run_priors(config: Config) -> dict:
    """Scaled returns [boards, labels, size, strengths] of partial returns fitted with a prior, on
    labels of regret; and [boards] of the plan for the prior mean of `random_board`."""
    counted, strengths = counted_pairs(config), jnp.array(config.strengths)

    def work(key):
        world, segments, prefs = draw_board(config, key)
        found = {}
        for name, prior in PRIORS.items():
            fit = partial(fit_with_prior, segments)
            each = jax.vmap(fit, (None, None, None, 0))
            each = jax.vmap(jax.vmap(each, (None, 0, None, None)), (0, None, None, None))
            weights = each(prefs[0], counted, prior(), strengths)
            found[name] = scaled_returns(world, weights)
        return found | {"no labels": scaled_returns(world, board_prior().mean)}

    return jax.jit(lambda keys: jax.lax.map(work, keys))(board_keys(config))


def run_truth(config: Config) -> dict:
    """Loss [boards, labels, size] of the true weights on labels of regret, in nats."""
    counted = counted_pairs(config)

    def losses(key):
        world, segments, prefs = draw_board(config, key)
        seen = utilities(world.weights, world, segments, model="regret")
        each = jax.vmap(partial(soft_bradley_terry_loss, seen[:, 0], seen[:, 1]))(prefs[0])
        return each @ counted.T / counted.sum(-1)

    return {"loss": jax.jit(jax.vmap(losses))(board_keys(config))}


def run_lotteries(config: Config) -> dict:
    """Scaled returns [wins, boards, source, labels, 1] of both learners where sheep are lotteries:
    rewards are those of the outcome, and regrets those of the choice."""
    keys = jax.random.split(
        jax.random.fold_in(jax.random.key(config.seed), 1), config.lottery_boards
    )
    counted = jnp.ones((1, config.lottery_pairs))

    def draw(win, key):
        board_key, segment_key, label_key = jax.random.split(key, 3)
        world = lottery_board(board_key, win_weight=win)
        size = {"pairs": config.lottery_pairs, "length": config.segment_length}
        segments = sample_segments(segment_key, world, **size)
        return world, segments, label(label_key, world, segments)

    wins = jnp.repeat(jnp.array(config.win_weights), len(keys))
    drawn = jax.jit(jax.vmap(draw))(wins, jnp.tile(keys, len(config.win_weights)))
    found = scored(config, *drawn, counted)
    shape = (len(config.win_weights), len(keys))
    return {name: x.reshape(*shape, *x.shape[1:]) for name, x in found.items()}


def run_delivery(config: Config) -> dict:
    """The fixed board: weights, values and policies, true and learned from noiseless regret.

    Returns:
      arrays with leading axis 3: true, learned by regret, learned by partial return.
    """
    world = delivery_board()
    segment_key, label_key = jax.random.split(jax.random.key(config.seed))
    size = {"pairs": config.delivery_pairs, "length": config.segment_length}
    segments = jax.jit(partial(sample_segments, world=world, **size))(segment_key)
    prefs = jax.jit(label)(label_key, world, segments)[0, LABELS.index("noiseless")]
    counted = jnp.ones(config.delivery_pairs)
    sizes = {"starts": config.starts, "steps": config.steps, "rate": config.rate}
    fits = [
        jax.jit(partial(fit_weights, model=model, **sizes))(world, segments, prefs, counted)[0]
        for model in MODELS
    ]
    weights = jnp.stack([world.weights, *fits])
    values, probs = jax.jit(jax.vmap(lambda w: planned_solution(world, w)))(weights)
    found = {"weights": weights, "values": values, "probs": probs, "cells": world.cells}
    return found | {"scaled": np.asarray(jax.jit(scaled_returns)(world, weights))}
