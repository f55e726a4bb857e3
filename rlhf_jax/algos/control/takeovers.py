"""Acting under supervision: a learner proposes, a teacher may take over, an expert then acts.

One `advance` is one step of the environment; `rlif` and `dagger` learn from the `Moment` it
returns. Teacher, expert and learner are functions of an observation, of a table or a network, so a
scan over `advance` runs under vmap for many seeds, experts and teachers at once.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from rlhf_jax.checks import check_range
from rlhf_jax.types import Env, PyTree


class World(NamedTuple):
    """env_state, observation: of the environment; time: number of steps in this episode so far;
    left: number of steps for which the expert stays in control. due: a late teacher objected to the
    last step, and takes over at the next one."""

    env_state: PyTree
    observation: Array
    time: Int[Array, ""]
    left: Int[Array, ""]
    due: Bool[Array, ""]


class Moment(NamedTuple):
    """One step. state: before the step; proposal: the learner's action; action: the executed one.

    intervened: the expert took over at this step. controlled: the expert acted, because it took
      over now or earlier. returned: the last step of a takeover; the learner acts next.
    objected: a late teacher objects to this step of the learner; it takes over at the next one, if
      the episode goes on.
    next_state: after the step; discount: 0 if the environment ended the episode, else 1. over: the
      episode ended, by the environment or by the limit on its length.
    """

    state: Array
    proposal: Array
    action: Array
    intervened: Bool[Array, ""]
    controlled: Bool[Array, ""]
    returned: Bool[Array, ""]
    objected: Bool[Array, ""]
    next_state: Array
    discount: Float[Array, ""]
    over: Bool[Array, ""]


def start(env: Env, key: Key[Array, ""]) -> World:
    """The first state of an episode; the learner is in control."""
    env_state, observation = env.reset(key)
    nothing = jnp.zeros((), int)
    return World(env_state, observation, nothing, nothing, jnp.zeros((), bool))


def advance(
    env: Env,
    world: World,
    propose: Callable[[Key[Array, ""], Array], Array],
    objects: Callable[[Array, Array], Array],
    expert: Callable[[Array], Array],
    *,
    key: Key[Array, ""],
    takeover_steps: int,
    episode_steps: int,
    late: Bool[Array, ""] | bool = False,
) -> tuple[World, Moment]:
    """One step; at the end of an episode the next one starts.

    The learner proposes a. Unless the expert is already in control, it takes over with probability
    objects(s, a), so that a is not executed; if the teacher is late, a is executed and the expert
    takes over at the next step. It then acts for `takeover_steps` steps, including the one at which
    it took over, or until the episode ends.

    Args:
      env: what it observes is the state s.
      propose: `(key, state) -> action`.
      objects: `(state, action) -> probability []` of a takeover, e.g. an entry of
        `feedback.interventions.intervention_probs`.
      expert: `state -> action`.
      takeover_steps, episode_steps: >= 1.
      late: whether the teacher reacts to the state that an action led to. May be traced.
    """
    check_range("[1, inf)", takeover_steps=takeover_steps, episode_steps=episode_steps)
    propose_key, teacher_key, step_key, reset_key = jax.random.split(key, 4)
    state = world.observation
    proposal = propose(propose_key, state)
    held = world.left > 0
    rejected = ~held & (jax.random.uniform(teacher_key) < objects(state, proposal))
    intervened = jnp.where(late, world.due, rejected)
    controlled = held | intervened
    objected = jnp.logical_and(late, rejected & ~controlled)
    action = jnp.where(controlled, expert(state), proposal)
    env_state, seen = env.step(step_key, world.env_state, action)
    left = jnp.where(intervened, takeover_steps, world.left) - controlled
    over = (seen.discount == 0) | (world.time + 1 >= episode_steps)
    moment = Moment(
        state=state,
        proposal=proposal,
        action=action,
        intervened=intervened,
        controlled=controlled,
        returned=controlled & ((left == 0) | over),
        objected=objected,
        next_state=seen.observation,
        discount=seen.discount,
        over=over,
    )
    onward = World(env_state, seen.observation, world.time + 1, left, objected)
    fresh = start(env, reset_key)
    return jax.tree.map(lambda new, old: jnp.where(over, new, old), fresh, onward), moment
