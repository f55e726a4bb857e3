"""RLIF and HG-DAgger under the same supervision, for every teacher, expert and seed in one scan."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.rlif.config import Config
from experiments.rlif.worlds import Setting, draw_settings, score, teachers
from rlhf_jax.algos.control import dagger, q_learning, rlif
from rlhf_jax.algos.control.takeovers import advance, start
from rlhf_jax.envs.tabular_mdp import discounted_env

# name -> (the -1 goes to the previous transition, transitions of the expert that are learned from)
VARIANTS = {
    "proposal, last": (False, rlif.KEEP_LAST),
    "proposal, all": (False, rlif.KEEP_ALL),
    "proposal, none": (False, rlif.KEEP_NONE),
    "previous, last": (True, rlif.KEEP_LAST),
    "previous, all": (True, rlif.KEEP_ALL),
}
MAIN = "proposal, last"


class Learner(NamedTuple):
    """first: its state. propose: `(key, state, place) -> action`; learn: `(state, moment) ->
    state`; policy: `state -> logps [S, A]`."""

    first: Any
    propose: Callable
    learn: Callable
    policy: Callable


def rlif_scores(config: Config) -> dict[str, np.ndarray]:
    """variant -> scores along training [bads, seeds, teachers, points]."""
    flags, kept = (jnp.asarray(column) for column in zip(*VARIANTS.values(), strict=True))

    def run(setting: Setting, probs: jax.Array, key: jax.Array) -> jax.Array:
        def one(on_previous, kept):
            learn = partial(
                rlif.update_rlif, gamma=setting.mdp.gamma, on_previous=on_previous, kept=kept
            )
            learner = Learner(
                rlif.init_rlif(*probs.shape),
                lambda key, state, place: q_learning.greedy_q_action(
                    key, state.table, place, explore=config.explore
                ),
                learn,
                lambda state: q_learning.greedy_q_policy(state.table),
            )
            return curve(config, setting, probs, key, learner=learner)

        return jax.vmap(one)(flags, kept)

    found = over_everything(config, run)
    return {name: found[:, :, :, i] for i, name in enumerate(VARIANTS)}


def dagger_scores(config: Config) -> dict[str, np.ndarray]:
    """ "HG-DAgger" -> scores along training [bads, seeds, teachers, points]."""

    def run(setting: Setting, probs: jax.Array, key: jax.Array) -> jax.Array:
        def learn(state, moment):
            return dagger.update_dagger(state, moment.state, moment.action, moment.controlled)

        learner = Learner(
            dagger.init_dagger(*probs.shape), dagger.majority_action, learn, dagger.majority_policy
        )
        return curve(config, setting, probs, key, learner=learner)

    return {"HG-DAgger": over_everything(config, run)}


def over_everything(config: Config, run: Callable) -> np.ndarray:
    """`run(setting, probs [S, A], key)` for every share of bad states, seed and teacher."""
    with jax.enable_x64(True):
        settings = draw_settings(config)
        probs = jax.vmap(jax.vmap(partial(teachers, config)))(settings)
        keys = jax.random.split(jax.random.key(config.seed + 1), probs.shape[:3])
        each = jax.vmap(jax.vmap(jax.vmap(run, (None, 0, 0))))
        policies = jax.jit(each)(settings, probs, keys)
        lead = policies.shape[2:-2]
        flat = policies.reshape(*policies.shape[:2], -1, *policies.shape[-2:])
        grade = jax.vmap(jax.vmap(jax.vmap(score, (None, None, 0))))
        scores = jax.jit(grade)(settings.mdp, settings.best_values, flat)
        return np.asarray(scores.reshape(*scores.shape[:2], *lead))


def curve(
    config: Config, setting: Setting, probs: jax.Array, key: jax.Array, *, learner: Learner
) -> jax.Array:
    """The learner's policy [points, S, A] after equal numbers of steps."""
    # What is drawn needs no 53 bits; what is evaluated and learned has them.
    env = discounted_env(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), setting.mdp))

    def step(carry, time):
        world, state = carry
        world, moment = advance(
            env,
            world,
            lambda key, place: learner.propose(key, state, place),
            probs,
            setting.expert,
            key=jax.random.fold_in(key, time),
            takeover_steps=config.takeover_steps,
            episode_steps=config.episode_steps,
        )
        return (world, learner.learn(state, moment)), None

    def segment(carry, times):
        carry, _ = jax.lax.scan(step, carry, times)
        return carry, learner.policy(carry[1])

    times = jnp.arange(1, config.steps + 1).reshape(config.points, -1)
    first = (start(env, jax.random.fold_in(key, 0)), learner.first)
    return jax.lax.scan(segment, first, times)[1]
