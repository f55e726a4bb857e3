"""Action values of linear MDPs are linear in the features, for every policy."""

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.envs.linear_mdp import random_linear_mdp, to_finite_mdp
from rlhf_jax.exact import finite_mdp
from rlhf_jax.exact.linear_mdp import linear_weights, weights_of_values

H, S, A, D = 6, 30, 5, 6


def test_twenty_random_policies_have_linear_action_values():
    with jax.enable_x64(True):
        mdp = random_linear_mdp(
            jax.random.key(0), horizon=H, num_states=S, num_actions=A, num_features=D
        )
        logits = 3 * jax.random.normal(jax.random.key(1), (20, H, S, A))
        logps = jax.nn.log_softmax(logits, -1)
        weights = jax.jit(jax.vmap(linear_weights, (None, 0)))(mdp, logps)
        table = to_finite_mdp(mdp)
        exact = jax.vmap(lambda logps: finite_mdp.evaluate(table, logps).action_values)(logps)
        linear = jnp.einsum("ijd,nhd->nhij", mdp.features, weights)
        assert float(jnp.max(jnp.abs(linear - exact))) < 1e-10
        # One set of weights for all policies would not do.
        assert float(jnp.max(jnp.abs(weights - weights[:1]))) > 0.01


def test_optimal_values_have_weights_too_and_the_last_ones_are_the_rewards():
    with jax.enable_x64(True):
        mdp = random_linear_mdp(
            jax.random.key(2), horizon=H, num_states=S, num_actions=A, num_features=D
        )
        best = finite_mdp.optimal(to_finite_mdp(mdp))
        weights = weights_of_values(mdp, best.values)
        linear = jnp.einsum("ijd,hd->hij", mdp.features, weights)
        np.testing.assert_allclose(linear, best.action_values, atol=1e-12)
        np.testing.assert_array_equal(weights[-1], mdp.reward_weights[-1])
