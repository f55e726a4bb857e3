"""Log-linear models: golden numbers, the table as a special case, padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.policies.linear import linear_policy, linear_reward, linear_value
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.types import Trajectory

STATES = jnp.array([[0, 2], [1, 0]])
ACTIONS = jnp.array([[1, 0], [1, 0]])


def test_starts():
    key = jax.random.key(0)
    policy = linear_policy(jax.random.normal(key, (3, 2, 5)))
    logits = policy.logits(policy.init(key), STATES)
    np.testing.assert_allclose(jax.nn.softmax(logits), np.full((2, 2, 2), 0.5))
    np.testing.assert_array_equal(linear_value(jnp.ones((3, 4))).init(key), np.zeros(4))
    np.testing.assert_array_equal(linear_reward(6).init(key), np.zeros(6))


def test_policy_golden_numbers():
    # one state, two actions, two features: logits (1 * 2 + 0 * 3, 0 * 2 + 1 * 3) = (2, 3)
    policy = linear_policy(jnp.array([[[1.0, 0.0], [0.0, 1.0]]]))
    params, state = jnp.array([2.0, 3.0]), jnp.zeros(1, jnp.int32)
    np.testing.assert_allclose(policy.logits(params, state), [[2.0, 3.0]])
    logps = policy.logps(params, state, jnp.array([1]))
    np.testing.assert_allclose(logps, [-0.3132617], rtol=1e-6)  # -log(1 + e^-1)


@pytest.mark.long
def test_one_hot_features_are_a_table():
    """Same log-probs, and the same gradient, on the same rollouts."""
    table, linear = tabular_policy(3, 2), linear_policy(jnp.eye(6).reshape(3, 2, 6))
    params = jax.random.normal(jax.random.key(0), (6,))

    def total(params, policy, shape):
        return jnp.sum(policy.logps(params.reshape(shape), STATES, ACTIONS))

    expected = jax.value_and_grad(total)(params, table, (3, 2))
    actual = jax.value_and_grad(total)(params, linear, (6,))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), actual, expected)


def test_a_feature_shared_by_all_actions_changes_nothing():
    policy = linear_policy(jnp.ones((3, 2, 1)))
    logps = policy.logps(jnp.array([7.0]), STATES, ACTIONS)
    np.testing.assert_allclose(logps, -np.log(2.0), rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("lead", [(), (4,), (2, 2)])
def test_leading_axes_are_free(lead):
    states = jnp.broadcast_to(STATES[0], (*lead, 2))
    policy = linear_policy(jnp.ones((3, 2, 5)))
    assert policy.logps(jnp.ones(5), states, states % 2).shape == (*lead, 2)
    assert linear_value(jnp.ones((3, 4))).values(jnp.ones(4), states).shape == (*lead, 2)
    features = jnp.ones((*lead, 2, 6))
    trajectory = Trajectory(features, states, jnp.ones((*lead, 2), bool))
    np.testing.assert_array_equal(
        linear_reward(6).scores(jnp.ones(6), trajectory), np.full(lead, 12)
    )


def test_value_and_reward_golden_numbers():
    features = jnp.array([[1.0, 0.0], [0.5, 2.0], [0.0, -1.0]])
    values = linear_value(features).values(jnp.array([2.0, 3.0]), STATES)
    np.testing.assert_array_equal(values, [[2.0, -3.0], [7.0, 2.0]])
    mask = jnp.array([[1, 1], [1, 0]], bool)
    trajectory = Trajectory(features[STATES], ACTIONS, mask)
    scores = linear_reward(2).scores(jnp.array([2.0, 3.0]), trajectory)
    np.testing.assert_array_equal(scores, [-1.0, 7.0])


def test_features_under_the_mask_never_matter():
    """NaN included, in the score and in its gradient."""
    mask = jnp.array([[1, 1, 0], [1, 0, 0]], bool)
    features = jax.random.normal(jax.random.key(0), (2, 3, 4))
    reward = linear_reward(4)

    def total(params, features):
        return jnp.sum(reward.scores(params, Trajectory(features, mask * 0, mask)))

    step = jax.value_and_grad(total)
    clean = step(jnp.ones(4), jnp.where(mask[..., None], features, 0.0))
    spoiled = step(jnp.ones(4), jnp.where(mask[..., None], features, jnp.nan))
    jax.tree.map(np.testing.assert_array_equal, spoiled, clean)
    np.testing.assert_allclose(clean[1], features[mask].sum(0), rtol=1e-5)


def test_states_and_params_of_another_world_are_seen():
    policy, value = linear_policy(jnp.ones((3, 2, 4))), linear_value(jnp.ones((3, 4)))
    assert np.isnan(policy.logits(jnp.ones(4), jnp.array([3, -1]))).all()
    assert np.isnan(value.values(jnp.ones(4), jnp.array([3, -1]))).all()
    for use in (policy.logits, value.values):
        with pytest.raises(AssertionError, match="expected"):
            use(jnp.ones((4, 1)), STATES)
