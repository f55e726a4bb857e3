"""RLIF on a table: off-policy learning with reward -1 for each intervention and 0 otherwise."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from rlhf_jax.algos.control import q_learning
from rlhf_jax.algos.control.q_learning import QState, Transition
from rlhf_jax.algos.control.takeovers import Moment
from rlhf_jax.checks import check_range
from rlhf_jax.types import Scalar

# Which of the expert's own transitions are learned from, all with reward 0: none, the last one of
# each takeover (as in the official code), or all of them (as in the text of the paper).
KEEP_NONE, KEEP_LAST, KEEP_ALL = range(3)


class RlifState(NamedTuple):
    """table: state of Q-learning; previous: the previous transition, not labelled yet."""

    table: QState
    previous: Transition


def init_rlif(num_states: int, num_actions: int) -> RlifState:
    """Q = 0, the value of an action that is never interrupted."""
    nowhere = jnp.zeros((), int)
    nothing = jnp.zeros(())
    previous = Transition(nowhere, nowhere, nothing, nowhere, nothing, jnp.zeros((), bool))
    return RlifState(q_learning.init_q(num_states, num_actions), previous)


class RlifRows(NamedTuple):
    """What one step teaches: first: what gets the -1; done: what was executed; previous: the step
    that can still be blamed."""

    first: Transition
    done: Transition
    previous: Transition


def label_step(
    previous: Transition,
    seen: Moment,
    *,
    gamma: Scalar,
    on_previous: Bool[Array, ""] | bool = False,
    kept: Int[Array, ""] | int = KEEP_LAST,
    ends: Bool[Array, ""] | bool = True,
) -> RlifRows:
    """Rewards of one step under supervision, for any off-policy learner; the true one is not used.

    on_previous False: (s, a_proposed, -1, s') if the expert took over, with s' the result of the
    expert's action, and (s, a_done, 0, s') for the action that was executed.
    on_previous True: (s_{t-1}, a_{t-1}, -1{takeover at t}, s_t), as in the official code; the last
    transition of an episode gets -1 if a late teacher objects to it and `ends`, else 0.

    Args:
      previous: of the step before.
      seen: a step of `algos.control.takeovers.advance`.
      gamma: discount in [0, 1).
      on_previous: whether the -1 goes to the previous transition. May be traced.
      kept: KEEP_NONE, KEEP_LAST or KEEP_ALL: which transitions of the expert count. May be traced.
      ends: whether a late teacher's objection to the end of an episode, after which nothing can be
        taken over, is learned from. May be traced.
    Returns:
      `RlifRows`; learn from its first two transitions where they are valid.
    Reference: Luo et al. 2023 (RLIF), arXiv:2311.12996.
    Departs: the official code drops the last transition of every episode; here it is used.
    """
    check_range("[0, 1)", gamma=gamma)
    discount = gamma * seen.discount
    stored = ~seen.controlled | (kept == KEEP_ALL) | ((kept == KEEP_LAST) & seen.returned)
    rejected = Transition(
        seen.state, seen.proposal, -1.0, seen.next_state, discount, seen.intervened
    )
    label = jnp.where(seen.intervened, -1.0, 0.0)
    blamed = previous._replace(reward=label)
    first = jax.tree.map(lambda a, b: jnp.where(on_previous, a, b), blamed, rejected)
    objected = jnp.logical_and(ends, seen.objected & seen.over)
    last = jnp.where(jnp.logical_and(on_previous, objected), -1.0, 0.0)
    done = Transition(seen.state, seen.action, last, seen.next_state, discount, stored)
    now = jnp.logical_or(seen.over, jnp.logical_not(on_previous))
    return RlifRows(
        first, done._replace(valid=stored & now), done._replace(valid=stored & ~seen.over)
    )


def update_rlif(
    state: RlifState,
    seen: Moment,
    *,
    gamma: Scalar,
    on_previous: Bool[Array, ""] | bool = False,
    kept: Int[Array, ""] | int = KEEP_LAST,
    ends: Bool[Array, ""] | bool = True,
) -> RlifState:
    """Learns from the transitions of `label_step`, whose arguments these are.

    Args:
      state: one learner.
    Returns:
      The new state, with the step sizes of `q_learning.update_q`.
    Reference: Luo et al. 2023 (RLIF), arXiv:2311.12996.
    Departs: a table in place of an actor and ten critics, one update per step, no demonstrations.
    """
    told = label_step(
        state.previous, seen, gamma=gamma, on_previous=on_previous, kept=kept, ends=ends
    )
    table = q_learning.update_q(state.table, told.first)
    return RlifState(q_learning.update_q(table, told.done), told.previous)
