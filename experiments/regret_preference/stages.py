"""Boards, lotteries and the delivery board: segments, labels, fits and scaled returns."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.regret_preference.config import Config
from experiments.regret_preference.learners import (
    LABELS,
    MODELS,
    Segments,
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
from rlhf_jax.envs.gridworlds import GridWorld, delivery_board
from rlhf_jax.envs.random_boards import lottery_board, random_board
from rlhf_jax.losses.reward import soft_bradley_terry_loss

PRIORS = {"ridge": flat_prior, "the boards' law": board_prior}


class Drawn(NamedTuple):
    """A board, its segments [N, 2], preferences [source, labels, N], and minus the true regrets [N,
    2]."""

    world: GridWorld
    segments: Segments
    prefs: jax.Array
    regrets: jax.Array


def labelled(key, world: GridWorld, segments: Segments) -> Drawn:
    """Preferences under the true weights."""
    seen = [utilities(world.weights, world, segments, model=model) for model in MODELS]
    kinds = jnp.array([False, True])
    prefs = [jax.vmap(lambda noisy, u=u: draw_prefs(key, u, noisy=noisy))(kinds) for u in seen]
    return Drawn(world, segments, jnp.stack(prefs), seen[0])


def draw_board(config: Config, key) -> Drawn:
    """A random board."""
    board_key, segment_key, label_key = jax.random.split(key, 3)
    world = random_board(board_key, height=config.side, width=config.side)
    size = {"pairs": config.sizes[-1], "length": config.segment_length}
    return labelled(label_key, world, sample_segments(segment_key, world, **size))


def draw_lottery(config: Config, win, key) -> Drawn:
    """A board on which sheep are lotteries: rewards are those of the outcome, and regrets those of
    the choice."""
    board_key, segment_key, label_key = jax.random.split(key, 3)
    world = lottery_board(board_key, win_weight=win)
    size = {"pairs": config.lottery_pairs, "length": config.segment_length}
    return labelled(label_key, world, sample_segments(segment_key, world, **size))


def run_boards(config: Config) -> dict:
    """Random boards.

    Returns:
      "scaled/<model>" returns, "loss/<model>" [boards, labels, size] of both learners on labels of
      regret; "scaled/<model>, converse" [boards, labels] on all labels of partial returns;
      "truth" [boards, labels, size] loss of the true weights on labels of regret, in nats;
      "scaled/<prior>" [boards, labels, size, strengths] of partial returns fitted with a prior, on
      labels of regret; "no labels" [boards] of the plan for the mean weights of `random_board`;
      "ties" [boards, source] share of noiseless labels.
    """
    keys = jax.random.split(jax.random.key(config.seed), config.num_boards)
    drawn = jax.jit(jax.vmap(partial(draw_board, config)))(keys)
    weights, losses = {}, {}
    for model in MODELS:
        parts = [fits(config, drawn, model, source=0, pairs=size) for size in config.sizes]
        weights[model], losses[f"loss/{model}"] = (
            jnp.stack(part, axis=2) for part in zip(*parts, strict=True)
        )
        converse = fits(config, drawn, model, source=1, pairs=config.sizes[-1])
        weights[f"{model}, converse"], losses[f"loss/{model}, converse"] = converse
    weights |= prior_fits(config, drawn)
    weights["no labels"] = jnp.broadcast_to(board_prior().mean, drawn.world.weights.shape)
    true = true_losses(drawn)
    truth = jnp.stack([true[..., :size].mean(-1) for size in config.sizes], axis=-1)
    return {
        "ties": (drawn.prefs[:, :, 0] == 0.5).mean(-1),
        "truth": truth,
        **scaled_returns(drawn.world, weights),
        **losses,
    }


def run_lotteries(config: Config) -> dict:
    """Scaled returns and losses [wins, boards, labels] of both learners on labels of regret, and
    of partial returns on labels of their own, "partial return, converse"."""
    base = jax.random.fold_in(jax.random.key(config.seed), 1)
    keys = jax.random.split(base, config.lottery_boards)
    wins = jnp.repeat(jnp.array(config.win_weights), len(keys))
    draw = jax.jit(jax.vmap(partial(draw_lottery, config)))
    drawn = draw(wins, jnp.tile(keys, len(config.win_weights)))
    weights, losses = {}, {}
    cases = {model: (model, 0) for model in MODELS}
    cases[f"{MODELS[1]}, converse"] = MODELS[1], 1
    for name, (model, source) in cases.items():
        found = fits(config, drawn, model, source=source, pairs=config.lottery_pairs)
        weights[name], losses[f"loss/{name}"] = found
    found = scaled_returns(drawn.world, weights) | losses
    shape = (len(config.win_weights), len(keys))
    return {name: x.reshape(*shape, *x.shape[1:]) for name, x in found.items()}


def by_board(work, *data):
    """`work` of one board after another, so that none waits for the policy iteration of another."""
    return jax.jit(lambda *data: jax.lax.map(lambda one: work(*one), data))(*data)


def fits(
    config: Config, drawn: Drawn, model: str, *, source: int, pairs: int
) -> tuple[jax.Array, jax.Array]:
    """Weights [boards, labels, d] and losses [boards, labels] of a learner, from the first pairs,
    which one of MODELS labels."""
    sizes = {"starts": config.starts, "steps": config.steps, "rate": config.rate}

    def work(data: Drawn):
        segments = first_pairs(data.segments, pairs)
        fit = partial(fit_weights, data.world, segments, model=model, **sizes)
        return jax.vmap(fit)(data.prefs[source, :, :pairs])

    return by_board(work, drawn)


def first_pairs(segments: Segments, pairs: int) -> Segments:
    """The first of them [pairs, 2]."""
    return jax.tree.map(lambda x: x[:pairs], segments)


def prior_fits(config: Config, drawn: Drawn) -> dict:
    """Prior -> weights [boards, labels, size, strengths, d] of partial returns, from regrets."""
    strengths = jnp.array(config.strengths)

    def work(data: Drawn, prior, size):
        fit = partial(fit_with_prior, first_pairs(data.segments, size))
        each = jax.vmap(jax.vmap(fit, (None, None, 0)), (0, None, None))
        return each(data.prefs[0, :, :size], prior, strengths)

    def all_priors(data: Drawn, size):
        return {name: work(data, make(), size) for name, make in PRIORS.items()}

    parts = [by_board(partial(all_priors, size=size), drawn) for size in config.sizes]
    return jax.tree.map(lambda *x: jnp.stack(x, axis=2), *parts)


def scaled_returns(worlds: GridWorld, weights: dict) -> dict:
    """ "scaled/<name>": true returns of the plans for weights [boards, ..., d] of each name, 0 for
    uniform actions and 1 for the best."""
    shapes = {name: x.shape[:-1] for name, x in weights.items()}
    size = worlds.weights.shape
    flat = jnp.concatenate([x.reshape(size[0], -1, size[1]) for x in weights.values()], axis=1)

    def work(world, weights):
        low, high = uniform_return(world), planned_return(world, world.weights)
        return (jax.vmap(partial(planned_return, world))(weights) - low) / (high - low)

    found = np.asarray(by_board(work, worlds, flat))
    ends = np.cumsum([int(np.prod(shape[1:])) for shape in shapes.values()])[:-1]
    parts = zip(shapes.items(), np.split(found, ends, axis=1), strict=True)
    return {f"scaled/{name}": x.reshape(shape) for (name, shape), x in parts}


def true_losses(drawn: Drawn) -> jax.Array:
    """[boards, labels, N] loss of the true weights on labels of regret."""
    prefs = drawn.prefs[:, 0]
    seen = jnp.broadcast_to(drawn.regrets[:, None], (*prefs.shape, 2))
    return soft_bradley_terry_loss(seen[..., 0], seen[..., 1], prefs)


def run_delivery(config: Config) -> dict:
    """The fixed board: weights, values and policies, true and learned from noiseless regret.

    Returns:
      arrays with leading axis 3: true, learned by regret, learned by partial return.
    """
    world = delivery_board()
    segment_key, label_key = jax.random.split(jax.random.key(config.seed))
    size = {"pairs": config.delivery_pairs, "length": config.segment_length}
    segments = jax.jit(partial(sample_segments, world=world, **size))(segment_key)
    drawn = jax.jit(labelled)(label_key, world, segments)
    prefs = drawn.prefs[0, LABELS.index("noiseless")]
    sizes = {"starts": config.starts, "steps": config.steps, "rate": config.rate}
    fits = [
        jax.jit(partial(fit_weights, model=model, **sizes))(world, segments, prefs)[0]
        for model in MODELS
    ]
    weights = jnp.stack([world.weights, *fits])
    values, probs = jax.jit(jax.vmap(lambda w: planned_solution(world, w)))(weights)
    worlds = jax.tree.map(lambda x: x[None], world)
    found = {"weights": weights, "values": values, "probs": probs, "cells": world.cells}
    return found | {"scaled": scaled_returns(worlds, {"all": weights[None]})["scaled/all"][0]}
