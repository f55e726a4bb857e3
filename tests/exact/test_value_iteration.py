"""Sweeps against linear solves, dense against sparse, and the error bound that they stop by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs.tabular_mdp import DiscountedMDP
from rlhf_jax.exact import discounted_mdp
from rlhf_jax.exact.value_iteration import (
    next_values,
    policy_evaluation,
    sparsify,
    value_iteration,
)

B, S, A, K, GAMMA = 2, 6, 3, 2, 0.9


def worlds() -> tuple[jax.Array, jax.Array, jax.Array]:
    """[B, S, A, S] with K next states each, rewards, and log-probs of a policy."""
    rng = np.random.default_rng(0)
    transitions = np.zeros((B, S, A, S), np.float32)
    for row in transitions.reshape(-1, S):
        row[rng.choice(S, K, replace=False)] = rng.dirichlet(np.ones(K))
    rewards, logits = rng.normal(size=(2, B, S, A)).astype(np.float32)
    return jnp.asarray(transitions), jnp.asarray(rewards), jax.nn.log_softmax(jnp.asarray(logits))


def test_sparse_and_dense_are_one_backup():
    transitions, _, logps = worlds()
    sparse = sparsify(transitions, successors=K)
    assert sparse.probs.shape == (B, S, A, K)
    np.testing.assert_allclose(sparse.probs.sum(-1), jnp.ones((B, S, A)), rtol=1e-6)
    values = logps[..., 0]
    np.testing.assert_allclose(
        next_values(sparse, values), next_values(transitions, values), rtol=1e-5, atol=1e-6
    )


@pytest.mark.long
@pytest.mark.parametrize("dense", [True, False])
def test_sweeps_end_within_the_tolerance_of_the_linear_solve(dense):
    transitions, rewards, logps = worlds()
    mdp = DiscountedMDP(transitions, rewards, jnp.full((B, S), 1 / S), jnp.full(B, GAMMA))
    given = transitions if dense else sparsify(transitions, successors=K)
    best = jax.jit(lambda p: value_iteration(p, rewards, gamma=GAMMA, tolerance=1e-3))(given)
    ours = jax.jit(lambda p: policy_evaluation(p, rewards, logps, gamma=GAMMA, tolerance=1e-3))(
        given
    )
    for found, exact in (
        (best, discounted_mdp.optimal(mdp).values),
        (ours, discounted_mdp.evaluate(mdp, logps).values),
    ):
        away = jnp.max(jnp.abs(found.values - exact), axis=-1)
        assert bool(jnp.all(away <= found.error + 1e-5))
        assert bool(jnp.all(found.error <= 1e-3))
        assert 5 < int(found.sweeps) < 50


def test_states_that_mix_at_once_need_two_sweeps():
    """All rows are the same: after one sweep every state changes alike, after its shift not at all.

    V = r + gamma / (1 - gamma) mean r = r + 99. Without shifts c = 3 * 0.99^k, and the bound
    99 c is below 0.01 after about 1,000 sweeps.
    """
    transitions, rewards = jnp.full((4, 1, 4), 0.25), jnp.array([[0.0], [0.5], [0.5], [3.0]])
    found = value_iteration(transitions, rewards, gamma=0.99, tolerance=0.01)
    np.testing.assert_allclose(found.values, rewards[:, 0] + 99.0, rtol=1e-5)
    assert int(found.sweeps) == 2
    assert float(found.error) <= 0.01


def test_shifts_end_where_episodes_can_end():
    """Rows sum to 1/2: V = 2 / (2 - gamma), and a shift would overshoot by 1 / (1 - gamma)."""
    transitions, rewards = jnp.full((2, 1, 2), 0.25), jnp.array([[[1.0], [1.0]]])
    for found in (
        value_iteration(transitions[None], rewards, gamma=0.99, tolerance=0.01),
        policy_evaluation(transitions, rewards[0], jnp.zeros((2, 1)), gamma=0.99, tolerance=0.01),
    ):
        np.testing.assert_allclose(found.values, jnp.full_like(found.values, 2 / 1.01), atol=0.01)
        assert bool(jnp.all(found.error <= 0.01))
        assert int(found.sweeps) < 50


def test_the_bound_is_told_where_sweeps_run_out():
    transitions, rewards, _ = worlds()
    cut = value_iteration(transitions, rewards, gamma=GAMMA, tolerance=1e-3, max_sweeps=3)
    assert int(cut.sweeps) == 3
    exact = value_iteration(transitions, rewards, gamma=GAMMA, tolerance=1e-4)
    away = jnp.max(jnp.abs(cut.values - exact.values), axis=-1)
    assert bool(jnp.all(away <= cut.error))
    assert bool(jnp.all(cut.error > 0.1))


def test_a_discount_of_zero_needs_one_sweep():
    transitions, rewards, _ = worlds()
    found = value_iteration(transitions, rewards, gamma=0.0, tolerance=1e-6)
    np.testing.assert_array_equal(found.values, rewards.max(-1))
    assert int(found.sweeps) == 1


def test_the_bound_holds_where_rounding_stops_the_sweeps():
    """One state at r = 0.1 and gamma = 0.9999: sweeps stand still 0.47 from r / (1 - gamma)."""
    transitions, rewards, logps = jnp.ones((1, 1, 1)), jnp.full((1, 1), 0.1), jnp.zeros((1, 1))
    value = float(rewards[0, 0]) / (1 - float(jnp.float32(0.9999)))
    for found in (
        value_iteration(transitions, rewards, gamma=0.9999, tolerance=0.01),
        policy_evaluation(transitions, rewards, logps, gamma=0.9999, tolerance=0.01),
    ):
        away = abs(float(found.values[0]) - value)
        assert 0.1 < away <= float(found.error) < 3.0
        assert int(found.sweeps) < 100_000


def test_a_discount_of_one_and_a_tolerance_below_zero_are_refused():
    transitions, rewards, logps = worlds()
    with pytest.raises(ValueError, match="gamma must be"):
        value_iteration(transitions, rewards, gamma=1.0, tolerance=1e-3)
    with pytest.raises(ValueError, match="tolerance must be"):
        policy_evaluation(transitions, rewards, logps, gamma=0.9, tolerance=-1.0)
