"""Action values of linear MDPs are linear in the features, for every policy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs.linear_mdp import LinearMDP, to_finite_mdp
from rlhf_jax.exact import finite_mdp
from rlhf_jax.exact.linear_mdp import linear_weights, weights_of_values

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
