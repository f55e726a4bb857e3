"""Reward models with a contrastive term on two dropout views, on the same noisy pairs."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key

from experiments.secrets_rm.config import Config
from experiments.secrets_rm.repairs import World, make_world
from experiments.secrets_rm.worlds import accuracy, adam, fit_epochs, tanh_model
from rlhf_jax.algos import contrastive_reward
from rlhf_jax.algos.contrastive_reward import ContrastiveBatch, ContrastiveParams, whole_reward
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.losses.contrastive import difference_items, pair_items, simcse_loss, swav_loss


class Form(NamedTuple):
    """A contrastive term; prototypes: their number, 0 for none. weights: by the name of a run."""

    contrast: Callable[..., Array]
    items: Callable[..., Array]
    prototypes: int
    weights: dict[str, float]


def forms(config: Config) -> list[Form]:
    """SimCSE on answers, also with weight 0, and SwAV on differences of answers."""
    sizes = config.contrast
    simcse = partial(simcse_loss, temperature=sizes.temperature)
    swav = partial(swav_loss, temperature=sizes.temperature)
    return [
        Form(simcse, pair_items, 0, {"dropout only": 0.0, "SimCSE": sizes.simcse}),
        Form(swav, difference_items, sizes.prototypes, {"SwAV, differences": sizes.swav}),
    ]


def one_curve(
    key: Key[Array, ""], world: World, weight: Array, config: Config, form: Form
) -> Array:
    """Accuracy on clean pairs after each pass [epochs]."""
    sizes, keys = config.contrast, jax.random.split(key, 3)
    model = tanh_model(width=config.width, dropout=sizes.dropout)
    reward, optimizer = whole_reward(model), adam(config.rate)
    update = contrastive_reward.make_update(
        model, optimizer, contrast=form.contrast, weight=weight, items=form.items
    )
    shape = (form.prototypes, config.width)
    prototypes = jax.random.normal(keys[1], shape) if form.prototypes else None
    params = ContrastiveParams(model.init(keys[0]), prototypes)

    def take(rows: Array, key: Array) -> ContrastiveBatch:
        return ContrastiveBatch(jax.tree.map(lambda x: x[rows], world.pairs), key)

    return fit_epochs(
        keys[2],
        update,
        init_state(params, optimizer),
        config.pairs,
        take,
        lambda state: accuracy(reward, state.params.reward, world.test),
        epochs=sizes.epochs,
        batch=config.batch,
    )[1]


def contrast_study(config: Config) -> dict[str, np.ndarray]:
    """name -> accuracy curves [seeds, epochs], in the worlds of `repairs.repair_study`."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    parts = jax.vmap(lambda key: jax.random.split(key, 5))(keys)
    worlds = jax.jit(jax.vmap(partial(make_world, config=config)))(parts[:, 0])
    found = {}
    for form in forms(config):
        each = jax.vmap(partial(one_curve, config=config, form=form), in_axes=(0, 0, None))
        run = jax.jit(each)
        for name, weight in form.weights.items():
            found[name] = np.asarray(run(parts[:, 2], worlds, weight))
    return found
