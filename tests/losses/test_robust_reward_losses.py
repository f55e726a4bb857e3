"""Losses of pairs in environments and of copies: by hand, and the identities between them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.losses import bradley_terry_loss, links
from rlhf_jax.losses.preference import group_weights
from rlhf_jax.losses.robust_reward import (
    consistency_penalty,
    correlation_penalty,
    irm_loss,
    mmd_penalty,
    vrex_loss,
    worst_case_margins,
    worst_copy_loss,
)
from rlhf_jax.ops.environments import (
    balanced_weights,
    environment_means,
    members,
    reversed_gradient,
)

NAN = np.nan
# Two pairs of environment 0, one of environment 1, and one that does not count.
ENVIRONMENTS = jnp.array([0, 0, 1, 7])
MASK = jnp.array([True, True, True, False])


def test_members_and_means_by_hand():
    found = members(ENVIRONMENTS, MASK, count=3)
    np.testing.assert_array_equal(found, [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    means = environment_means(jnp.array([1.0, 2.0, 3.0, NAN]), ENVIRONMENTS, MASK, count=3)
    np.testing.assert_allclose(means.total, [3.0, 3.0, 0.0])
    np.testing.assert_allclose(means.weight, [2.0, 1.0, 0.0])


def test_an_environment_that_does_not_exist_is_nan():
    """A pair that counts in environment 2 of 2, or in -1."""
    x, mask = jnp.ones(2), jnp.ones(2, bool)
    for ids in ([0, 2], [-1, 1]):
        bad = (jnp.array(ids), mask)
        assert np.isnan(environment_means(x, *bad, count=2).value()).all()
        assert np.isnan(balanced_weights(*bad, count=2)).all()
        assert np.isnan(vrex_loss(x, *bad, count=2, penalty=0.0))
        assert np.isnan(irm_loss(x, *bad, count=2, penalty=0.0))
        assert np.isnan(mmd_penalty(x, *bad, count=2, bandwidth=1.0))


def test_vrex_by_hand():
    # R = (1 + 2) / 2 and 3: mean 2.25, variance 0.75^2 = 0.5625
    losses = jnp.array([1.0, 2.0, 3.0, NAN])
    np.testing.assert_allclose(vrex_loss(losses, ENVIRONMENTS, MASK, count=2, penalty=2.0), 3.375)
    # A third environment without pairs changes nothing.
    np.testing.assert_allclose(vrex_loss(losses, ENVIRONMENTS, MASK, count=3, penalty=2.0), 3.375)
    alone = vrex_loss(losses, 0 * ENVIRONMENTS, MASK, count=1, penalty=9.0)
    np.testing.assert_allclose(alone, 2.0)


def test_irm_by_hand():
    # log(1 + e^-1) = 0.3132617 and log(1 + e^2) = 2.1269280; D = -1 * 0.2689414 and 2 * 0.8807971,
    # (0.0723295 + 3.1032140) / 2 = 1.5877717
    places = jnp.array([0, 1]), jnp.ones(2, bool)
    loss = irm_loss(jnp.array([1.0, -2.0]), *places, count=2, penalty=2.0)
    np.testing.assert_allclose(loss, 1.2200948 + 2 * 1.5877717, rtol=1e-6)


def test_the_slope_of_irm_is_that_of_a_dummy_classifier():
    """And its gradient in linear scores is mean [(p - y) + p (1 - p) z] x."""
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((7, 3), 3))
    everyone = jnp.zeros(7, int), jnp.ones(7, bool)

    def penalty(w):
        both = [irm_loss(x @ w, *everyone, count=1, penalty=lam) for lam in (1.0, 0.0)]
        return both[0] - both[1]

    slope = jax.grad(lambda scale: jnp.mean(links.logistic(scale * (x @ w))))(1.0)
    np.testing.assert_allclose(penalty(w), slope**2, rtol=1e-4)
    z = x @ w
    p = jax.nn.sigmoid(z)
    by_hand = 2 * slope * jnp.mean(((p - 1) + p * (1 - p) * z)[:, None] * x, axis=0)
    np.testing.assert_allclose(jax.grad(penalty)(w), by_hand, rtol=1e-3, atol=1e-5)


def test_mmd_by_hand():
    # k_00 = (2 + 2 e^-2) / 4 of margins 0 and 2, k_11 = 1, k_01 = e^-1/2 of 1 against both
    z = jnp.array([0.0, 2.0, 1.0, NAN])
    want = (1 + np.exp(-2)) / 2 + 1 - 2 * np.exp(-0.5)
    found = mmd_penalty(z, ENVIRONMENTS, MASK, count=2, bandwidth=1.0)
    np.testing.assert_allclose(found, want, rtol=1e-6)
    # With an empty third environment the same; in units of the bandwidth.
    scaled = mmd_penalty(3 * z, ENVIRONMENTS, MASK, count=3, bandwidth=3.0)
    np.testing.assert_allclose(scaled, want, rtol=1e-6)
    alike = mmd_penalty(
        jnp.array([1.0, 3.0, 3.0, 1.0]),
        jnp.array([0, 0, 1, 1]),
        jnp.ones(4, bool),
        count=2,
        bandwidth=0.5,
    )
    np.testing.assert_allclose(alike, 0.0, atol=1e-7)


def test_correlation_by_hand():
    # z - 2 = -1, 0, 1 and s - 1 = 0, -1, 1: Cov 1/3, both variances 2/3: (1/9) / (4/9)
    z, s = jnp.array([1.0, 2.0, 3.0, NAN]), jnp.array([1.0, 0.0, 2.0, NAN])
    np.testing.assert_allclose(correlation_penalty(z, s, MASK), 0.25, rtol=1e-5)
    np.testing.assert_allclose(correlation_penalty(5 * z - 1, -s, MASK), 0.25, rtol=1e-5)
    np.testing.assert_allclose(correlation_penalty(s, s, MASK), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(correlation_penalty(jnp.ones(4), s, MASK), 0.0)


def test_both_orders_of_each_pair_give_the_marginal_dependence():
    """Means vanish: (E z s)^2 / (E z^2 E s^2), here of margins that do not vary given the label."""
    z, s = jnp.array([1.0, 1.0, 1.0]), jnp.array([1.0, -1.0, 1.0])
    both = jnp.concatenate([z, -z]), jnp.concatenate([s, -s]), jnp.ones(6, bool)
    np.testing.assert_allclose(correlation_penalty(*both), (1 / 3) ** 2, rtol=1e-5)
    np.testing.assert_array_equal(correlation_penalty(z, s, jnp.ones(3, bool)), 0.0)


def test_worst_case_margins_by_hand_and_over_all_corners():
    # 1 - 0.1 (0.5 + 2)
    slopes = jnp.array([0.5, -2.0])
    found = worst_case_margins(jnp.array(1.0), slopes, radius=0.1)
    np.testing.assert_allclose(found, 0.75, rtol=1e-6)
    corners = [1.0 + 0.1 * (a * 0.5 - b * 2.0) for a in (-1, 1) for b in (-1, 1)]
    np.testing.assert_allclose(found, min(corners), rtol=1e-6)


def test_copies_by_hand():
    losses = jnp.array([[1.0, 3.0, 2.0], [4.0, NAN, NAN]])
    mask = jnp.array([[True, True, True], [True, False, False]])
    np.testing.assert_array_equal(worst_copy_loss(losses, mask), [3.0, 4.0])
    # 1, 3, 2 around 2: (1 + 1 + 0) / 3; a pair without copies has no variance
    np.testing.assert_allclose(consistency_penalty(losses, mask), [2 / 3, 0.0], rtol=1e-6)


def test_copies_with_the_feature_turned_round_leave_it_no_weight():
    """sum over s and -s of a convex loss of w_q q + w_s s is least at w_s = 0, whatever w_q is."""
    rng = np.random.default_rng(1)
    q, s = (jnp.asarray(rng.normal(size=50), jnp.float32) for _ in range(2))

    def loss(weight):
        z = jnp.stack([1.3 * q + weight * s, 1.3 * q - weight * s])
        return jnp.mean(bradley_terry_loss(z, jnp.zeros_like(z)))

    np.testing.assert_allclose(jax.grad(loss)(0.0), 0.0, atol=1e-7)
    assert float(jax.grad(jax.grad(loss))(0.0)) > 0.01
    one_sided = jax.grad(lambda w: jnp.mean(links.logistic(1.3 * q + w * (q + s))))(0.0)
    assert abs(float(one_sided)) > 0.05  # without the copies there is a slope


def test_balanced_weights_make_label_and_sign_independent():
    labels = jnp.array([1, 1, 1, 1, 0, 0, 0, 1])
    signs = jnp.array([1, 1, 1, 0, 0, 0, 0, 0])  # cells of 3, 2 and 3 pairs; 1, 0 is empty
    mask = jnp.ones(8, bool).at[3].set(False)
    weights = balanced_weights(2 * labels + signs, mask, count=4)
    # 7 pairs in cells of 3 (good, long), 1 (good, short), 3 (bad, short): 7/9, 7/3, 7/9
    np.testing.assert_allclose(weights, [7 / 9] * 3 + [0] + [7 / 9] * 3 + [7 / 3], rtol=1e-6)
    cells = jnp.array([0, 0, 0, 1, 2, 2, 3, 3])
    even = balanced_weights(cells, jnp.ones(8, bool), count=4)
    np.testing.assert_allclose(even.mean(), 1.0, rtol=1e-6)
    label, sign = cells // 2 - 0.5, cells % 2 - 0.5
    np.testing.assert_allclose(jnp.sum(even * label * sign), 0.0, atol=1e-6)


def test_group_weights_are_exponentiated():
    """1/2 e^0.1 against 1/2 e^0.3: the share of the second is sigmoid(0.2)."""
    found = group_weights(jnp.full(2, 0.5), jnp.array([1.0, 3.0]), eta=0.1)
    np.testing.assert_allclose(found[1], 0.5498340, rtol=1e-6)


def test_a_reversed_gradient():
    x = jnp.array([1.0, -2.0])
    value, slope = jax.value_and_grad(lambda x: jnp.sum(reversed_gradient(x, scale=0.5) ** 2))(x)
    np.testing.assert_array_equal(value, 5.0)
    np.testing.assert_array_equal(slope, [-1.0, 2.0])
    with jax.enable_x64(True):
        wide = jax.grad(lambda x: reversed_gradient(x, scale=2.0))(jnp.float64(1.0))
        assert wide == -2.0
        assert wide.dtype == jnp.float64
    with pytest.raises(ValueError, match="scale must be"):
        reversed_gradient(x, scale=-1.0)
