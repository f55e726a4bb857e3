"""Backups against hand-computed numbers, their limits, and gradients."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rlhf_jax.ops import bellman

Q = jnp.array([[1.0, 2.0, 0.0], [-1.0, -1.0, 3.0]])
REF = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]))


def test_expected_values_by_hand():
    transitions = jnp.array([[[1.0, 0.0], [0.25, 0.75]], [[0.5, 0.5], [0.0, 1.0]]])
    found = bellman.expected_values(transitions, jnp.array([4.0, 8.0]))
    np.testing.assert_allclose(found, [[4.0, 7.0], [6.0, 8.0]])


@pytest.mark.long
def test_soft_values_by_hand():
    """0.5 e^2 + 0.25 e^4 + 0.25 e^0, at beta = 1/2."""
    total = 0.5 * math.e**2 + 0.25 * math.e**4 + 0.25
    np.testing.assert_allclose(
        bellman.soft_values(Q, REF, beta=0.5)[0], 0.5 * math.log(total), rtol=1e-6
    )
    probs = jnp.exp(bellman.soft_policy(Q, REF, beta=0.5)[0])
    want = np.array([0.5 * math.e**2, 0.25 * math.e**4, 0.25]) / total
    np.testing.assert_allclose(probs, want, rtol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("beta", [1e-38, 1e-6, 1e-3])
def test_a_small_beta_gives_the_maximum(beta):
    np.testing.assert_allclose(bellman.soft_values(Q, REF, beta=beta), [2.0, 3.0], atol=2 * beta)
    slopes = jax.grad(lambda q: jnp.sum(bellman.soft_values(q, REF, beta=beta)))(Q)
    np.testing.assert_allclose(slopes, [[0, 1, 0], [0, 0, 1]], atol=1e-5)
    np.testing.assert_allclose(
        jnp.exp(bellman.soft_policy(Q, REF, beta=beta)),
        jnp.exp(bellman.greedy_policy(Q)),
        atol=1e-6,
    )


def test_a_large_beta_gives_the_reference():
    np.testing.assert_allclose(bellman.soft_policy(Q, REF, beta=1e7), REF, atol=1e-5)


def test_max_ent_differs_from_a_uniform_reference_by_a_constant():
    uniform = jnp.full_like(Q, -math.log(3))
    gap = bellman.soft_values(Q, 0 * Q, beta=0.5) - bellman.soft_values(Q, uniform, beta=0.5)
    np.testing.assert_allclose(gap, 0.5 * math.log(3), rtol=1e-6)


def test_the_soft_policy_attains_the_soft_value_and_is_its_gradient():
    logps = bellman.soft_policy(Q, REF, beta=0.5)
    value = bellman.policy_values(Q, logps, REF, beta=0.5)
    np.testing.assert_allclose(value, bellman.soft_values(Q, REF, beta=0.5), rtol=1e-6)
    slope = jax.grad(lambda q: bellman.soft_values(q, REF, beta=0.5).sum())(Q)
    np.testing.assert_allclose(slope, jnp.exp(logps), rtol=1e-5)
    check_grads(
        jax.jit(partial(bellman.soft_values, beta=0.5)), (Q, REF), order=1, modes=["rev"], rtol=2e-2
    )


def test_ties_are_shared_and_the_rest_is_never_played():
    q = jnp.array([1.0, 1.0 - 1e-3, 0.0])
    assert bellman.greedy_policy(q).tolist() == [0.0, -math.inf, -math.inf]
    shared = jnp.exp(bellman.greedy_policy(q, tolerance=1e-2))
    np.testing.assert_allclose(shared, [0.5, 0.5, 0.0])


def test_policies_that_never_act_somewhere_have_finite_values():
    logps = jnp.array([0.0, -jnp.inf, -jnp.inf])
    ref = jnp.log(jnp.array([0.25, 0.75, 0.0]))
    value = bellman.policy_values(Q[0], logps, ref, beta=2.0)
    np.testing.assert_allclose(value, 1.0 - 2.0 * math.log(4), rtol=1e-6)
    slopes = jax.grad(lambda q: bellman.policy_values(q, logps, ref, beta=2.0))(Q[0])
    assert slopes.tolist() == [1.0, 0.0, 0.0]
    outside = bellman.policy_values(Q[0], ref, logps, beta=2.0)
    assert outside == -jnp.inf
