"""Linear MDPs: action values of every policy are linear in the features, which data cover."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs.linear_mdp import LinearMDP, one_hot_features, to_finite_mdp
from rlhf_jax.exact import finite_mdp
from rlhf_jax.exact.linear_mdp import (
    feature_covariance,
    feature_coverage,
    linear_weights,
    weights_of_values,
)

H, S, A, D = 6, 30, 5, 6


@pytest.fixture(scope="module", autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def mdp() -> LinearMDP:
    rng = np.random.default_rng(0)
    return LinearMDP(
        features=jnp.asarray(rng.dirichlet(np.full(D, 0.3), (S, A))),
        measures=jnp.asarray(rng.dirichlet(np.full(S, 0.3), (H, D))),
        reward_weights=jnp.asarray(rng.random((H, D))),
        initial=jnp.asarray(np.eye(S)[0]),
    )


def test_twenty_random_policies_have_linear_action_values(mdp):
    logits = 3 * np.random.default_rng(1).normal(size=(20, H, S, A))
    logps = jnp.asarray(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))

    def both(logps):
        weights = linear_weights(mdp, logps)
        return weights, finite_mdp.evaluate(to_finite_mdp(mdp), logps).action_values

    weights, exact = jax.jit(jax.vmap(both))(logps)
    linear = np.einsum("ijd,nhd->nhij", mdp.features, weights)
    assert np.abs(linear - exact).max() < 1e-10
    # One set of weights for all policies would not do.
    assert np.abs(weights - weights[:1]).max() > 0.01


def test_optimal_values_have_weights_too_and_the_last_ones_are_the_rewards(mdp):
    best = jax.jit(lambda mdp: finite_mdp.optimal(to_finite_mdp(mdp)))(mdp)
    weights = weights_of_values(mdp, best.values)
    linear = np.einsum("ijd,hd->hij", mdp.features, weights)
    np.testing.assert_allclose(linear, best.action_values, atol=1e-12)
    np.testing.assert_array_equal(weights[-1], mdp.reward_weights[-1])


def policies(*shape):
    """Two random policies, the second one near uniform."""
    logits = (
        np.random.default_rng(2).normal(size=(2, *shape)) * np.array([3, 0.3])[:, None, None, None]
    )
    return [jnp.asarray(x - np.log(np.exp(x).sum(-1, keepdims=True))) for x in logits]


def test_covariance_of_features_by_hand_and_its_trace(mdp):
    logps, _ = policies(H, S, A)
    found = feature_covariance(mdp, logps)
    first = sum(np.exp(logps[0, 0, a]) * np.outer(*[mdp.features[0, a]] * 2) for a in range(A))
    np.testing.assert_allclose(found[0], first, rtol=1e-12)
    states = finite_mdp.occupancy(to_finite_mdp(mdp), logps)
    lengths = np.sum(np.asarray(mdp.features) ** 2, axis=-1)
    mean = np.einsum("hi,hij,ij->h", states, np.exp(logps), lengths)
    np.testing.assert_allclose(np.trace(found, axis1=1, axis2=2), mean, rtol=1e-12)


def test_coverage_of_a_table_is_a_ratio_of_visits():
    rng, horizon, states, actions = np.random.default_rng(3), 3, 4, 3
    table = LinearMDP(
        features=one_hot_features(states, actions),
        measures=jnp.asarray(rng.dirichlet(np.ones(states), (horizon, states * actions))),
        reward_weights=jnp.zeros((horizon, states * actions)),
        initial=jnp.asarray(np.full(states, 1 / states)),
    )
    logps, data = policies(horizon, states, actions)
    visits = [
        finite_mdp.occupancy(to_finite_mdp(table), each)[..., None] * np.exp(each)
        for each in (logps, data)
    ]
    found = feature_coverage(table, logps, data, episodes=50, ridge=0.2)
    expected = (visits[0] / (50 * visits[1] + 0.2)).reshape(horizon, -1).max(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    # No policy is covered better than the one that drew the data, and more data cover more.
    same = feature_coverage(table, data, data, episodes=50, ridge=0.2)
    assert np.all(same < 1 / 50)
    assert np.all(found > same)
    assert np.all(feature_coverage(table, logps, data, episodes=500, ridge=0.2) < found)
    with pytest.raises(ValueError, match="episodes must be in"):
        feature_coverage(table, logps, data, episodes=0, ridge=0.2)
