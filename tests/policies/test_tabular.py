"""Tables: lookups, uniform starts, free leading axes, padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.policies.tabular import tabular_policy, tabular_reward, tabular_value
from rlhf_jax.types import Trajectory

POLICY = tabular_policy(3, 2)
PARAMS = jnp.log(jnp.array([[0.75, 0.25], [0.5, 0.5], [0.1, 0.9]]))
STATES = jnp.array([[0, 2], [1, 0]])
ACTIONS = jnp.array([[1, 0], [1, 0]])


def test_starts():
    key = jax.random.key(0)
    logits = POLICY.logits(POLICY.init(key), STATES)
    np.testing.assert_allclose(jax.nn.softmax(logits), np.full((2, 2, 2), 0.5))
    np.testing.assert_array_equal(tabular_value(3).init(key), np.zeros(3))
    np.testing.assert_array_equal(tabular_reward(3, 2).init(key), np.zeros((3, 2)))


def test_tables_of_numpy_are_looked_up_by_traced_states():
    table, one = np.asarray(PARAMS), np.ones((2, 2), bool)
    logps = jax.jit(lambda states: POLICY.logps(table, states, ACTIONS))(STATES)
    np.testing.assert_allclose(jnp.exp(logps), [[0.25, 0.1], [0.5, 0.75]], rtol=1e-5)
    scores = jax.jit(lambda *shown: tabular_reward(3, 2).scores(table, Trajectory(*shown, one)))
    np.testing.assert_allclose(scores(STATES, ACTIONS)[0], np.log(0.25 * 0.1), rtol=1e-5)
    values = jax.jit(lambda states: tabular_value(3).values(np.arange(3.0), states))
    assert values(STATES).tolist() == [[0.0, 2.0], [1.0, 0.0]]


def test_policy_golden_numbers():
    np.testing.assert_array_equal(POLICY.logits(PARAMS, STATES), PARAMS[STATES])
    logps = POLICY.logps(PARAMS + 3.0, STATES, ACTIONS)
    np.testing.assert_allclose(jnp.exp(logps), [[0.25, 0.1], [0.5, 0.75]], rtol=1e-5)
    assert logps.dtype == jnp.float32


@pytest.mark.long
@pytest.mark.parametrize("lead", [(), (4,), (2, 2)])
def test_leading_axes_are_free(lead):
    states = jnp.broadcast_to(STATES[0], (*lead, 2))
    actions = jnp.broadcast_to(ACTIONS[0], (*lead, 2))
    expected = POLICY.logps(PARAMS, STATES[0], ACTIONS[0])
    logps = POLICY.logps(PARAMS, states, actions)
    np.testing.assert_allclose(logps, np.broadcast_to(expected, (*lead, 2)), rtol=1e-6)
    trajectory = Trajectory(states, actions, jnp.ones((*lead, 2), bool))
    assert tabular_reward(3, 2).scores(PARAMS, trajectory).shape == lead
    assert tabular_value(3).values(jnp.zeros(3), states).shape == (*lead, 2)


def test_value_and_reward_golden_numbers():
    values = tabular_value(3).values(jnp.array([1.0, 2.0, 3.0]), STATES)
    np.testing.assert_array_equal(values, [[1.0, 3.0], [2.0, 1.0]])
    mask = jnp.array([[1, 1], [1, 0]], bool)
    table = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    scores = tabular_reward(3, 2).scores(table, Trajectory(STATES, ACTIONS, mask))
    np.testing.assert_array_equal(scores, [7.0, 4.0])  # 2 + 5; 4, the padded 1 left out


@pytest.mark.long
@pytest.mark.parametrize("junk", [-1, 10**6])
def test_ids_under_the_mask_never_matter(junk):
    """Neither to a score nor to a gradient, even outside the table."""
    mask = jnp.array([[1, 1], [1, 0]], bool)
    reward = tabular_reward(3, 2)

    def total(params, states, actions):
        logps = jnp.where(mask, POLICY.logps(params, states, actions), 0.0)
        return jnp.sum(logps) + jnp.sum(reward.scores(params, Trajectory(states, actions, mask)))

    step = jax.value_and_grad(total)
    clean = step(PARAMS, STATES, ACTIONS)
    spoiled = step(PARAMS, jnp.where(mask, STATES, junk), jnp.where(mask, ACTIONS, junk))
    jax.tree.map(np.testing.assert_array_equal, spoiled, clean)
    assert bool(jnp.all(clean[1][0] != 0))


@pytest.mark.long
def test_a_state_or_action_that_the_table_lacks_is_nan():
    """Plain indexing reads the last row for both."""
    for state, action in ((3, 0), (-1, 0), (0, 2), (0, -1)):
        step = jnp.array([state]), jnp.array([action])
        assert np.isnan(POLICY.logps(PARAMS, *step)).all()
        assert np.isnan(tabular_reward(3, 2).scores(PARAMS, Trajectory(*step, jnp.ones(1, bool))))
    assert np.isnan(tabular_value(3).values(jnp.ones(3), jnp.array([3]))).all()


def test_params_of_another_table_are_refused():
    other, trajectory = jnp.zeros((4, 2)), Trajectory(STATES, ACTIONS, jnp.ones((2, 2), bool))
    for use in (
        lambda: POLICY.logps(other, STATES, ACTIONS),
        lambda: POLICY.logits(other[:3, :1], STATES),
        lambda: tabular_value(3).values(jnp.zeros(4), STATES),
        lambda: tabular_reward(3, 2).scores(other, trajectory),
    ):
        with pytest.raises(AssertionError, match="expected"):
            use()


def test_states_that_are_not_integers_are_refused():
    with pytest.raises(TypeError, match="states must be integers, got float32"):
        POLICY.logits(PARAMS, STATES.astype(float))
