"""Records of each kind of feedback about trajectories in feature space.

A trajectory is STEPS + 1 states, whose features are independent normal numbers scaled so that
the features of a trajectory, the sum over its steps' arrivals, have variance 1. A kind is a way to
draw options [K, d]; all are read by `choices.choice_loglik`. The kinds are those of Jeon et al.
2020, Table 1, and rankings and critiques of two moments.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.feedback_types.learner import Records
from rlhf_jax.feedback import choices, posteriors, teachers

STEPS = 9
DEMONSTRATED, RANKED, PUSHES, PROXIES, ENDS = 50, 4, 20, 20, 10  # options of each
WINDOW = 3  # steps that are credited
FULFILS = 5  # an utterance is fulfilled by one of so many trajectories
FORCE = 0.1  # standard deviation of a push, in every feature
MOST = PUSHES + 1  # options that all kinds but demonstrations are filled up to
MIXED = "mixture of four"
TYPES = ("comparison", "critique", "correction", "off", "demonstration", "ranking")  # of the spec
PARTS = TYPES[:4]  # of the mixture

Draw = Callable[[jax.Array, int], jax.Array]


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


def corrections(key: jax.Array, d: int, *, pushed: int = PUSHES) -> jax.Array:
    """[pushed + 1, d] a trajectory as it is, and pushed at one inner state each."""
    path_key, place_key, push_key = jax.random.split(key, 3)
    (path,) = states(path_key, 1, d)
    places = jax.random.randint(place_key, (pushed,), 1, STEPS)
    forces = FORCE * jax.random.normal(push_key, (pushed, d))
    pushes = jax.nn.one_hot(places, STEPS + 1)[..., None] * forces[:, None]
    return choices.corrected_paths(path, pushes)[:, 1:].sum(1)


def critiques(key: jax.Array, d: int) -> jax.Array:
    """[2, d] a trajectory against one whose features are 0: reward or punishment."""
    return choices.critique_options(summed(key, 1, d)[0], jnp.zeros(d))


def moments(key: jax.Array, d: int) -> jax.Array:
    """[2, d] a trajectory up to two of its states."""
    path_key, time_key = jax.random.split(key)
    (path,) = states(path_key, 1, d)
    times = jax.random.permutation(time_key, STEPS + 1)[:2]
    return choices.prefix_options(path[1:], times)


def credits(key: jax.Array, d: int) -> jax.Array:
    """[STEPS - WINDOW + 1, d] the windows of a trajectory, of which one is credited."""
    (path,) = states(key, 1, d)
    sums = choices.prefix_sums(path[1:])
    return sums[WINDOW:] - sums[:-WINDOW]


def utterances(key: jax.Array, d: int) -> jax.Array:
    """[2 d, d] "more of feature j", "less of it": any of the trajectories with the most, least."""
    paths = summed(key, DEMONSTRATED, d)
    most = jnp.concatenate([paths, -paths], axis=1).T
    kept = DEMONSTRATED // FULFILS
    fulfils = most >= jnp.sort(most, axis=1)[:, -kept, None]
    return choices.expected_options(fulfils / kept, paths)


def proxies(key: jax.Array, d: int) -> jax.Array:
    """[PROXIES, d] the trajectory that each of some rewards thinks best."""
    path_key, proxy_key = jax.random.split(key)
    paths = summed(path_key, DEMONSTRATED, d)
    drawn = posteriors.to_sphere(jax.random.normal(proxy_key, (PROXIES, d)))
    best = jnp.argmax(drawn @ paths.T, axis=1)
    return choices.expected_options(jax.nn.one_hot(best, DEMONSTRATED), paths)


def initial_states(key: jax.Array, d: int) -> jax.Array:
    """[ENDS, d] states that the world was found in: any of the trajectories that end there."""
    paths = summed(key, DEMONSTRATED, d)
    ends = jnp.arange(DEMONSTRATED) % ENDS
    leads = jax.nn.one_hot(ends, ENDS).T
    return choices.expected_options(leads / leads.sum(1, keepdims=True), paths)


OPTIONS: dict[str, Draw] = {
    "comparison": lambda key, d: summed(key, 2, d),
    "critique": critiques,
    "improvement": lambda key, d: corrections(key, d, pushed=1),
    "two moments": moments,
    "correction": corrections,
    "off": stops,
    "credit": credits,
    "language": utterances,
    "proxy reward": proxies,
    "initial state": initial_states,
    "demonstration": lambda key, d: summed(key, DEMONSTRATED, d),
    "ranking": lambda key, d: summed(key, RANKED, d),
}
KINDS = tuple(OPTIONS)


class Group(NamedTuple):
    """Kinds that one program runs. names: of kinds, the mixture may be among them. most: options of
    each, filled up with ones that may not be chosen. ranked: the answer orders all options."""

    names: tuple[str, ...]
    most: int
    ranked: bool = False


GROUPS = (
    Group(KINDS[:4], 2),
    Group((*KINDS[4:10], MIXED), MOST),
    Group(("demonstration",), DEMONSTRATED),
    Group(("ranking",), RANKED, ranked=True),
)


def drawn(group: Group, key: jax.Array, which: jax.Array, turn: jax.Array, d: int):
    """Options [K, d] of kind `which` of the group, and which of them exist [K]; the mixture takes
    its parts in turn."""
    kinds = [name for name in group.names if name != MIXED]
    if MIXED in group.names:
        kinds += [name for name in PARTS if name not in kinds]
        part = jnp.asarray([kinds.index(name) for name in PARTS])[turn % len(PARTS)]
        which = jnp.where(which == group.names.index(MIXED), part, which)

    def filled(name: str):
        def draw(key):
            options = OPTIONS[name](key, d)
            missing = group.most - len(options)
            exists = jnp.arange(group.most) < len(options)
            return jnp.pad(options, ((0, missing), (0, 0))), exists

        return draw

    return jax.lax.switch(which, [filled(name) for name in kinds], key)


def answered(group: Group, key: jax.Array, theta, options, exists, *, beta) -> Records:
    """The record [R, ...] of a teacher's answer: one choice, or one for each place of a ranking."""
    values = options @ theta
    if group.ranked:
        ranking = teachers.pl_ranking(key, values, beta=beta)
        each = jnp.broadcast_to(options, (len(options), *options.shape))
        return Records(each, ranking, choices.ranking_masks(ranking))
    choice = choices.sample_choice(key, values, exists, beta=beta)
    return Records(options[None], choice[None], exists[None])
