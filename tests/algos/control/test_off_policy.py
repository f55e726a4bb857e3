"""The off-policy loop on a counter: what is stored, when it learns, what follows an end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.algos.control.off_policy import Progress, empty_step, play_round
from rlhf_jax.algos.control.replay import init_replay
from rlhf_jax.types import Env, TimeStep

STEPS, WORLDS, LENGTH = 5, 2, 3


def counter() -> Env:
    """The state counts steps from a start of 0 or 10; the episode ends after LENGTH of them."""

    def reset(key):
        start = 10.0 * jax.random.bernoulli(key).astype(jnp.float32)
        return (start, start), start[None]

    def step(key, state, action):
        start, count = state[0], state[1] + 1.0
        ended = count - start >= LENGTH
        seen = TimeStep(count[None], action[0], 1.0 - ended.astype(jnp.float32))
        return (start, count), seen

    return Env(reset, step)


def act(key, learner, observations):
    """An action that says how often the learner has learned."""
    return jnp.broadcast_to(learner, (WORLDS, 1))


def learn(key, learner, replay):
    """Counts the updates; a replay without this step's rows would spoil the count."""
    return learner + jnp.where(replay.added % WORLDS == 0, 1.0, jnp.nan)


def played(learning=True, seed=0, size=STEPS * WORLDS):
    env = counter()
    now = Progress(jnp.zeros(()), init_replay(empty_step(env, jnp.zeros(1)), size=size))
    return play_round(
        jax.random.key(seed),
        now,
        act,
        learn,
        env=env,
        steps=STEPS,
        worlds=WORLDS,
        learning=learning,
    )


def test_each_step_is_stored_and_learned_from_once():
    now = played()
    assert float(now.learner) == STEPS
    assert int(now.replay.added) == STEPS * WORLDS
    rows = jax.tree.map(np.asarray, now.replay.rows)
    # The action of step t was taken after t updates, and is the reward of that step.
    np.testing.assert_array_equal(rows.actions[:, 0], np.repeat(np.arange(STEPS), WORLDS))
    np.testing.assert_array_equal(rows.rewards, rows.actions[:, 0])
    np.testing.assert_array_equal(rows.next_observations, rows.observations + 1)


def test_an_episode_that_ends_starts_again_and_a_round_is_no_end():
    rows = jax.tree.map(np.asarray, played().replay.rows)
    steps = rows.observations.reshape(STEPS, WORLDS) % 10
    np.testing.assert_array_equal(steps, np.repeat([[0], [1], [2], [0], [1]], WORLDS, axis=1))
    ends = np.repeat([1.0, 1.0, 0.0, 1.0, 1.0], WORLDS)
    np.testing.assert_array_equal(rows.discounts, ends)


def test_while_it_does_not_learn_the_learner_stays():
    now = played(learning=jnp.asarray(False))
    assert float(now.learner) == 0.0
    assert int(now.replay.added) == STEPS * WORLDS
    assert float(jnp.max(jnp.abs(now.replay.rows.actions))) == 0.0


def test_a_small_replay_keeps_the_last_steps():
    rows = played(size=2 * WORLDS).replay.rows
    assert set(np.asarray(rows.actions).ravel().tolist()) == {3.0, 4.0}


@pytest.mark.parametrize("name", ["steps", "worlds"])
def test_rounds_of_nothing_are_named(name):
    env = counter()
    now = Progress(jnp.zeros(()), init_replay(empty_step(env, jnp.zeros(1)), size=4))
    with pytest.raises(ValueError, match=rf"{name} must be in \[1, inf\)"):
        play_round(
            jax.random.key(0), now, act, learn, env=env, **({"steps": 1, "worlds": 1} | {name: 0})
        )
