"""REINFORCE, clips and the critic by hand, in their limits, and against enumeration."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax.losses.policy_gradient import (
    asymmetric_clip_loss,
    cispo_loss,
    clipped_value_loss,
    dual_clip_loss,
    masked_importance_weights,
    ppo_clip_loss,
    reinforce_loss,
    sapo_loss,
    truncated_importance_weights,
    value_loss,
)
from rlhf_jax.ops.kl import exact_kl, k1

LOGITS = jnp.array([0.4, -1.0, 0.9, 0.1])
REF_LOGITS = jnp.array([-0.3, 0.2, 0.0, 0.5])
REWARDS = jnp.array([1.0, -0.5, 0.3, 2.0])
BETA = 0.7

# Every loss of a ratio, with clips that bind at ratios of order 1.
OF_RATIO = {
    "ppo_clip": partial(ppo_clip_loss, clip_eps=0.2),
    "ppo_clip off": partial(ppo_clip_loss, clip_eps=jnp.inf),
    "asymmetric_clip": partial(asymmetric_clip_loss, clip_eps_low=0.2, clip_eps_high=0.28),
    "dual_clip": partial(dual_clip_loss, clip_eps=0.2, dual_clip=1.5),
    "cispo": partial(cispo_loss, max_ratio=1.3),
    "sapo": partial(sapo_loss, tau_positive=1.0, tau_negative=1.05),
    "sapo sharp": partial(sapo_loss, tau_positive=30.0, tau_negative=0.01),
}
of_ratio = pytest.mark.parametrize("loss", OF_RATIO.values(), ids=OF_RATIO.keys())


def value_and_grad(loss, logps, *data):
    """Losses [S], and the gradient of their sum to the log-probs."""
    return loss(logps, *data), jax.grad(lambda x: jnp.sum(loss(x, *data)))(logps)


def at_ratios(ratios, advantages):
    """(logps, old_logps, advantages) whose probability ratios are these."""
    old_logps = -jnp.arange(1.0, len(ratios) + 1.0)
    return old_logps + jnp.log(jnp.array(ratios)), old_logps, jnp.array(advantages)


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


def test_asymmetric_clip_golden_numbers_and_gradients():
    inputs = at_ratios([1.5, 1.5, 0.5, 0.5, 1.25], [1.0, -1.0, 1.0, -1.0, 1.0])
    loss = partial(asymmetric_clip_loss, clip_eps_low=0.2, clip_eps_high=0.3)
    # clip(rho, 0.8, 1.3) = 1.3, 1.3, 0.8, 0.8, 1.25:
    #   max(-1.5, -1.3), max(1.5, 1.3), max(-0.5, -0.8), max(0.5, 0.8), max(-1.25, -1.25)
    losses, grad = value_and_grad(loss, *inputs)
    np.testing.assert_allclose(losses, [-1.3, 1.5, -0.5, 0.8, -1.25], rtol=1e-6)
    np.testing.assert_allclose(grad, [0.0, 1.5, -0.5, 0.0, -1.25], rtol=1e-6)


def test_dual_clip_golden_numbers_and_gradients():
    inputs = at_ratios([3.0, 1.5, 3.0, 0.5, 3.0], [-1.0, -1.0, 1.0, -2.0, 0.0])
    # A < 0: -A min(max(rho, clip(rho, 0.8, 1.2)), 2) = min(3, 2), min(1.5, 2), 2 min(0.8, 2);
    # A > 0: -min(3, 1.2); A = 0: 0. A gradient only where rho itself is what remains.
    losses, grad = value_and_grad(partial(dual_clip_loss, clip_eps=0.2, dual_clip=2.0), *inputs)
    np.testing.assert_allclose(losses, [2.0, 1.5, -1.2, 1.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(grad, [0.0, 1.5, 0.0, 0.0, 0.0], rtol=1e-6)


def test_cispo_golden_numbers_and_gradients():
    logps, old_logps = (
        jnp.array([-1.0, -2.0]),
        jnp.array([-1.0, -2.0]) - jnp.log(jnp.array([1.5, 0.5])),
    )
    # weights min(1.5, 1.2), min(0.5, 1.2): -1.2 * 2 * -1;  -0.5 * -1 * -2; slope -w A
    losses, grad = value_and_grad(
        partial(cispo_loss, max_ratio=1.2), logps, old_logps, jnp.array([2.0, -1.0])
    )
    np.testing.assert_allclose(losses, [2.4, -1.0], rtol=1e-6)
    np.testing.assert_allclose(grad, [-2.4, 0.5], rtol=1e-6)


def test_sapo_golden_numbers_and_gradients():
    inputs = at_ratios([1.5, 0.75], [1.0, -2.0])
    # tau = 2: -(4 / 2) sigmoid(2 * 0.5) = -2 * 0.73105858
    # tau = 4: +2 (4 / 4) sigmoid(4 * -0.25) = 2 * 0.26894142
    # slope -A rho 4 p (1 - p), p (1 - p) = 0.19661193: -1.5 * 0.78644773, +2 * 0.75 * 0.78644773
    losses, grad = value_and_grad(partial(sapo_loss, tau_positive=2.0, tau_negative=4.0), *inputs)
    np.testing.assert_allclose(losses, [-1.46211716, 0.53788284], rtol=1e-6)
    np.testing.assert_allclose(grad, [-1.17967160, 1.17967160], rtol=1e-6)


def test_importance_weights_golden_numbers():
    old_logps = jnp.array([-1.0, -2.0, -0.5])
    sampler_logps = old_logps - jnp.log(jnp.array([0.5, 1.0, 3.0]))
    truncated = truncated_importance_weights(old_logps, sampler_logps, max_ratio=2.0)
    masked = masked_importance_weights(old_logps, sampler_logps, max_ratio=2.0)
    np.testing.assert_allclose(truncated, [0.5, 1.0, 2.0], rtol=1e-6)
    np.testing.assert_allclose(masked, [0.5, 1.0, 0.0], rtol=1e-6)


def test_value_loss_golden_numbers_and_gradient():
    loss, grad = value_and_grad(value_loss, jnp.array([1.0, -0.5]), jnp.array([3.0, -0.5]))
    np.testing.assert_allclose(loss, [2.0, 0.0])
    np.testing.assert_allclose(grad, [-2.0, 0.0])


@of_ratio
def test_at_ratio_one_the_gradient_is_that_of_reinforce(loss):
    logps, advantages = jax.random.normal(jax.random.key(0), (2, 6))
    _, grad = value_and_grad(loss, logps, logps, advantages)
    _, reinforce = value_and_grad(reinforce_loss, logps, advantages)
    np.testing.assert_allclose(grad, reinforce, rtol=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        partial(asymmetric_clip_loss, clip_eps_low=0.2, clip_eps_high=0.2),
        partial(dual_clip_loss, clip_eps=0.2, dual_clip=jnp.inf),
    ],
)
def test_equal_clips_and_no_dual_clip_are_ppo(loss):
    inputs = jax.random.normal(jax.random.key(3), (3, 64))
    losses, grad = value_and_grad(loss, *inputs)
    ppo_losses, ppo_grad = value_and_grad(partial(ppo_clip_loss, clip_eps=0.2), *inputs)
    np.testing.assert_allclose(losses, ppo_losses, rtol=1e-6)
    np.testing.assert_allclose(grad, ppo_grad, rtol=1e-6)


def two_sided(logps, old_logps, advantages, *, clip_eps, delta):
    """The clip of INTELLECT-2: the ratio of the unclipped term stops at delta."""
    rho = jnp.exp(logps - old_logps)
    clipped = jnp.clip(rho, 1 - clip_eps, 1 + clip_eps)
    return -jnp.minimum(jnp.minimum(rho, delta) * advantages, clipped * advantages)


@pytest.mark.long
@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(0, 2**31 - 1), st.floats(0.05, 0.9), st.floats(0.0, 3.0))
def test_two_sided_clip_is_the_dual_clip(seed, clip_eps, above):
    """Where delta >= 1 + eps. Below, the two differ: see the next test."""
    inputs = jax.random.normal(jax.random.key(seed), (3, 16))
    delta = 1.0 + clip_eps + above
    dual = partial(dual_clip_loss, clip_eps=clip_eps, dual_clip=delta)
    losses, grad = value_and_grad(dual, *inputs)
    peer, peer_grad = value_and_grad(partial(two_sided, clip_eps=clip_eps, delta=delta), *inputs)
    np.testing.assert_allclose(losses, peer, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(grad, peer_grad, rtol=1e-5, atol=1e-6)


def test_two_sided_clip_below_the_clip_is_not_the_dual_clip():
    inputs = at_ratios([2.0, 2.0], [1.0, -1.0])
    # delta = c = 1.1 < 1 + eps = 1.5. Two-sided: -min(1.1, 1.5); max(1.1, 1.5).
    # Dual: -min(2, 1.5); min(max(2, 1.5), 1.1).
    peer = two_sided(*inputs, clip_eps=0.5, delta=1.1)
    dual = dual_clip_loss(*inputs, clip_eps=0.5, dual_clip=1.1)
    np.testing.assert_allclose(peer, [-1.1, 1.5], rtol=1e-6)
    np.testing.assert_allclose(dual, [-1.5, 1.1], rtol=1e-6)


def test_cispo_below_its_cap_has_the_importance_weighted_gradient():
    logps, old_logps, advantages = jax.random.normal(jax.random.key(4), (3, 64))
    rho = jnp.exp(logps - old_logps)
    _, grad = value_and_grad(partial(cispo_loss, max_ratio=1.3), logps, old_logps, advantages)
    _, free = value_and_grad(partial(ppo_clip_loss, clip_eps=jnp.inf), logps, old_logps, advantages)
    below = rho <= 1.3
    assert bool(jnp.any(below))
    assert not bool(jnp.all(below))
    np.testing.assert_allclose(grad[below], free[below], rtol=1e-5)
    # Above it the step keeps a gradient, of the size that it has at the cap.
    np.testing.assert_allclose(grad[~below], -1.3 * advantages[~below], rtol=1e-5)


def test_sapo_without_a_gate_is_importance_weighting_in_gradient():
    with jax.enable_x64(True):
        inputs = jax.random.normal(jax.random.key(5), (3, 16), dtype=float)
        sapo = partial(sapo_loss, tau_positive=1e-6, tau_negative=1e-6)
        _, grad = value_and_grad(sapo, *inputs)
        _, free = value_and_grad(partial(ppo_clip_loss, clip_eps=jnp.inf), *inputs)
        np.testing.assert_allclose(grad, free, rtol=1e-8)


def test_sapo_fades_on_both_sides():
    """The weight of the gradient per unit of ratio is largest at rho = 1."""
    ratios = np.array([0.2, 0.5, 1.0, 1.5, 3.0])
    inputs = at_ratios(ratios, np.ones(5))
    _, grad = value_and_grad(partial(sapo_loss, tau_positive=3.0, tau_negative=1.0), *inputs)
    weight = np.asarray(grad) / -ratios
    assert np.all(np.diff(weight[:3]) > 0)
    assert np.all(np.diff(weight[2:]) < 0)


def test_importance_weights_are_one_where_the_sampler_is_the_old_policy():
    logps = jax.random.normal(jax.random.key(6), (8,))
    for weights in (truncated_importance_weights, masked_importance_weights):
        np.testing.assert_array_equal(weights(logps, logps, max_ratio=1.0), 1.0)


def test_importance_weights_agree_below_the_cap_and_are_data():
    old_logps, sampler_logps = jax.random.normal(jax.random.key(7), (2, 32))
    truncated = truncated_importance_weights(old_logps, sampler_logps, max_ratio=1.5)
    masked = masked_importance_weights(old_logps, sampler_logps, max_ratio=1.5)
    below = jnp.exp(old_logps - sampler_logps) < 1.5
    np.testing.assert_array_equal(truncated[below], masked[below])
    np.testing.assert_array_equal(truncated[~below], 1.5)
    np.testing.assert_array_equal(masked[~below], 0.0)
    for weights in (truncated_importance_weights, masked_importance_weights):
        total = jax.grad(lambda *x, w=weights: jnp.sum(w(*x, max_ratio=1.5)), argnums=(0, 1))
        for grad in total(old_logps, sampler_logps):
            np.testing.assert_array_equal(grad, 0.0)


def test_infinite_clip_is_the_importance_weighted_loss():
    logps, old_logps, advantages = 2.0 * jax.random.normal(jax.random.key(1), (3, 8))
    losses = ppo_clip_loss(logps, old_logps, advantages, clip_eps=jnp.inf)
    np.testing.assert_allclose(losses, -advantages * jnp.exp(logps - old_logps), rtol=1e-6)
    dual = partial(dual_clip_loss, clip_eps=jnp.inf, dual_clip=jnp.inf)
    np.testing.assert_allclose(dual(logps, old_logps, advantages), losses, rtol=1e-6)
    values = clipped_value_loss(logps, old_logps, advantages, clip_eps=jnp.inf)
    np.testing.assert_allclose(values, value_loss(logps, advantages), rtol=1e-6)


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


@pytest.mark.long
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


@pytest.mark.parametrize("weights_of", [truncated_importance_weights, masked_importance_weights])
def test_inactive_importance_weights_are_unbiased(weights_of):
    """Sampled by one policy, weighted to another: exact where no ratio passes the cap."""
    old_logps, sampler_logps = jax.nn.log_softmax(LOGITS), jax.nn.log_softmax(REF_LOGITS)
    probs = jnp.exp(sampler_logps)
    largest = float(jnp.max(jnp.exp(old_logps - sampler_logps)))
    exact = jax.grad(lambda logits: jnp.sum(jax.nn.softmax(logits) * REWARDS))(LOGITS)

    def expected(max_ratio):
        weights = weights_of(old_logps, sampler_logps, max_ratio=max_ratio)

        def mean(logits):
            logps = jax.nn.log_softmax(logits)
            losses = ppo_clip_loss(logps, old_logps, REWARDS, clip_eps=0.2)
            return jnp.sum(probs * weights * losses)

        return -jax.grad(mean)(LOGITS), jnp.sum(probs * weights * REWARDS)

    grad, mean = expected(1.01 * largest)
    np.testing.assert_allclose(grad, exact, atol=1e-6)
    np.testing.assert_allclose(mean, jnp.sum(jnp.exp(old_logps) * REWARDS), rtol=1e-6)
    assert not np.allclose(expected(0.9 * largest)[0], exact, atol=1e-3)


def test_bias_of_truncation_is_what_it_cuts_off():
    old_logps, sampler_logps = jax.nn.log_softmax(LOGITS), jax.nn.log_softmax(REF_LOGITS)
    weights = truncated_importance_weights(old_logps, sampler_logps, max_ratio=1.2)
    rho = np.exp(np.asarray(old_logps - sampler_logps, np.float64))
    assert rho.max() > 1.2
    bias = jnp.sum(jnp.exp(sampler_logps) * weights * REWARDS) - jnp.sum(
        jnp.exp(old_logps) * REWARDS
    )
    cut = np.sum(np.exp(sampler_logps) * np.maximum(rho - 1.2, 0.0) * np.asarray(REWARDS))
    np.testing.assert_allclose(bias, -cut, rtol=1e-5)


@of_ratio
def test_ratios_that_overflow_stay_finite(loss):
    """A ratio of e^1e4 or e^-1e4 with a huge advantage, or none; also at extreme clips."""
    gaps = jnp.array([1e4, 1e4, 1e4, -1e4, -1e4, -1e4])
    advantages = jnp.array([1e4, -1e4, 0.0, 1e4, -1e4, 0.0])
    for offset in (0.0, -1e4):
        losses, grad = value_and_grad(loss, gaps + offset, jnp.full(6, offset), advantages)
        assert bool(jnp.all(jnp.isfinite(losses)))
        assert bool(jnp.all(jnp.isfinite(grad)))
        np.testing.assert_array_equal(losses[2::3], 0.0)
        np.testing.assert_array_equal(grad[2::3], 0.0)


@pytest.mark.long
@pytest.mark.parametrize("size", [1e-6, 1e3, 1e30])
def test_extreme_hyper_parameters_stay_finite(size):
    corners = jnp.array([-1e4, -1.0, 0.0, 1.0, 1e4])
    inputs = tuple(x.ravel() for x in jnp.meshgrid(corners, corners, corners))
    for loss in (
        partial(ppo_clip_loss, clip_eps=size),
        partial(asymmetric_clip_loss, clip_eps_low=size, clip_eps_high=size),
        partial(dual_clip_loss, clip_eps=0.2, dual_clip=1.0 + size),
        partial(cispo_loss, max_ratio=size),
        partial(clipped_value_loss, clip_eps=size),
    ):
        losses, grad = value_and_grad(loss, *inputs)
        assert bool(jnp.all(jnp.isfinite(losses)))
        assert bool(jnp.all(jnp.isfinite(grad)))
    if size < 1e4:
        sapo = partial(sapo_loss, tau_positive=size, tau_negative=size)
        losses, grad = value_and_grad(sapo, *inputs)
        assert bool(jnp.all(jnp.isfinite(losses)))
        assert bool(jnp.all(jnp.isfinite(grad)))
