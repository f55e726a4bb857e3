"""SuperHF's loss by hand, its gradient, its limits and its optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.exact.best_of import prior_mixture
from rlhf_jax.losses.supervised import superhf_loss
from rlhf_jax.ops.kl import exact_kl, forward_kl
from rlhf_jax.ops.logprobs import token_logps

POLICY, REF = jnp.log(jnp.array([[0.5, 0.25, 0.25]])), jnp.log(jnp.array([[0.25, 0.25, 0.5]]))
ACTION, MASK = jnp.array([1]), jnp.array([True])


def test_golden_numbers():
    # KL(pi_0 || pi) = 0.25 log(0.25 / 0.5) + 0.5 log(0.5 / 0.25) = 0.25 log 2 = 0.1732868;
    # reverse, 0.5 log 2 - 0.25 log 2, the same here; log 4 + 0.5 * 0.1732868 = 1.4729377.
    for divergence in (forward_kl, exact_kl):
        loss = superhf_loss(POLICY, REF, ACTION, MASK, beta=0.5, divergence=divergence)
        np.testing.assert_allclose(loss, [1.4729377], rtol=1e-6)


def test_the_directions_differ_where_the_policies_are_not_mirrored():
    ref = jnp.log(jnp.array([[0.25, 0.125, 0.625]]))
    # forward: 0.25 log 0.5 + 0.125 log 0.5 + 0.625 log 2.5 = 0.3127511
    # reverse: 0.5 log 2 + 0.25 log 2 + 0.25 log 0.4 = 0.2907878
    for divergence, want in ((forward_kl, 0.3127511), (exact_kl, 0.2907878)):
        np.testing.assert_allclose(divergence(POLICY, ref), [want], rtol=1e-5)
        loss = superhf_loss(POLICY, ref, ACTION, MASK, beta=1.0, divergence=divergence)
        np.testing.assert_allclose(loss, [np.log(4.0) + want], rtol=1e-5)


def test_the_gradient_is_a_pull_of_fixed_strength():
    def loss(logits):
        return superhf_loss(logits, REF, ACTION, MASK, beta=0.5).sum()

    # pi - onehot + 0.5 (pi - pi_0)
    want = jnp.array([[0.5, -0.75, 0.25]]) + 0.5 * jnp.array([[0.25, 0.0, -0.25]])
    np.testing.assert_allclose(jax.grad(loss)(POLICY), want, atol=1e-6)


def test_without_weight_it_is_the_likelihood_and_the_reference_gets_no_gradient():
    loss = superhf_loss(POLICY, REF, ACTION, MASK, beta=0.0)
    np.testing.assert_allclose(loss, -token_logps(POLICY, ACTION), rtol=1e-6)
    slope = jax.grad(lambda ref: superhf_loss(POLICY, ref, ACTION, MASK, beta=1.0).sum())(REF)
    np.testing.assert_array_equal(slope, 0.0)


def test_what_the_mask_hides_never_matters():
    logits = jnp.concatenate([POLICY, jnp.full((1, 3), jnp.nan)])
    ref = jnp.concatenate([REF, jnp.full((1, 3), jnp.inf)])
    actions, mask = jnp.array([1, 99]), jnp.array([True, False])

    def mean(logits):
        return superhf_loss(logits, ref, actions, mask, beta=0.5).sum()

    loss = superhf_loss(logits, ref, actions, mask, beta=0.5)
    np.testing.assert_allclose(loss, [1.4729377, 0.0], rtol=1e-6)
    slope = jax.grad(mean)(logits)
    assert np.isfinite(slope).all()
    np.testing.assert_array_equal(slope[1], 0.0)


@pytest.mark.parametrize("beta", [0.0, 0.35, 3.0])
def test_the_optimum_on_answers_from_a_fixed_law(beta):
    with jax.enable_x64(True):
        law, ref = jnp.array([0.7, 0.2, 0.1]), jnp.array([0.2, 0.3, 0.5])
        logits = jnp.log(ref)

        def population(z):
            each = superhf_loss(
                jnp.broadcast_to(z, (3, 1, 3)),
                jnp.broadcast_to(jnp.log(ref), (3, 1, 3)),
                jnp.arange(3)[:, None],
                jnp.ones((3, 1), bool),
                beta=beta,
            )
            return jnp.sum(law * each[:, 0])

        optimizer = optax.sgd(1.0)
        state = optimizer.init(logits)
        step = jax.jit(jax.grad(population))
        for _ in range(400):
            moves, state = optimizer.update(step(logits), state)
            logits = optax.apply_updates(logits, moves)
        found = jax.nn.softmax(logits)
        np.testing.assert_allclose(found, prior_mixture(law, ref, beta=beta), atol=1e-5)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="beta must be in"):
        superhf_loss(POLICY, REF, ACTION, MASK, beta=-1.0)
    with pytest.raises(TypeError):
        superhf_loss(POLICY, REF, ACTION, jnp.array([1]), beta=1.0)
    with pytest.raises((AssertionError, TypeError)):
        superhf_loss(POLICY, REF[:, :2], ACTION, MASK, beta=1.0)
