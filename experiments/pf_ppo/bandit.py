"""A bandit whose reward model is right at both ends of gold, and sees something else between."""

from functools import partial
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from experiments.pf_ppo.config import Config
from experiments.pf_ppo.filtered import NAMES, Rules, train_filtered


class World(NamedTuple):
    """features: [S, A, d]. gold: [S, A] in (0, 1). spurious: [S, A] u . phi. noise: [I, S, N, A]
    Gumbel. key: of the resampling."""

    features: Array
    gold: Array
    spurious: Array
    noise: Array
    key: Array


def draw_world(config: Config, key: Key[Array, ""]) -> World:
    """Gold weights w, and a unit direction u orthogonal to w."""
    phi_key, w_key, u_key, noise_key, own_key = jax.random.split(key, 5)
    phi = jax.random.normal(phi_key, (config.prompts, config.answers, config.features))
    w = jax.random.normal(w_key, (config.features,))
    w = w / jnp.linalg.norm(w)
    u = jax.random.normal(u_key, (config.features,))
    u = u - jnp.dot(u, w) * w
    u = u / jnp.linalg.norm(u)
    size = config.iterations, config.prompts, config.samples, config.answers
    noise = jax.random.gumbel(noise_key, size)
    return World(phi, jax.nn.sigmoid(config.norm * phi @ w), phi @ u, noise, own_key)


def model_scores(world: World, edge: Array, amplitude: Array) -> Float[Array, "S A"]:
    """The reward model: gold near 0 and 1, the spurious direction elsewhere."""
    sure = (world.gold <= edge) | (world.gold >= 1.0 - edge)
    return jnp.where(sure, world.gold, 0.5 + amplitude * jnp.tanh(2.0 * world.spurious))


def settings(config: Config) -> list[tuple[int, bool]]:
    """(reward model, whiten first) of every sweep over the filters; claims: the first two."""
    return [(0, False), (0, True), *((i, False) for i in range(1, len(config.models())))]


def bandit_study(config: Config) -> dict[str, np.ndarray]:
    """gold [N, settings, filters, I + 1]; r2, informative [N, settings, filters]."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    worlds = jax.jit(jax.vmap(partial(draw_world, config)))(keys)
    rows = [
        (*config.models()[model], kind, first)
        for (model, first), kind in product(settings(config), range(len(NAMES)))
    ]
    given = [jnp.asarray(np.array(column)) for column in zip(*rows, strict=True)]

    def one(world: World, edge: Array, amplitude: Array, kind: Array, first: Array):
        rules = Rules(
            beta=config.beta,
            clip_eps=config.clip_eps,
            epochs=config.epochs,
            baseline_rate=config.baseline_rate,
            kind=kind,
            whiten_first=first,
        )
        return train_filtered(
            rules,
            jnp.zeros(config.features),
            lambda theta: world.features @ theta,
            optax.sgd(config.rate),
            model_scores(world, edge, amplitude),
            world.gold,
            world.noise,
            world.key,
        )

    over_all = jax.jit(jax.vmap(jax.vmap(one, (None, 0, 0, 0, 0)), (0, None, None, None, None)))
    found = over_all(worlds, *given)
    shape = config.num_seeds, len(settings(config)), len(NAMES)
    return {name: np.asarray(x).reshape(*shape, *x.shape[2:]) for name, x in found.items()}
