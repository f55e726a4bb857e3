"""Takeovers step by step, and what RLIF learns from each."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.algos.control import rlif
from rlhf_jax.algos.control.takeovers import Moment, advance, start
from rlhf_jax.types import Env, TimeStep

LINE = 8  # states of a line; action 1 goes right, 0 stays; the last state ends the episode


def step_right(key, state, action):
    new = jnp.minimum(state + action, LINE - 1)
    return new, TimeStep(new, jnp.zeros(()), jnp.where(new == LINE - 1, 0.0, 1.0))


ENV = Env(lambda key: (jnp.zeros((), int), jnp.zeros((), int)), step_right)


@partial(jax.jit, static_argnames=("takeover_steps", "episode_steps", "steps"))
def supervised(probs, *, takeover_steps, episode_steps, steps, late=False):
    """The learner always stays, the expert goes right: Moment with a leading axis [steps]."""

    def step(world, key):
        return advance(
            ENV,
            world,
            lambda key, place: jnp.zeros((), int),
            lambda place, action: probs[place, action],
            lambda place: jnp.ones((), int),
            key=key,
            takeover_steps=takeover_steps,
            episode_steps=episode_steps,
            late=late,
        )

    keys = jax.random.split(jax.random.key(0), steps)
    return jax.lax.scan(step, start(ENV, keys[0]), keys)[1]


@pytest.mark.long
def test_a_takeover_lasts_its_steps_and_then_control_goes_back():
    """The teacher steps in wherever it may: states 0 and 3, for three steps each."""
    probs = jnp.zeros((LINE, 2)).at[jnp.array([0, 3]), 0].set(1.0)
    seen = supervised(probs, takeover_steps=3, episode_steps=9, steps=10)
    assert seen.state.tolist() == [0, 1, 2, 3, 4, 5, 6, 6, 6, 0]
    assert seen.intervened.tolist() == [1, 0, 0, 1, 0, 0, 0, 0, 0, 1]
    assert seen.controlled.tolist() == [1, 1, 1, 1, 1, 1, 0, 0, 0, 1]
    assert seen.returned.tolist() == [0, 0, 1, 0, 0, 1, 0, 0, 0, 0]
    assert seen.action.tolist() == [1, 1, 1, 1, 1, 1, 0, 0, 0, 1]
    assert seen.over.tolist() == [0] * 8 + [1, 0]
    assert seen.discount.tolist() == [1.0] * 10


def test_the_end_of_an_episode_ends_a_takeover():
    probs = jnp.zeros((LINE, 2)).at[0, 0].set(1.0)
    seen = supervised(probs, takeover_steps=20, episode_steps=60, steps=10)
    assert seen.state.tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1, 2]
    assert seen.over.tolist() == [0] * 6 + [1] + [0] * 3
    assert seen.returned.tolist() == [0] * 6 + [1] + [0] * 3
    assert float(seen.discount[6]) == 0.0
    assert int(seen.next_state[6]) == LINE - 1
    assert seen.intervened.tolist() == [1] + [0] * 6 + [1, 0, 0]


def test_a_teacher_who_never_steps_in_leaves_the_learner_alone():
    seen = supervised(jnp.zeros((LINE, 2)), takeover_steps=3, episode_steps=9, steps=10)
    assert not seen.controlled.any()
    assert seen.state.tolist() == [0] * 10
    assert seen.over.tolist() == [0] * 8 + [1, 0]


def test_a_late_teacher_takes_over_at_the_state_that_an_action_led_to():
    """It objects to staying in state 0; the learner stays there once before the expert acts."""
    probs = jnp.zeros((LINE, 2)).at[0, 0].set(1.0)
    seen = supervised(probs, takeover_steps=3, episode_steps=9, steps=10, late=True)
    assert seen.state.tolist() == [0, 0, 1, 2, 3, 3, 3, 3, 3, 0]
    assert seen.objected.tolist() == [1] + [0] * 8 + [1]
    assert seen.intervened.tolist() == [0, 1] + [0] * 8
    assert seen.controlled.tolist() == [0, 1, 1, 1] + [0] * 6
    assert seen.action.tolist() == [0, 1, 1, 1] + [0] * 6


def test_steps_below_one_are_refused():
    with pytest.raises(ValueError, match=r"takeover_steps must be in \[1, inf\), got 0"):
        supervised(jnp.zeros((LINE, 2)), takeover_steps=0, episode_steps=4, steps=1)


def moment(state, proposal, action, next_state, **flags) -> Moment:
    names = ("intervened", "controlled", "returned", "objected", "over")
    given = dict.fromkeys(names, False) | flags
    return Moment(
        state=jnp.array(state),
        proposal=jnp.array(proposal),
        action=jnp.array(action),
        next_state=jnp.array(next_state),
        discount=jnp.array(given.pop("discount", 1.0)),
        **{name: jnp.array(value) for name, value in given.items()},
    )


# The learner goes 0 -> 1; in 1 its action 0 is rejected, the expert goes 1 -> 2 -> 3 (the end).
STORY = (
    moment(0, 1, 1, 1),
    moment(1, 0, 1, 2, intervened=True, controlled=True),
    moment(2, 0, 1, 3, controlled=True, returned=True, over=True, discount=0.0),
)


UPDATE = jax.jit(partial(rlif.update_rlif, gamma=0.5))


def told(on_previous: bool = False, kept: int = rlif.KEEP_LAST) -> rlif.RlifState:
    """The switches are traced, so that one program serves all."""
    state = rlif.init_rlif(4, 2)
    for seen in STORY:
        state = UPDATE(state, seen, on_previous=jnp.array(on_previous), kept=jnp.array(kept))
    return state


@pytest.mark.parametrize(
    ("kept", "counts"),
    [
        (rlif.KEEP_NONE, [[0, 1], [1, 0], [0, 0], [0, 0]]),
        (rlif.KEEP_LAST, [[0, 1], [1, 0], [0, 1], [0, 0]]),
        (rlif.KEEP_ALL, [[0, 1], [1, 1], [0, 1], [0, 0]]),
    ],
)
def test_the_proposal_is_blamed_and_the_expert_counts_as_asked(kept, counts):
    table = told(kept=kept).table
    np.testing.assert_array_equal(table.counts, counts)
    expected = np.zeros((4, 2))
    expected[1, 0] = -1.0
    np.testing.assert_array_equal(table.action_values, expected)


def test_the_labels_of_one_step_are_those_of_any_learner():
    nothing = rlif.init_rlif(4, 2).previous
    before = rlif.label_step(nothing, STORY[0], gamma=0.5).previous
    for flag, blamed in ((False, (1, 0)), (True, (0, 1))):
        rows = rlif.label_step(before, STORY[1], gamma=0.5, on_previous=flag)
        assert (rows.first.state, rows.first.action) == blamed
        assert (rows.first.reward, rows.first.valid) == (-1, True)
        # The expert stays in control, so its own step is not learned from.
        assert not rows.done.valid


def test_the_previous_transition_is_blamed_instead():
    table = told(on_previous=True, kept=rlif.KEEP_LAST).table
    np.testing.assert_array_equal(table.counts, [[0, 1], [0, 0], [0, 1], [0, 0]])
    np.testing.assert_array_equal(table.action_values, [[0, -1], [0, 0], [0, 0], [0, 0]])
    assert not told(on_previous=True).previous.valid


@pytest.mark.parametrize(("ends", "expected"), [(True, -1.0), (False, 0.0)])
def test_an_objection_to_the_end_of_an_episode_counts_as_asked(ends, expected):
    fatal = moment(1, 0, 0, 2, objected=True, over=True, discount=0.0)
    for on_previous, value in ((True, expected), (False, 0.0)):
        state = UPDATE(
            rlif.init_rlif(4, 2),
            fatal,
            on_previous=jnp.array(on_previous),
            kept=jnp.array(rlif.KEEP_LAST),
            ends=jnp.array(ends),
        )
        assert state.table.action_values[1, 0] == value


def test_without_interventions_zero_is_a_fixed_point():
    state = rlif.init_rlif(4, 2)
    for seen in STORY:
        quiet = seen._replace(intervened=jnp.array(False))
        for flag in (False, True):
            state = UPDATE(state, quiet, on_previous=jnp.array(flag), kept=jnp.array(rlif.KEEP_ALL))
    assert not state.table.action_values.any()


@pytest.mark.slow
def test_rlif_plain_switches_agree_with_traced_ones():
    for flag in (False, True):
        for kept in (rlif.KEEP_NONE, rlif.KEEP_ALL):
            state = rlif.init_rlif(4, 2)
            for seen in STORY:
                state = rlif.update_rlif(state, seen, gamma=0.5, on_previous=flag, kept=kept)
            jax.tree.map(np.testing.assert_array_equal, state, told(flag, kept))
