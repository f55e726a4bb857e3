"""Masked and weighted means, and whitening."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from rlhf_jax.ops.masking import (
    Mean,
    keep_weighted,
    masked_mean,
    masked_sum,
    token_weights,
    weighted_mean,
    whiten,
)

X = jnp.array([[1.0, 2.0, jnp.nan], [4.0, jnp.inf, jnp.nan], [jnp.nan] * 3])
MASK = jnp.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]], bool)


def test_masked_sums_and_means_golden_numbers():
    np.testing.assert_allclose(masked_sum(X, MASK, axis=-1), [3.0, 4.0, 0.0])
    np.testing.assert_allclose(masked_mean(X, MASK, axis=-1), [1.5, 4.0, 0.0])
    np.testing.assert_allclose(masked_mean(X, MASK), 7.0 / 3.0, rtol=1e-6)
    np.testing.assert_allclose(masked_mean(X, MASK, axis=(0, 1)), 7.0 / 3.0, rtol=1e-6)


def test_masked_mean_gradient_is_the_share_of_each_counted_entry():
    grad = jax.grad(lambda x: masked_mean(x, MASK))(X)
    np.testing.assert_allclose(grad, MASK / 3.0, rtol=1e-6)


def test_mean_of_nothing_is_zero_with_a_zero_gradient():
    empty = jnp.zeros(3, bool)
    mean, grad = jax.value_and_grad(lambda x: masked_mean(x, empty))(jnp.full(3, jnp.nan))
    assert mean == 0.0
    np.testing.assert_array_equal(grad, 0.0)


def test_weighted_mean_golden_number():
    mean = weighted_mean(jnp.array([1.0, 5.0, jnp.nan]), jnp.array([3.0, 0.5, 0.0]))
    np.testing.assert_allclose(mean, (5.5, 3.5))  # 3 * 1 + 0.5 * 5, 3 + 0.5
    np.testing.assert_allclose(mean.value(), 5.5 / 3.5, rtol=1e-6)
    np.testing.assert_allclose(weighted_mean(jnp.array([1.0, 5.0])), (6.0, 2.0))


def test_micro_batches_add_up_to_the_batch():
    x, weights = jax.random.uniform(jax.random.key(0), (2, 12))
    whole = weighted_mean(x, weights)
    parts = [weighted_mean(x[s], weights[s]) for s in (slice(0, 1), slice(1, 8), slice(8, 12))]
    summed = jax.tree.map(lambda *parts: sum(parts), *parts)
    assert isinstance(summed, Mean)
    np.testing.assert_allclose(summed.value(), whole.value(), rtol=1e-6)
    means = np.mean([part.value() for part in parts])
    assert abs(means - whole.value()) > 1e-3  # a mean of means is another number


def test_token_weights():
    mask = jnp.array([[1, 1, 0], [1, 0, 0]], bool)
    np.testing.assert_array_equal(token_weights(mask), [[1, 1, 0], [1, 0, 0]])
    weighted = token_weights(mask, jnp.array([0.5, 2.0]))
    np.testing.assert_array_equal(weighted, [[0.5, 0.5, 0], [2, 0, 0]])


def test_keep_weighted_stops_nan_gradients():
    weights = jnp.array([2.0, 0.0])

    def loss(x):
        return weighted_mean(jnp.log(keep_weighted(x, weights) + 1.0), weights).value()

    np.testing.assert_array_equal(jax.grad(loss)(jnp.array([1.0, jnp.nan])), [0.5, 0.0])
    x = jnp.array([jnp.nan])
    np.testing.assert_array_equal(keep_weighted(x, None), x)


def test_whiten_golden_numbers():
    x = jnp.array([[1.0, 3.0], [5.0, jnp.nan]])
    mask = jnp.array([[1, 1], [1, 0]], bool)
    # mean 3, squares 4 + 0 + 4 over 3 - 1, standard deviation 2
    np.testing.assert_allclose(whiten(x, mask), [[-1.0, 0.0], [1.0, 0.0]], atol=1e-6)


def test_whiten_takes_weights_as_repetitions():
    x, mask = jnp.array([1.0, 3.0, 6.0, 100.0]), jnp.array([1, 1, 1, 1], bool)
    weighted = whiten(x, mask, weights=jnp.array([2.0, 1.0, 3.0, 0.0]))
    repeated = whiten(jnp.repeat(x, jnp.array([2, 1, 3, 0])), jnp.ones(6, bool))
    np.testing.assert_allclose(weighted, [*repeated[jnp.array([0, 2, 3])], 0.0], rtol=1e-5)


def test_whiten_has_unit_moments_and_forgets_scale_and_padding():
    x = jax.random.normal(jax.random.key(0), (5, 7))
    mask = jax.random.bernoulli(jax.random.key(1), 0.6, (5, 7))
    white = whiten(x, mask)
    np.testing.assert_allclose(np.mean(white[mask]), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.var(white[mask], ddof=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(whiten(10 * x + 3, mask), white, atol=1e-5)
    noise = jnp.where(mask, x, jnp.nan)
    np.testing.assert_array_equal(whiten(noise, mask), white)


@pytest.mark.parametrize("count", [0, 1])
def test_whiten_of_less_than_two_is_zero(count):
    white = whiten(jnp.array([3.0, 4.0]), jnp.arange(2) < count)
    np.testing.assert_array_equal(white, 0.0)


@pytest.mark.parametrize("reduce", [masked_sum, masked_mean, whiten, weighted_mean, keep_weighted])
def test_shapes_must_agree(reduce):
    ones = jnp.ones((1, 3), float if reduce in (weighted_mean, keep_weighted) else bool)
    with pytest.raises((AssertionError, jaxtyping.TypeCheckError)):
        reduce(jnp.zeros((2, 3)), ones)
