"""DPO and IPO by hand, in their limits, and on whole sequences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.losses.preference import dpo_loss, ipo_loss
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.logprobs import sequence_logps

# chosen, rejected, ref_chosen, ref_rejected: log-ratios (1, -1) so h = 2; (-1, 0) so h = -1
PAIRS = (
    jnp.array([-1.0, -2.0]),
    jnp.array([-3.0, -1.0]),
    jnp.array([-2.0, -1.0]),
    jnp.array([-2.0, -1.0]),
)


def test_dpo_golden_numbers():
    # beta h = 1 and -0.5: log(1 + e^-1) = 0.3132617, log(1 + e^0.5) = log 2.6487213 = 0.9740770
    np.testing.assert_allclose(dpo_loss(*PAIRS, beta=0.5), [0.3132617, 0.9740770], rtol=1e-6)


def test_dpo_golden_gradient():
    grad = jax.grad(lambda *x: jnp.sum(dpo_loss(*x, beta=0.5)), argnums=(0, 1))(*PAIRS)
    # -beta sigmoid(-beta h): -0.5 * 0.2689414 and -0.5 * sigmoid(0.5) = -0.5 * 0.6224593
    np.testing.assert_allclose(grad[0], [-0.1344707, -0.3112297], rtol=1e-6)
    np.testing.assert_allclose(grad[1], [0.1344707, 0.3112297], rtol=1e-6)


def test_ipo_golden_numbers():
    # 1 / (2 beta) = 0.5: (2 - 0.5)^2 and (-1 - 0.5)^2
    np.testing.assert_allclose(ipo_loss(*PAIRS, beta=1.0), [2.25, 2.25])
    # 1 / (2 beta) = 2: (2 - 2)^2 and (-1 - 2)^2
    np.testing.assert_allclose(ipo_loss(*PAIRS, beta=0.25), [0.0, 9.0])


def test_ipo_and_its_slope_vanish_at_its_target():
    beta = 0.2  # target gap 1 / 0.4 = 2.5
    zero = jnp.zeros(())
    loss, slope = jax.value_and_grad(ipo_loss)(jnp.float32(2.5), zero, zero, zero, beta=beta)
    np.testing.assert_allclose([loss, slope], 0.0, atol=1e-12)
    above, below = (ipo_loss(jnp.float32(g), zero, zero, zero, beta=beta) for g in (2.6, 2.4))
    np.testing.assert_allclose([above, below], 0.01, rtol=1e-4)  # 0.1^2


def test_dpo_is_bradley_terry_on_scaled_log_ratios():
    chosen, rejected, ref_chosen, ref_rejected = PAIRS
    rewards = 0.7 * (chosen - ref_chosen), 0.7 * (rejected - ref_rejected)
    np.testing.assert_allclose(dpo_loss(*PAIRS, beta=0.7), bradley_terry_loss(*rewards))


def test_dpo_at_the_reference_is_log_two():
    loss = dpo_loss(*PAIRS[:2], *PAIRS[:2], beta=0.1)
    np.testing.assert_allclose(loss, np.log(2.0), rtol=1e-6)


def test_dpo_small_beta_slope():
    """L = log 2 - beta h / 2 + O(beta^2), with h = 2 and -1."""
    with jax.enable_x64(True):
        pairs = [x.astype(jnp.float64) for x in PAIRS]
        slope = (dpo_loss(*pairs, beta=1e-6) - np.log(2.0)) / 1e-6
        np.testing.assert_allclose(slope, [-1.0, 0.5], atol=1e-5)


def test_dpo_of_swapped_answers_differs_by_the_margin():
    """-log sigmoid(z) + log sigmoid(-z) = -z, with z = beta h = 1 and -0.5."""
    chosen, rejected, ref_chosen, ref_rejected = PAIRS
    swapped = dpo_loss(rejected, chosen, ref_rejected, ref_chosen, beta=0.5)
    np.testing.assert_allclose(dpo_loss(*PAIRS, beta=0.5) - swapped, [-1.0, 0.5], rtol=1e-6)


def test_dpo_mean_over_labels_is_least_at_the_implicit_reward():
    """Labels with P = sigmoid(r gap): the slope vanishes exactly where beta h = r gap."""
    beta, reward_gap = 0.4, jnp.float32(1.2)
    prob = jax.nn.sigmoid(reward_gap)
    zero = jnp.zeros(())

    def population(log_ratio):
        won = dpo_loss(log_ratio, zero, zero, zero, beta=beta)
        lost = dpo_loss(zero, log_ratio, zero, zero, beta=beta)
        return prob * won + (1 - prob) * lost

    slopes = jax.vmap(jax.grad(population))(reward_gap / beta + jnp.array([-0.5, 0.0, 0.5]))
    assert slopes[0] < -1e-3
    assert slopes[2] > 1e-3
    np.testing.assert_allclose(slopes[1], 0.0, atol=1e-7)


@pytest.mark.long
@pytest.mark.parametrize("loss", [dpo_loss, ipo_loss])
def test_padded_steps_never_matter(loss):
    """NaN under the mask leaves the loss and the gradient to every counted token as they were."""
    tokens = -jnp.exp(jax.random.normal(jax.random.key(0), (4, 5, 3)))  # four arrays [B, T]

    def total(tokens, mask):
        return jnp.sum(loss(*(sequence_logps(x, mask) for x in tokens), beta=0.3))

    step = partial(jax.value_and_grad(total), mask=jnp.ones((5, 3), bool))
    value, grads = step(tokens)
    padded = jnp.pad(tokens, ((0, 0), (0, 0), (0, 2)), constant_values=jnp.nan)
    mask = jnp.arange(5) < 3
    padded_value, padded_grads = step(padded, mask=jnp.broadcast_to(mask, (5, 5)))
    np.testing.assert_allclose(padded_value, value, rtol=1e-6)
    np.testing.assert_allclose(padded_grads[..., :3], grads, rtol=1e-6)
    np.testing.assert_array_equal(padded_grads[..., 3:], 0.0)
