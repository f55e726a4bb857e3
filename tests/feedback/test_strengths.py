"""Preference strength and repaired labels by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.feedback.strengths import flipped_prefs, softened_prefs, weakest_pairs
from rlhf_jax.losses.reward import margin_bradley_terry_loss, soft_margin_bradley_terry_loss
from rlhf_jax.ops.ensembles import preference_strengths

CHOSEN = jnp.array([[1.0, 0.0, 2.0], [3.0, -1.0, 2.0]])
REJECTED = jnp.array([[0.0, 1.0, 2.0], [0.0, 2.0, 3.0]])


def test_strengths_by_hand():
    # gaps [[1, -1, 0], [3, -3, -1]]: means 2, -2, -1/2; deviations over N = 2 members 1, 1, 1/2
    found = preference_strengths(CHOSEN, REJECTED)
    np.testing.assert_allclose(found.means, [2.0, -2.0, -0.5])
    np.testing.assert_allclose(found.stds, [1.0, 1.0, 0.5])
    slopes = jax.grad(lambda x: preference_strengths(x, REJECTED).means.sum())(CHOSEN)
    np.testing.assert_array_equal(slopes, 0.0)


def test_a_constant_of_a_member_and_the_order_of_members_do_not_matter():
    offset = jnp.array([[5.0], [-2.0]])
    found = preference_strengths(CHOSEN, REJECTED)
    for other in (
        preference_strengths(CHOSEN + offset, REJECTED + offset),
        preference_strengths(CHOSEN[::-1], REJECTED[::-1]),
    ):
        np.testing.assert_allclose(other.means, found.means, rtol=1e-6)
        np.testing.assert_allclose(other.stds, found.stds, rtol=1e-5)


def test_swapped_answers_have_the_opposite_strength():
    found, swapped = preference_strengths(CHOSEN, REJECTED), preference_strengths(REJECTED, CHOSEN)
    np.testing.assert_array_equal(swapped.means, -found.means)
    np.testing.assert_array_equal(swapped.stds, found.stds)


def test_the_weakest_are_a_share_of_all_and_ties_fall_to_the_first():
    strengths = jnp.array([0.3, -1.0, 0.3, 2.0, -0.2])
    np.testing.assert_array_equal(weakest_pairs(strengths, share=0.4), [0, 1, 0, 0, 1])
    np.testing.assert_array_equal(weakest_pairs(strengths, share=0.6), [1, 1, 0, 0, 1])
    np.testing.assert_array_equal(flipped_prefs(strengths, share=0.4), [1.0, 0.0, 1.0, 1.0, 0.0])
    assert not weakest_pairs(strengths, share=0.0).any()
    assert weakest_pairs(strengths, share=1.0).all()


def test_soft_labels_are_of_pairs_below_zero_only():
    strengths = jnp.array([0.3, -1.0, 0.0])
    prefs = softened_prefs(strengths, label_smoothing=0.3)
    np.testing.assert_allclose(prefs, [1.0, 0.7, 1.0], rtol=1e-6)
    np.testing.assert_array_equal(softened_prefs(strengths, label_smoothing=0.0), 1.0)


def test_a_flipped_pair_is_trained_as_its_answers_swapped_with_the_opposite_margin():
    gaps = jnp.array([-2.0, -0.5])
    chosen, rejected = jnp.array([0.4, 1.0]), jnp.array([1.0, -1.0])
    flipped = soft_margin_bradley_terry_loss(chosen, rejected, jnp.zeros(2), gaps)
    np.testing.assert_allclose(
        flipped, margin_bradley_terry_loss(rejected, chosen, -gaps), rtol=1e-6
    )
    # z = -0.6 + 2 = 1.4 and 2 + 0.5 = 2.5: log(1 + e^1.4) = 1.6204174, log(1 + e^2.5) = 2.5788898
    np.testing.assert_allclose(flipped, [1.6204174, 2.5788898], rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.1, 0.5, 0.9])
def test_the_best_gap_of_a_soft_pair_is_the_margin_plus_the_logit(smoothing):
    with jax.enable_x64(True):
        prefs, gaps = jnp.array(1.0 - smoothing), jnp.array(-0.7)
        best = gaps + jnp.log((1.0 - smoothing) / smoothing)
        zero = jnp.zeros(())
        slope = jax.grad(soft_margin_bradley_terry_loss)
        np.testing.assert_allclose(slope(best, zero, prefs, gaps), 0.0, atol=1e-12)
        # dL/dz = sigmoid(z) - q
        expected = jax.nn.sigmoid(1.0 + 0.7) - (1.0 - smoothing)
        np.testing.assert_allclose(slope(jnp.array(1.0), zero, prefs, gaps), expected, rtol=1e-12)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_out_of_range_is_named(share):
    with pytest.raises(ValueError, match="share"):
        weakest_pairs(jnp.zeros(3), share=share)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_strength_that_is_not_finite_is_named(bad):
    """It would sort as the strongest; with a voter that diverged all of them are NaN."""
    strengths = jnp.array([0.3, bad, -1.0])
    for repair in (
        partial(weakest_pairs, share=0.4),
        partial(flipped_prefs, share=0.4),
        partial(softened_prefs, label_smoothing=0.5),
    ):
        with pytest.raises(
            ValueError, match=r"strengths must be in \(-inf, inf\), got .* at \[1\]"
        ):
            repair(strengths)
