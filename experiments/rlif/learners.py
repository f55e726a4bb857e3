"""RLIF, HG-DAgger and its rivals under the same supervision: every teacher, expert and seed."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.rlif.config import Config
from experiments.rlif.worlds import (
    GRIDS,
    Setting,
    cell_features,
    draw_settings,
    drawing_env,
    score,
    teachers,
)
from rlhf_jax.algos.control import dagger, q_learning, rlif
from rlhf_jax.algos.control.takeovers import advance, start
from rlhf_jax.ops.bellman import greedy_policy


class Variant(NamedTuple):
    """late: the teacher reacts to the state that an action led to. on_previous: the -1 goes to the
    previous transition, as in the official code. kept: transitions of the expert that are learned
    from. ends: a late teacher's objection to the end of an episode counts. planned: False for the
    bandit form, which counts interventions without a discounted future."""

    late: bool
    on_previous: bool
    kept: int
    ends: bool = True
    planned: bool = True


VARIANTS = {
    "proposal, last": Variant(False, False, rlif.KEEP_LAST),
    "proposal, all": Variant(False, False, rlif.KEEP_ALL),
    "proposal, none": Variant(False, False, rlif.KEEP_NONE),
    "previous, last": Variant(False, True, rlif.KEEP_LAST),
    "previous, all": Variant(False, True, rlif.KEEP_ALL),
    "proposal, bandit": Variant(False, False, rlif.KEEP_LAST, planned=False),
    "late: previous, last": Variant(True, True, rlif.KEEP_LAST),
    "late: previous, no ends": Variant(True, True, rlif.KEEP_LAST, ends=False),
    "late: proposal, last": Variant(True, False, rlif.KEEP_LAST),
}
MAIN = "proposal, last"
OFFICIAL, LATE, LATE_PROPOSAL = "previous, last", "late: previous, last", "late: proposal, last"


class Learner(NamedTuple):
    """first: its state. propose: `(key, state, place) -> action`; learn: `(state, moment) ->
    state`; policy: `state -> logps [S, A]`."""

    first: Any
    propose: Callable
    learn: Callable
    policy: Callable


class Course(NamedTuple):
    """policies: [points, S, A] log-probs after equal numbers of steps. led: [points] share of the
    steps so far in which the expert acted."""

    policies: jax.Array
    led: jax.Array


def rlif_scores(config: Config) -> dict[str, np.ndarray]:
    """variant -> scores along training [bads, seeds, teachers, points], and "<variant>, led"."""
    columns = [jnp.asarray(column) for column in zip(*VARIANTS.values(), strict=True)]

    def run(setting: Setting, probs: jax.Array, key: jax.Array) -> Course:
        def one(late, on_previous, kept, ends, planned):
            learn = partial(
                rlif.update_rlif,
                gamma=jnp.where(planned, setting.mdp.gamma, 0.0),
                on_previous=on_previous,
                kept=kept,
                ends=ends,
            )
            learner = Learner(
                rlif.init_rlif(*probs.shape),
                lambda key, state, place: q_learning.greedy_q_action(
                    key, state.table, place, explore=config.explore
                ),
                learn,
                lambda state: q_learning.greedy_q_policy(state.table),
            )
            return curve(config, setting, probs, key, learner=learner, late=late)

        return jax.vmap(one)(*columns)

    return over_everything(config, run, tuple(VARIANTS))


def dagger_scores(config: Config) -> dict[str, np.ndarray]:
    """ "HG-DAgger" -> scores along training [bads, seeds, teachers, points]."""

    def run(setting: Setting, probs: jax.Array, key: jax.Array) -> Course:
        def learn(state, moment):
            return dagger.update_dagger(state, moment.state, moment.action, moment.controlled)

        learner = Learner(
            dagger.init_dagger(*probs.shape), dagger.majority_action, learn, dagger.majority_policy
        )
        return jax.tree.map(lambda x: x[None], curve(config, setting, probs, key, learner=learner))

    return over_everything(config, run, ("HG-DAgger",))


def rival_names(config: Config) -> tuple[str, ...]:
    """Imitators that can differ from the expert: clones that generalise, and clones of accepted
    actions too."""
    return (
        *(f"linear HG-DAgger, rate {rate:g}" for rate in config.rates),
        *(f"accepted actions, weight {weight:g}" for weight in config.weights),
    )


def rival_scores(config: Config) -> dict[str, np.ndarray]:
    """Name of `rival_names` -> scores along training [bads, seeds, teachers, points]."""

    def run(setting: Setting, probs: jax.Array, key: jax.Array) -> Course:
        features = cell_features(setting.mdp)

        def linear(rate):
            return curve(config, setting, probs, key, learner=linear_dagger(features, rate))

        def accepting(weight):
            learner = accepted_actions(config, probs.shape, weight)
            return curve(config, setting, probs, key, learner=learner)

        found = [
            jax.vmap(linear)(jnp.asarray(config.rates)),
            jax.vmap(accepting)(jnp.asarray(config.weights)),
        ]
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)

    return over_everything(config, run, rival_names(config))


def linear_dagger(features: jax.Array, rate: jax.Array) -> Learner:
    """HG-DAgger with a softmax that is linear in features [S, F] of a cell: one step of stochastic
    gradient on each action of the expert."""

    def propose(key, weights, place):
        return jax.random.categorical(key, greedy_policy(features[place] @ weights))

    def learn(weights, moment):
        seen = features[moment.state]
        away = jax.nn.one_hot(moment.action, weights.shape[-1]) - jax.nn.softmax(seen @ weights)
        return weights + jnp.where(moment.controlled, rate, 0.0) * jnp.outer(seen, away)

    first = jnp.zeros((features.shape[-1], 4))
    return Learner(first, propose, learn, lambda weights: greedy_policy(features @ weights))


def accepted_actions(config: Config, shape: tuple[int, ...], weight: jax.Array) -> Learner:
    """A vote, in each cell, of the learner's actions that nobody interrupted and of the expert's,
    each of which counts `weight` times.

    Reference: Mandlekar et al. 2020, arXiv:2012.06733 (intervention weighted regression).
    """

    def propose(key, counts, place):
        explore_key, any_key, tie_key = jax.random.split(key, 3)
        vote = jax.random.categorical(tie_key, greedy_policy(counts[place]))
        uniform = jax.random.randint(any_key, (), 0, shape[1])
        return jnp.where(jax.random.uniform(explore_key) < config.explore, uniform, vote)

    def learn(counts, moment):
        worth = jnp.where(moment.controlled, weight, 1.0)
        return counts.at[moment.state, moment.action].add(worth)

    return Learner(jnp.zeros(shape), propose, learn, greedy_policy)


def over_everything(config: Config, run: Callable, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """`run(setting, probs [S, A], key) -> Course [names, ...]` for every share of bad states, seed
    and teacher: scores and "<name>, led", both [bads, seeds, teachers, points].

    A few seeds at a time, so that the tables of all learners stay in the cache.
    """
    with jax.enable_x64(True):
        settings = draw_settings(config)
        probs = jax.vmap(jax.vmap(partial(teachers, config)))(settings)
        keys = jax.random.split(jax.random.key(config.seed + 1), probs.shape[:3])
        each = jax.vmap(jax.vmap(run, (None, 0, 0)))

        def graded(one):
            setting, probs, keys = one
            course = each(setting, probs, keys)  # [bads, teachers, names, points, ...]
            policies = course.policies
            flat = policies.reshape(len(policies), -1, *policies.shape[-2:])
            grade = jax.vmap(jax.vmap(score, (None, None, 0)))
            scores = grade(setting.mdp, setting.best_values, flat)
            return scores.reshape(policies.shape[:-2]), course.led

        by_seed = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), (settings, probs, keys))
        work = jax.jit(lambda data: jax.lax.map(graded, data, batch_size=GRIDS))
        found = [np.moveaxis(np.asarray(x), 0, 1) for x in work(by_seed)]
    scores, led = ({name: x[:, :, :, i] for i, name in enumerate(names)} for x in found)
    return scores | {f"{name}, led": x for name, x in led.items()}


def curve(
    config: Config,
    setting: Setting,
    probs: jax.Array,
    key: jax.Array,
    *,
    learner: Learner,
    late: jax.Array | bool = False,
) -> Course:
    """A learner's course."""
    env = drawing_env(setting.mdp)

    def step(carry, time):
        world, state, led = carry
        world, moment = advance(
            env,
            world,
            lambda key, place: learner.propose(key, state, place),
            lambda place, action: probs[place, action],
            lambda place: setting.expert[place],
            key=jax.random.fold_in(key, time),
            takeover_steps=config.takeover_steps,
            episode_steps=config.episode_steps,
            late=late,
        )
        return (world, learner.learn(state, moment), led + moment.controlled), None

    def segment(carry, times):
        carry, _ = jax.lax.scan(step, carry, times)
        return carry, Course(learner.policy(carry[1]), carry[2] / times[-1])

    times = jnp.arange(1, config.steps + 1).reshape(config.points, -1)
    world = start(env, jax.random.fold_in(key, 0))
    first = (world, learner.first, jnp.zeros((), int))
    return jax.lax.scan(segment, first, times)[1]
