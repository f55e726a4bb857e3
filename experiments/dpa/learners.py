"""A log-linear policy that reads a direction, and four others from as many samples.

A round draws K answers to each prompt in each of its directions, and learns by maximum likelihood.
Parameters are theta [3, d]: logits phi . (theta_0 + v_1 theta_1 + v_2 theta_2).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from experiments.dpa.config import Config
from rlhf_jax.algos import sft
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.ops.directions import (
    directed_features,
    draw_directions,
    scalarise,
    unit_directions,
)
from rlhf_jax.policies.linear import linear_policy
from rlhf_jax.types import Trajectory

SHARED, OWN, SCALE = 0.5, 0.9, 2.0  # of the second reward's weights; of both rewards


class World(NamedTuple):
    """features [S, A, d]; rewards [S, A, 2]."""

    features: Array
    rewards: Array


class Labelled(NamedTuple):
    """Answers to learn: of N rows the prompt, the direction [2], the answer, whether it counts."""

    states: Array
    directions: Array
    answers: Array
    counts: Array


def draw_world(config: Config, key: jax.Array) -> World:
    """r = 2 phi . (w_1, w_2), phi from N(0, I / d), w_2 = w_1 / 2 + 0.9 N(0, I)."""
    feature_key, first_key, second_key = jax.random.split(key, 3)
    size = config.features
    shape = (config.prompts, config.answers, size)
    features = jax.random.normal(feature_key, shape) / size**0.5
    first, own = (jax.random.normal(k, (size,)) for k in (first_key, second_key))
    weights = jnp.stack([first, SHARED * first + OWN * own], axis=-1)
    return World(features, SCALE * features @ weights)


def directions_asked(config: Config) -> Array:
    """[asked, 2], what is measured."""
    return unit_directions(jnp.radians(jnp.linspace(-config.angle, config.angle, config.asked)))


def measure(config: Config, world: World, theta: Array) -> Array:
    """E[r] of the policy asked for each direction, exact: [asked, 2], means over prompts."""
    weights = jnp.concatenate([jnp.ones((config.asked, 1)), directions_asked(config)], axis=-1)
    probs = jax.nn.softmax(jnp.einsum("sad,vi,id->vsa", world.features, weights, theta))
    return jnp.einsum("vsa,saj->vj", probs, world.rewards) / config.prompts


def fit(config: Config, world: World, theta: Array, rows: Labelled) -> Array:
    """The gradient steps of a round."""
    features = directed_features(world.features[rows.states], rows.directions)
    policy = linear_policy(features)
    optimizer = optax.sgd(config.rate)
    update = sft.make_update(policy, optimizer)
    numbers = jnp.arange(len(rows.states))[:, None]
    batch = Trajectory(numbers, rows.answers[:, None], rows.counts[:, None])
    state = init_state(theta.reshape(-1), optimizer)
    state = jax.lax.scan(lambda s, _: (update(s, batch)[0], None), state, length=config.steps)[0]
    return state.params.reshape(theta.shape)


def best_rows(
    config: Config,
    world: World,
    theta: Array,
    key: jax.Array,
    *,
    fixed: bool = False,
    unread: bool = False,
    samples: int | None = None,
) -> Labelled:
    """Rejection sampling over directions: the best of K under v . r in each row.

    Args:
      fixed: all directions are the first reward. unread: v selects, and the policy reads (1, 0).
      samples: K, if another than the config's.
    """
    draw_key, sample_key = jax.random.split(key)
    count = config.prompts * config.directions
    states = jnp.arange(count) % config.prompts
    end = 0.0 if fixed else float(jnp.pi) * config.angle / 180.0
    directions = draw_directions(draw_key, (count,), low=-end, high=end)
    read = jnp.broadcast_to(jnp.array([1.0, 0.0]), directions.shape) if unread else directions
    weights = jnp.concatenate([jnp.ones((count, 1)), read], axis=-1)
    logits = jnp.einsum("nad,nd->na", world.features[states], weights @ theta)
    shape = (count, samples or config.samples)
    drawn = jax.random.categorical(sample_key, logits[:, None], shape=shape)
    worth = scalarise(world.rewards[states[:, None], drawn], directions)
    best = jnp.take_along_axis(drawn, jnp.argmax(worth, axis=-1)[:, None], axis=-1)[:, 0]
    return Labelled(states, read, best, jnp.ones(count, bool))


def labelled_rows(config: Config, world: World, key: jax.Array) -> Labelled:
    """Uniform answers, as many as in a round, each with the direction of its own z-scored rewards;
    those within the range are kept."""
    pool = config.directions * config.samples
    answers = jax.random.randint(key, (config.prompts, pool), 0, config.answers)
    rewards = jnp.take_along_axis(world.rewards, answers[..., None], axis=1)
    z = (rewards - rewards.mean((0, 1))) / rewards.std((0, 1))
    angles = jnp.arctan2(z[..., 1], z[..., 0])
    inside = jnp.abs(angles) <= jnp.radians(config.angle)
    order = jnp.argsort(~inside, axis=-1, stable=True)[:, : config.kept]
    answers, angles, inside = (
        jnp.take_along_axis(x, order, axis=-1).reshape(-1) for x in (answers, angles, inside)
    )
    states = jnp.repeat(jnp.arange(config.prompts), config.kept)
    return Labelled(states, unit_directions(angles), answers, inside)


def follow(
    config: Config, world: World, key: jax.Array, rows: Callable[..., Labelled], rounds: int
) -> Array:
    """E[r] before and after each round, [rounds + 1, asked, 2]."""

    def step(theta: Array, key: jax.Array) -> tuple[Array, Array]:
        found = measure(config, world, theta)
        return fit(config, world, theta, rows(config, world, theta, key)), found

    start = jnp.zeros((3, config.features))
    last, found = jax.lax.scan(step, start, jax.random.split(key, rounds))
    return jnp.concatenate([found, measure(config, world, last)[None]])


METHODS: dict[str, Callable[..., Labelled]] = {
    "DPA": best_rows,
    "one direction": partial(best_rows, fixed=True),
    "direction not read": partial(best_rows, unread=True),
    "K = 1": partial(best_rows, samples=1),
    "labels": lambda config, world, theta, key: labelled_rows(config, world, key),
}


@partial(jax.jit, static_argnames=("config", "name"))
def run_method(config: Config, keys: jax.Array, name: str) -> Array:
    """[seeds, rounds + 1, asked, 2] of a method of `METHODS`; labels have one round."""
    rounds = 1 if name == "labels" else config.rounds

    def one(key: jax.Array) -> Array:
        world_key, draw_key = jax.random.split(key)
        world = draw_world(config, world_key)
        return follow(config, world, draw_key, METHODS[name], rounds)

    return jax.lax.map(one, keys)


def run_methods(config: Config) -> dict[str, Array]:
    """Every method in the same worlds."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    return {name: run_method(config, keys, name) for name in METHODS}
