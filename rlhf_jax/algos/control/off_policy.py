"""The loop of off-policy control: act in some worlds, store the steps, update after each of them.

    replay = init_replay(empty_step(env, action), size=rounds * steps * worlds)
    now = Progress(learner, replay)
    for each round:  now = play_round(key, now, act, learn, env=env, steps=200, worlds=2)

The learner is any pytree. What it does is two functions:
  act: `(key, learner, observations [W, ...]) -> actions [W, ...]`, with its exploration.
  learn: `(key, learner, replay) -> learner`, e.g. `ddpg.make_update` on `replay.draw_rows`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Key

from rlhf_jax.algos.control.ddpg import ControlTransitions
from rlhf_jax.algos.control.replay import ReplayBuffer, add_rows
from rlhf_jax.checks import check_range
from rlhf_jax.types import Env, PyTree

ActIn = Callable[[Key[Array, ""], PyTree, PyTree], Array]
LearnFrom = Callable[[Key[Array, ""], PyTree, ReplayBuffer], PyTree]


class Progress(NamedTuple):
    """What a run carries from round to round. learner: any pytree; replay: of
    `ControlTransitions`."""

    learner: PyTree
    replay: ReplayBuffer


def empty_step(env: Env, action: Array) -> ControlTransitions:
    """The shapes of one step, for `init_replay`.

    Args:
      action: one action of the environment; only its shape and dtype matter.
    """

    def one() -> ControlTransitions:
        state, observation = env.reset(jax.random.key(0))
        _, seen = env.step(jax.random.key(0), state, action)
        return ControlTransitions(observation, action, seen.reward, seen.discount, seen.observation)

    return jax.eval_shape(one)


def play_round(
    key: Key[Array, ""],
    now: Progress,
    act: ActIn,
    learn: LearnFrom,
    *,
    env: Env,
    steps: int,
    worlds: int,
    learning: Bool[Array, ""] | bool = True,
) -> Progress:
    """`steps` steps in each of `worlds` worlds from fresh starts, an update after each step.

    An episode that ends starts again; the end of the round is a time limit, no end.

    Args:
      act, learn: as above.
      steps, worlds: >= 1; the replay's size is a multiple of `worlds`.
      learning: False stores the steps and leaves the learner as it is. May be traced.
    """
    check_range("[1, inf)", steps=steps, worlds=worlds)

    def step(carry, time):
        (learner, replay), states, observations = carry
        act_key, step_key, learn_key = jax.random.split(jax.random.fold_in(key, time), 3)
        actions = act(act_key, learner, observations)
        moved, seen = jax.vmap(env.step)(jax.random.split(step_key, worlds), states, actions)
        rows = ControlTransitions(
            observations, actions, seen.reward, seen.discount, seen.observation
        )
        replay = add_rows(replay, rows)
        learner = jax.lax.cond(learning, lambda: learn(learn_key, learner, replay), lambda: learner)
        # A key of its own, so that the draws of worlds that never end stay as they are.
        fresh = jax.vmap(env.reset)(jax.random.split(jax.random.fold_in(step_key, steps), worlds))
        ended = seen.discount == 0
        states, observations = jax.tree.map(
            lambda new, old: jnp.where(_spread(ended, new), new, old),
            fresh,
            (moved, seen.observation),
        )
        return (Progress(learner, replay), states, observations), None

    starts = jax.random.split(jax.random.fold_in(key, steps), worlds)
    start = (now, *jax.vmap(env.reset)(starts))
    return jax.lax.scan(step, start, jnp.arange(steps))[0][0]


def _spread(ended: Bool[Array, "W"], like: Array) -> Array:
    """[W] as [W, 1, ...], to choose between arrays [W, ...]."""
    return ended.reshape(-1, *(1,) * (like.ndim - 1))
