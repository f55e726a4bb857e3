"""The difference score of MetaRM: by hand, its range, its slope at ties, missing answers."""

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.ops.groups import score_spread


def test_by_hand():
    # gaps 1, 2, 1: sigmoid 0.7310586, 0.8807971, 0.7310586, times 2 / 9
    np.testing.assert_allclose(score_spread(jnp.array([0.0, 1.0, 2.0])), 0.5206476, rtol=1e-6)


def test_range_of_four_answers():
    same, apart = jnp.ones((2, 4)), jnp.array([[0.0, 1e3, 2e3, 3e3], [0.0, -1e3, 5e3, 9e3]])
    np.testing.assert_allclose(score_spread(same), 0.375)  # (k - 1) / (2 k)
    np.testing.assert_allclose(score_spread(apart), 0.75, rtol=1e-6)  # (k - 1) / k
    scores = jnp.asarray(np.random.default_rng(0).standard_normal((100, 4)))
    assert bool(jnp.all((score_spread(scores) > 0.375) & (score_spread(scores) < 0.75)))


def test_no_slope_at_ties_and_a_constant_does_not_matter():
    scores = jnp.array([0.5, 0.5, -1.0])
    slopes = jax.grad(score_spread)(scores)
    # two pairs with gap 1.5: 2 / 9 sigmoid'(1.5) = 2 / 9 * 0.1491465 each
    np.testing.assert_allclose(slopes, np.array([1, 1, -2]) * 0.1491465 * 2 / 9, rtol=1e-5)
    np.testing.assert_array_equal(jax.grad(score_spread)(jnp.ones(3)), 0.0)
    np.testing.assert_allclose(score_spread(scores + 3.0), score_spread(scores), rtol=1e-6)


def test_missing_answers_never_matter():
    scores = jnp.array([0.0, 7.0, 1.0, jnp.nan, 2.0])
    mask = jnp.array([True, False, True, True, True])
    np.testing.assert_allclose(score_spread(scores, mask), 0.5206476, rtol=1e-6)
    assert float(score_spread(scores[:1])) == 0.0
    slopes = jax.grad(lambda x: score_spread(x, mask))(scores)
    assert bool(jnp.all(jnp.isfinite(slopes)))
    np.testing.assert_array_equal(slopes[jnp.array([1, 3])], 0.0)
