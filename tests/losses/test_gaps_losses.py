"""Gap reward models: the four comparisons by hand, what they leave free, bad lists of them."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from rlhf_jax.losses import bradley_terry_loss
from rlhf_jax.losses.gaps import GAP_TERMS, gap_loss, gap_shift

# g_ww = 1, g_wl = 3 in the row of the chosen answer; g_lw = -1, g_ll = 0.5.
GAPS = jnp.array([[1.0, 3.0], [-1.0, 0.5]])


def softplus(x):
    return np.log1p(np.exp(x))


def test_golden_numbers():
    # wl - ww = 2, wl - ll = 2.5, ww - lw = 2, ll - lw = 1.5:
    # 0.126928 + 0.078889 + 0.126928 + 0.201413
    assert float(gap_loss(GAPS)) == pytest.approx(0.534159, rel=1e-5)
    assert float(gap_loss(GAPS, terms=[("wl", "lw")])) == pytest.approx(softplus(-4.0), rel=1e-5)
    five = gap_loss(GAPS, terms=(*GAP_TERMS, ("wl", "lw")))
    assert float(five) == pytest.approx(0.534159 + 0.018150, rel=1e-5)
    assert float(gap_shift(GAPS)) == pytest.approx(0.75)


def test_a_shift_changes_nothing_but_the_zero():
    np.testing.assert_allclose(gap_loss(GAPS + 7.0), gap_loss(GAPS), rtol=1e-6)
    np.testing.assert_allclose(gap_shift(GAPS + 7.0), gap_shift(GAPS) + 7.0, rtol=1e-6)
    slopes = jax.grad(gap_loss)(GAPS)
    assert float(slopes.sum()) == pytest.approx(0.0, abs=1e-6)
    assert slopes[0, 1] < 0 < slopes[1, 0]


def test_an_additive_gap_is_two_reward_models():
    """g = u(y) - v(y_ref): 2 BT(u) + 2 BT(v)."""
    rng = np.random.default_rng(0)
    u, v = (jnp.asarray(rng.normal(size=(5, 2)), jnp.float32) for _ in range(2))
    gaps = u[:, :, None] - v[:, None, :]
    expected = 2 * bradley_terry_loss(u[:, 0], u[:, 1]) + 2 * bradley_terry_loss(v[:, 0], v[:, 1])
    np.testing.assert_allclose(gap_loss(gaps), expected, rtol=1e-5)


def test_one_model_on_both_sides_is_antisymmetric_and_has_no_shift():
    """g = u(y) - u(y_ref): g_wl = -g_lw, g_ww = g_ll = 0; another v breaks both."""
    u = jnp.asarray(np.random.default_rng(1).normal(size=(5, 2)), jnp.float32)
    gaps = u[:, :, None] - u[:, None, :]
    np.testing.assert_array_equal(gaps, -jnp.swapaxes(gaps, 1, 2))
    np.testing.assert_array_equal(gap_shift(gaps), 0.0)
    other = u[:, :, None] - 2.0 * u[:, None, :]
    assert float(jnp.abs(gap_shift(other)).min()) > 0.01
    assert float(jnp.abs(other + jnp.swapaxes(other, 1, 2)).max()) > 0.1


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ((), "at least one comparison"),
        ([("wl", "wl")], "pairs of different gaps"),
        ([("wl", "xx")], "pairs of different gaps"),
    ],
)
def test_what_is_no_comparison_is_named(terms, message):
    with pytest.raises(ValueError, match=message):
        gap_loss(GAPS, terms=terms)


def test_gaps_of_another_shape_are_refused():
    for function in (gap_loss, gap_shift):
        with pytest.raises((AssertionError, jaxtyping.TypeCheckError)):
            function(jnp.zeros((4, 3)))
