"""Records of each type of feedback about trajectories in feature space.

A trajectory is STEPS + 1 states, whose features are independent normal numbers scaled so that
the features of a trajectory, the sum over its steps' arrivals, have variance 1.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from experiments.feedback_types.config import Config
from experiments.feedback_types.learner import Records
from rlhf_jax.feedback import choices, teachers

STEPS = 9
DEMONSTRATED, RANKED, PUSHES = 50, 4, 20  # options of each
FORCE = 0.1  # standard deviation of a push, in every feature
MIXED = "mixture of four"


def states(key: jax.Array, n: int, d: int) -> jax.Array:
    """[n, STEPS + 1, d] features of the states of n trajectories."""
    return jax.random.normal(key, (n, STEPS + 1, d)) / STEPS**0.5


def summed(key: jax.Array, n: int, d: int) -> jax.Array:
    """[n, d] features of n trajectories."""
    return states(key, n, d)[:, 1:].sum(1)


def stops(key: jax.Array, d: int) -> jax.Array:
    """[STEPS + 1, d] a trajectory, stopped at each of its states or not at all."""
    (one,) = states(key, 1, d)
    return choices.stop_options(one[1:], one[:-1], jnp.ones(STEPS, bool))[0]


def corrections(key: jax.Array, d: int) -> jax.Array:
    """[PUSHES + 1, d] a trajectory as it is, and pushed at one inner state each."""
    path_key, place_key, push_key = jax.random.split(key, 3)
    (path,) = states(path_key, 1, d)
    places = jax.random.randint(place_key, (PUSHES,), 1, STEPS)
    forces = FORCE * jax.random.normal(push_key, (PUSHES, d))
    pushes = jax.nn.one_hot(places, STEPS + 1)[..., None] * forces[:, None]
    return choices.corrected_paths(path, pushes)[:, 1:].sum(1)


def critiques(key: jax.Array, d: int) -> jax.Array:
    """[2, d] a trajectory against one whose features are 0."""
    return choices.critique_options(summed(key, 1, d)[0], jnp.zeros(d))


OPTIONS: dict[str, Callable[[jax.Array, int], jax.Array]] = {
    "comparison": lambda key, d: summed(key, 2, d),
    "critique": critiques,
    "correction": corrections,
    "off": stops,
    "demonstration": lambda key, d: summed(key, DEMONSTRATED, d),
    "ranking": lambda key, d: summed(key, RANKED, d),
}
TYPES = tuple(OPTIONS)
PARTS = TYPES[:4]  # of the mixture


def drawn_options(config: Config, key: jax.Array, name: str) -> jax.Array:
    """[N, K, d] of the records of one type."""
    keys = jax.random.split(key, config.records)
    return jax.vmap(lambda key: OPTIONS[name](key, config.num_features))(keys)


def chosen(
    config: Config, key: jax.Array, theta: jax.Array, options: jax.Array, mask: jax.Array
) -> Records:
    """Records of one choice each, among options [N, K, d]."""
    choice = choices.sample_choice(key, options @ theta, mask, beta=config.beta)
    return Records(options[:, None], choice[:, None], mask[:, None])


def demonstrations(config: Config, key: jax.Array, theta: jax.Array) -> Records:
    """Records of one choice among many trajectories."""
    option_key, answer_key = jax.random.split(key)
    options = drawn_options(config, option_key, "demonstration")
    return chosen(config, answer_key, theta, options, jnp.ones(options.shape[:-1], bool))


def rankings(config: Config, key: jax.Array, theta: jax.Array) -> Records:
    """Records of as many choices as there are items, each among those that are left."""
    option_key, answer_key = jax.random.split(key)
    options = drawn_options(config, option_key, "ranking")
    ranking = teachers.pl_ranking(answer_key, options @ theta, beta=config.beta)
    every_place = jnp.repeat(options[:, None], RANKED, axis=1)
    return Records(every_place, ranking, choices.ranking_masks(ranking))


def part_records(config: Config, key: jax.Array, theta: jax.Array, which: jax.Array) -> Records:
    """Records of type PARTS[which], or of all of them in turn for which = len(PARTS); the options
    of all types are filled up to one number."""
    *keys, answer_key = jax.random.split(key, len(PARTS) + 1)
    options, masks = [], []
    for name, key in zip(PARTS, keys, strict=True):
        one = drawn_options(config, key, name)
        missing = PUSHES + 1 - one.shape[1]
        options.append(jnp.pad(one, ((0, 0), (0, missing), (0, 0))))
        masks.append(jnp.pad(jnp.ones(one.shape[:2], bool), ((0, 0), (0, missing))))
    turn = jnp.arange(config.records)
    part = jnp.where(which < len(PARTS), which, turn % len(PARTS))
    picked = jnp.stack(options)[part, turn], jnp.stack(masks)[part, turn]
    return chosen(config, answer_key, theta, *picked)
