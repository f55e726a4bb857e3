"""REINFORCE, PPO clip and the critic by hand, in their limits, and against enumeration."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.losses.policy_gradient import clipped_value_loss, ppo_clip_loss, reinforce_loss
from rlhf_jax.ops.kl import exact_kl, k1

LOGITS = jnp.array([0.4, -1.0, 0.9, 0.1])
REF_LOGITS = jnp.array([-0.3, 0.2, 0.0, 0.5])
REWARDS = jnp.array([1.0, -0.5, 0.3, 2.0])
BETA = 0.7


def test_reinforce_golden_numbers():
    logps, advantages = jnp.array([-0.5, -2.0]), jnp.array([2.0, -1.5])
    np.testing.assert_allclose(
        reinforce_loss(logps, advantages), [1.0, -3.0]
    )  # -2 * -0.5; 1.5 * -2
    grad = jax.grad(lambda logps: jnp.sum(reinforce_loss(logps, advantages)))(logps)
    np.testing.assert_allclose(grad, [-2.0, 1.5])


def test_ppo_golden_numbers_and_gradients():
    ratios = jnp.array([1.5, 1.5, 0.5, 0.5, 1.1])
    advantages = jnp.array([1.0, -1.0, 1.0, -1.0, 2.0])
    old_logps = jnp.array([-1.0, -2.0, -0.5, -3.0, -0.1])
    logps = old_logps + jnp.log(ratios)
    # max(-A rho, -A clip(rho, 0.8, 1.2)):
    #   max(-1.5, -1.2), max(1.5, 1.2), max(-0.5, -0.8), max(0.5, 0.8), max(-2.2, -2.2)
    losses = ppo_clip_loss(logps, old_logps, advantages, clip_eps=0.2)
    np.testing.assert_allclose(losses, [-1.2, 1.5, -0.5, 0.8, -2.2], rtol=1e-6)
    total = partial(ppo_clip_loss, clip_eps=0.2)
    grad = jax.grad(lambda logps: jnp.sum(total(logps, old_logps, advantages)))(logps)
    # -A rho where the unclipped term is the larger one, else 0
    np.testing.assert_allclose(grad, [0.0, 1.5, -0.5, 0.0, -2.2], rtol=1e-6)


def test_clipped_value_golden_numbers_and_gradients():
    values, old_values = jnp.array([1.0, 1.0, 0.6]), jnp.array([0.5, 0.5, 0.5])
    returns = jnp.array([0.0, 2.0, 1.0])
    # clip(V, 0.3, 0.7) = 0.7, 0.7, 0.6:
    #   max(1, 0.49) / 2, max(1, 1.69) / 2, max(0.16, 0.16) / 2
    losses = clipped_value_loss(values, old_values, returns, clip_eps=0.2)
    np.testing.assert_allclose(losses, [0.5, 0.845, 0.08], rtol=1e-6)
    loss = partial(clipped_value_loss, clip_eps=0.2)
    grad = jax.grad(lambda values: jnp.sum(loss(values, old_values, returns)))(values)
    # V - G where the unclipped term is the larger one; 0 where the clip holds the value
    np.testing.assert_allclose(grad, [1.0, 0.0, -0.4], rtol=1e-5)


@pytest.mark.parametrize("clip_eps", [0.01, 0.2, jnp.inf])
def test_ppo_at_ratio_one_has_the_gradient_of_reinforce(clip_eps):
    logps, advantages = jax.random.normal(jax.random.key(0), (2, 6))
    ppo = jax.grad(lambda x: jnp.sum(ppo_clip_loss(x, logps, advantages, clip_eps=clip_eps)))
    reinforce = jax.grad(lambda x: jnp.sum(reinforce_loss(x, advantages)))
    np.testing.assert_allclose(ppo(logps), reinforce(logps), rtol=1e-6)


def test_infinite_clip_is_the_importance_weighted_loss():
    logps, old_logps, advantages = 2.0 * jax.random.normal(jax.random.key(1), (3, 8))
    losses = ppo_clip_loss(logps, old_logps, advantages, clip_eps=jnp.inf)
    np.testing.assert_allclose(losses, -advantages * jnp.exp(logps - old_logps), rtol=1e-6)
    values = clipped_value_loss(logps, old_logps, advantages, clip_eps=jnp.inf)
    np.testing.assert_allclose(values, 0.5 * (logps - advantages) ** 2, rtol=1e-6)


def test_clipping_is_pessimistic():
    """A clip can only raise either loss."""
    logps, old_logps, advantages = jax.random.normal(jax.random.key(2), (3, 64))
    for loss in (ppo_clip_loss, clipped_value_loss):
        free = loss(logps, old_logps, advantages, clip_eps=jnp.inf)
        clipped = loss(logps, old_logps, advantages, clip_eps=0.2)
        assert bool(jnp.all(clipped >= free - 1e-6))
        assert bool(jnp.any(clipped > free))


def objective(logits):
    """E_pi[r] - beta KL(pi || pi_ref), exactly."""
    return jnp.sum(jax.nn.softmax(logits) * REWARDS) - BETA * exact_kl(logits, REF_LOGITS)


def expected_gradient(loss, sampling_logits, logits):
    """Gradient of the mean over every action, each with its probability under the sampler."""
    probs = jax.nn.softmax(sampling_logits)
    return jax.grad(lambda logits: jnp.sum(probs * loss(jax.nn.log_softmax(logits))))(logits)


def penalised_rewards(logits):
    return REWARDS - BETA * k1(jax.nn.log_softmax(logits), jax.nn.log_softmax(REF_LOGITS))


@pytest.mark.parametrize("baseline", [0.0, 1.3])
def test_expected_gradient_is_that_of_the_regularised_objective(baseline):
    """Minus the mean gradient over all actions = gradient of the objective, baseline or not."""
    exact = jax.grad(objective)(LOGITS)
    advantages = penalised_rewards(LOGITS) - baseline
    reinforce = partial(reinforce_loss, advantages=advantages)
    ppo = partial(
        ppo_clip_loss, old_logps=jax.nn.log_softmax(LOGITS), advantages=advantages, clip_eps=0.2
    )
    np.testing.assert_allclose(-expected_gradient(reinforce, LOGITS, LOGITS), exact, atol=1e-6)
    np.testing.assert_allclose(-expected_gradient(ppo, LOGITS, LOGITS), exact, atol=1e-6)


def test_unclipped_ppo_is_unbiased_off_policy():
    """Samples from another policy, no clip: the mean is E_pi[A], its gradient that of E_pi[A]."""
    old_logps = jax.nn.log_softmax(REF_LOGITS)
    ppo = partial(ppo_clip_loss, old_logps=old_logps, advantages=REWARDS, clip_eps=jnp.inf)
    exact = jax.grad(lambda logits: jnp.sum(jax.nn.softmax(logits) * REWARDS))(LOGITS)
    mean = jnp.sum(jnp.exp(old_logps) * ppo(jax.nn.log_softmax(LOGITS)))
    np.testing.assert_allclose(-mean, jnp.sum(jax.nn.softmax(LOGITS) * REWARDS), rtol=1e-6)
    np.testing.assert_allclose(-expected_gradient(ppo, REF_LOGITS, LOGITS), exact, atol=1e-6)
