"""Q-learning on a table: two updates by hand, labels that are not there, a chain that converges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.algos.control import q_learning
from rlhf_jax.algos.control.q_learning import QState, Transition


def seen(state, action, reward, next_state, discount, *, valid=True) -> Transition:
    return Transition(
        jnp.array(state),
        jnp.array(action),
        jnp.array(reward),
        jnp.array(next_state),
        jnp.array(discount),
        jnp.array(valid),
    )


@pytest.mark.long
def test_two_updates_by_hand():
    state = q_learning.init_q(2, 2)._replace(action_values=jnp.array([[0.0, 0.0], [-2.0, -4.0]]))
    state = q_learning.update_q(state, seen(0, 1, -1.0, 1, 0.5))
    assert float(state.action_values[0, 1]) == pytest.approx(-2.0)  # step 1: -1 + .5 * -2
    state = q_learning.update_q(state, seen(0, 1, 0.0, 1, 0.0))
    assert float(state.action_values[0, 1]) == pytest.approx(-2.0 * (1 - 2**-0.6), rel=1e-6)
    np.testing.assert_array_equal(state.counts, [[0, 2], [0, 0]])
    np.testing.assert_array_equal(state.action_values[1], [-2.0, -4.0])


def test_steps_fade_to_the_least_one():
    state = QState(jnp.zeros((1, 1)), jnp.full((1, 1), 99_999.0))
    moved = q_learning.update_q(state, seen(0, 0, 1.0, 0, 0.0), least=0.02)
    assert float(moved.action_values[0, 0]) == pytest.approx(0.02)
    moved = q_learning.update_q(state, seen(0, 0, 1.0, 0, 0.0), least=0.0)
    assert float(moved.action_values[0, 0]) == pytest.approx(0.001, rel=1e-3)


def test_what_is_not_valid_changes_nothing_and_jit_agrees():
    state = QState(jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 0.0]]))
    same = q_learning.update_q(state, seen(0, 1, 5.0, 0, 0.9, valid=False))
    jax.tree.map(np.testing.assert_array_equal, same, state)
    one = seen(0, 1, 5.0, 0, 0.9)
    eager, compiled = q_learning.update_q(state, one), jax.jit(q_learning.update_q)(state, one)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), eager, compiled)


@pytest.mark.slow
def test_sweeps_over_a_chain_reach_its_optimal_values():
    """Three states in a row, right pays 1 at the end: Q* = gamma^k, by sweeps over all pairs."""
    states, actions = (axis.ravel() for axis in jnp.meshgrid(jnp.arange(3), jnp.arange(2)))
    after = jnp.where(actions == 1, states + 1, jnp.maximum(states - 1, 0))
    done = after == 3
    batch = Transition(
        states,
        actions,
        jnp.where(done, 1.0, 0.0),
        jnp.minimum(after, 2),
        jnp.where(done, 0.0, 0.9),
        jnp.ones(6, bool),
    )

    def sweep(state, _):
        return jax.lax.scan(lambda s, one: (q_learning.update_q(s, one), None), state, batch)[
            0
        ], None

    state, _ = jax.jit(lambda s: jax.lax.scan(sweep, s, None, length=400))(q_learning.init_q(3, 2))
    expected = [[0.729, 0.81], [0.729, 0.9], [0.81, 1.0]]
    np.testing.assert_allclose(state.action_values, expected, atol=2e-3)
    np.testing.assert_allclose(jnp.exp(q_learning.greedy_q_policy(state)), [[0, 1]] * 3)


@pytest.mark.slow
def test_greedy_ties_are_uniform_and_exploring_is_too():
    state = QState(jnp.array([[1.0, 1.0, 0.0, 0.0]]), jnp.zeros((1, 4)))
    np.testing.assert_allclose(jnp.exp(q_learning.greedy_q_policy(state)), [[0.5, 0.5, 0.0, 0.0]])
    explore = jnp.repeat(jnp.array([0.2, 0.0]), 3_000)

    def draw(key, explore):
        return q_learning.greedy_q_action(key, state, jnp.array(0), explore=explore)

    drawn = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 6_000), explore)
    place = np.bincount(drawn[:3_000], minlength=4) / 3_000
    np.testing.assert_allclose(place, [0.45, 0.45, 0.05, 0.05], atol=0.03)
    assert np.unique(drawn[3_000:]).tolist() == [0, 1]
