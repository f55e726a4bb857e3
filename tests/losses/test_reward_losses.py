"""Bradley-Terry by hand and in its limits."""

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.losses.reward import bradley_terry_loss

f32 = np.float32


def test_golden_numbers():
    chosen = jnp.array([1.0, 3.0, -1.0])
    rejected = jnp.array([0.0, 3.0, 1.0])
    # log(1 + e^-1) = log 1.3678794, log 2, log(1 + e^2) = log 8.3890561
    expected = [0.3132617, 0.6931472, 2.1269280]
    np.testing.assert_allclose(bradley_terry_loss(chosen, rejected), expected, rtol=1e-6)


def test_golden_gradient():
    grads = jax.grad(bradley_terry_loss, argnums=(0, 1))(jnp.float32(1.0), jnp.float32(0.0))
    # minus the probability of being wrong: -1 / (1 + e) = -0.2689414
    np.testing.assert_allclose(grads, [-0.2689414, 0.2689414], rtol=1e-6)


def test_only_differences_count():
    chosen, rejected = jnp.array([0.5, -2.0]), jnp.array([1.5, -3.0])
    np.testing.assert_allclose(
        bradley_terry_loss(chosen + 7.0, rejected + 7.0), bradley_terry_loss(chosen, rejected)
    )


def test_far_apart_it_is_linear_or_zero():
    far = bradley_terry_loss(jnp.array([1e4, 0.0]), jnp.array([0.0, 1e4]))
    np.testing.assert_array_equal(far, [0.0, 1e4])


def test_mean_over_labels_is_least_at_the_true_difference():
    """E_{y ~ P} L is the cross-entropy of P, whose slope vanishes where sigmoid(gap) = P."""
    prob, gap = 0.8, jnp.log(f32(4.0))  # sigmoid(log 4) = 4 / 5
    zero = jnp.zeros(())

    def population(gap):
        return prob * bradley_terry_loss(gap, zero) + (1 - prob) * bradley_terry_loss(zero, gap)

    loss, slope = jax.value_and_grad(population)(gap)
    # entropy of (0.8, 0.2): -0.8 log 0.8 - 0.2 log 0.2 = 0.1785148 + 0.3218876
    np.testing.assert_allclose(loss, 0.5004024, rtol=1e-6)
    np.testing.assert_allclose(slope, 0.0, atol=1e-7)
