"""Reward models with a contrastive term on two dropout views, on the same noisy pairs."""

from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from experiments.secrets_rm.config import Config
from experiments.secrets_rm.repairs import make_world
from experiments.secrets_rm.worlds import accuracy, adam, fit_epochs, tanh_model
from rlhf_jax.algos import contrastive_reward
from rlhf_jax.algos.contrastive_reward import ContrastiveBatch, ContrastiveParams, whole_reward
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.losses.contrastive import difference_items, pair_items, simcse_loss, swav_loss


def variants(config: Config) -> dict[str, tuple[int, dict[str, Any]]]:
    """name -> (number of prototypes, options of the update). The first has no contrastive term."""
    sizes = config.contrast
    simcse = partial(simcse_loss, temperature=sizes.temperature)
    swav = partial(swav_loss, temperature=sizes.temperature)
    answers, gaps = {"items": pair_items}, {"items": difference_items}
    return {
        "dropout only": (0, {"contrast": simcse, "weight": 0.0, **answers}),
        "SimCSE": (0, {"contrast": simcse, "weight": sizes.simcse, **answers}),
        "SimCSE, differences": (0, {"contrast": simcse, "weight": sizes.simcse, **gaps}),
        "SwAV": (sizes.prototypes, {"contrast": swav, "weight": sizes.swav, **answers}),
        "SwAV, differences": (
            sizes.prototypes_diff,
            {"contrast": swav, "weight": sizes.swav_diff, **gaps},
        ),
    }


def one_curve(key: Key[Array, ""], config: Config, count: int, options: dict[str, Any]) -> Array:
    """Accuracy on clean pairs after each pass [epochs], in the world of `repairs.one_world`."""
    keys = jax.random.split(key, 5)
    world, sizes = make_world(keys[0], config), config.contrast
    model = tanh_model(width=config.width, dropout=sizes.dropout)
    reward, optimizer = whole_reward(model), adam(config.rate)
    update = contrastive_reward.make_update(model, optimizer, **options)
    init_key, prototype_key, fit_key = jax.random.split(keys[2], 3)
    prototypes = jax.random.normal(prototype_key, (count, config.width)) if count else None
    params = ContrastiveParams(model.init(init_key), prototypes)

    def take(rows: Array, key: Array) -> ContrastiveBatch:
        return ContrastiveBatch(jax.tree.map(lambda x: x[rows], world.pairs), key)

    return fit_epochs(
        fit_key,
        update,
        init_state(params, optimizer),
        config.pairs,
        take,
        lambda state: accuracy(reward, state.params.reward, world.test),
        epochs=sizes.epochs,
        batch=config.batch,
    )[1]


def contrast_study(config: Config) -> dict[str, np.ndarray]:
    """name -> accuracy curves [seeds, epochs]."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    found = {}
    for name, (count, options) in variants(config).items():
        each = partial(one_curve, config=config, count=count, options=options)
        found[name] = np.asarray(jax.jit(jax.vmap(each))(keys))
    return found
