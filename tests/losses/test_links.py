"""Links by hand, their minima, and their behaviour far from zero."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax.losses import links

SMOOTHED = (links.smoothed_logistic, links.robust_logistic, links.exo)
MARGINS = jnp.array([1.0, -0.5])
# log(1 + e^-1), log(1 + e^0.5); with the other sign they gain 1 and -0.5
SOFTPLUS = np.array([0.3132617, 0.9740770])


@pytest.fixture
def double():
    """float64 while a test runs."""
    with jax.enable_x64(True):
        yield


in_double = pytest.mark.usefixtures("double")


def test_golden_numbers():
    np.testing.assert_allclose(links.logistic(MARGINS), SOFTPLUS, rtol=1e-6)
    # softplus(-z) + h z at h = 0.1; softplus(-z) - h z / (1 - 2 h)
    smoothed = links.smoothed_logistic(MARGINS, label_smoothing=0.1)
    np.testing.assert_allclose(smoothed, SOFTPLUS + np.array([0.1, -0.05]), rtol=1e-6)
    robust = links.robust_logistic(MARGINS, label_smoothing=0.1)
    np.testing.assert_allclose(robust, SOFTPLUS + np.array([-0.125, 0.0625]), rtol=1e-6)
    # softplus(-z) + (1 - p) z at p = 0.7 and 0.25
    soft = links.soft_logistic(MARGINS, jnp.array([0.7, 0.25]))
    np.testing.assert_allclose(soft, SOFTPLUS + np.array([0.3, -0.375]), rtol=1e-6)
    np.testing.assert_allclose(links.hinge(MARGINS), [0.0, 1.5])
    np.testing.assert_allclose(links.squared(MARGINS, jnp.array([0.5, 1.0])), [0.25, 2.25])
    # z = 1: 0.7310586 (-0.3132617 + 0.1053605) + 0.2689414 (-1.3132617 + 2.3025851)
    #      = -0.1519880 + 0.2660701; z = -0.5 likewise
    exo = links.exo(MARGINS, label_smoothing=0.1)
    np.testing.assert_allclose(exo, [0.1140821, 0.8101961], rtol=1e-5)
    # g = sigmoid(2), sigmoid(-1): 0.1192029 * 0.3132617 + 0.8807971 * 0.3678794,
    # 0.7310586 * 0.9740770 + 0.2689414 * 1.6487213
    discopop = links.discopop(MARGINS, temperature=0.5)
    np.testing.assert_allclose(discopop, [0.3613688, 1.1555168], rtol=1e-6)


@pytest.mark.parametrize("link", SMOOTHED[:2])
def test_without_smoothing_they_are_logistic(link):
    margins = jnp.linspace(-5.0, 5.0, 11)
    plain = link(margins, label_smoothing=0.0)
    np.testing.assert_allclose(plain, links.logistic(margins), rtol=1e-6)


@in_double
def test_soft_labels_meet_their_limits():
    margins = jnp.linspace(-5.0, 5.0, 11)
    for pref, limit in ((1.0, links.logistic(margins)), (0.0, links.logistic(-margins))):
        soft = links.soft_logistic(margins, jnp.full(11, pref))
        np.testing.assert_allclose(soft, limit, rtol=1e-14)
    soft = links.soft_logistic(margins, jnp.full(11, 0.9))
    smoothed = links.smoothed_logistic(margins, label_smoothing=0.1)
    np.testing.assert_allclose(soft, smoothed, rtol=1e-14)


@in_double
@pytest.mark.parametrize(
    "link",
    [
        lambda z: links.soft_logistic(z, jnp.full_like(z, 0.9)),
        partial(links.smoothed_logistic, label_smoothing=0.1),
        partial(links.exo, label_smoothing=0.1),
    ],
    ids=["soft", "smoothed", "exo"],
)
def test_they_are_least_at_the_log_odds_of_their_label(link):
    """logit 0.9 = log 9 = 2.1972246; the slope changes its sign there and nowhere else."""
    margins = jnp.linspace(-8.0, 8.0, 65)
    slopes = jax.vmap(jax.grad(link))(margins)
    np.testing.assert_array_equal(jnp.sign(slopes), jnp.sign(margins - np.log(9.0)))
    np.testing.assert_allclose(jax.grad(link)(2.1972245773362196), 0.0, atol=1e-15)


@in_double
def test_soft_slope_is_probability_minus_label():
    margins, prefs = jnp.linspace(-6.0, 6.0, 13), jnp.linspace(0.0, 1.0, 13)
    slopes = jax.vmap(jax.grad(links.soft_logistic))(margins, prefs)
    np.testing.assert_allclose(slopes, 1 / (1 + np.exp(-margins)) - prefs, atol=1e-15)


@in_double
def test_exo_is_a_divergence():
    """0 at its minimum and below -log h everywhere, with h = 0.1."""
    exo = partial(links.exo, label_smoothing=0.1)
    np.testing.assert_allclose(exo(jnp.log(9.0)), 0.0, atol=1e-15)
    margins = jnp.linspace(-50.0, 50.0, 100)
    assert bool(jnp.all((exo(margins) > 0) & (exo(margins) <= -np.log(0.1))))
    # the two directions of the divergence, at z = 0: KL(1/2 || h) and KL(h || 1/2)
    np.testing.assert_allclose(exo(jnp.zeros(())), -np.log(2.0) - 0.5 * np.log(0.09), rtol=1e-14)
    entropy = -0.1 * np.log(0.1) - 0.9 * np.log(0.9)
    other = links.smoothed_logistic(jnp.zeros(()), label_smoothing=0.1) - entropy
    np.testing.assert_allclose(other, np.log(2.0) - entropy, rtol=1e-14)


@in_double
@pytest.mark.parametrize("rate", [0.05, 0.3, 0.49])
def test_robust_is_unbiased_under_flips(rate):
    margins = jnp.linspace(-6.0, 6.0, 13)
    link = partial(links.robust_logistic, label_smoothing=rate)
    mean = (1 - rate) * link(margins) + rate * link(-margins)
    np.testing.assert_allclose(mean, links.logistic(margins), atol=1e-12)
    # Each single label is unbounded below: slope -h / (1 - 2 h) far above 0.
    slope = jax.grad(link)(1e4)
    np.testing.assert_allclose(slope, -rate / (1 - 2 * rate), rtol=1e-10)


@in_double
def test_discopop_at_zero_and_at_its_local_minimum():
    """0.8466 = (log 2 + 1) / 2 at 0; the minimum at -0.1186 was found on a fine grid in NumPy."""
    np.testing.assert_allclose(links.discopop(jnp.zeros(())), 0.5 * (np.log(2.0) + 1), rtol=1e-14)
    grid = jnp.linspace(-0.3, 0.1, 40_001)  # steps of 1e-5
    losses = links.discopop(grid)
    inner = (losses[1:-1] < losses[:-2]) & (losses[1:-1] < losses[2:])
    np.testing.assert_allclose(grid[1:-1][inner], [-0.11857], atol=1e-5)
    np.testing.assert_allclose(losses[1:-1][inner], [0.7859239], rtol=1e-6)


@in_double
def test_discopop_at_a_temperature_that_float32_cannot_hold():
    with jax.enable_x64(False):
        link = partial(links.discopop, temperature=1e-38)
        losses, slopes = jax.vmap(jax.value_and_grad(link))(jnp.array([-1.0, 1.0]))
        at_zero = link(jnp.zeros(()))
    # log(1 + e) with slope -e / (1 + e), 1 / e with slope -1 / e, and (log 2 + 1) / 2
    np.testing.assert_allclose(losses, [1.3132617, 0.3678794], rtol=1e-6)
    np.testing.assert_allclose(slopes, [-0.7310586, -0.3678794], rtol=1e-6)
    np.testing.assert_allclose(at_zero, 0.8465736, rtol=1e-6)


def test_discopop_in_its_limits():
    margins = jnp.linspace(-4.0, 4.0, 9)
    hot = links.discopop(margins, temperature=1e9)
    np.testing.assert_allclose(hot, (links.logistic(margins) + jnp.exp(-margins)) / 2, rtol=1e-8)
    cold = links.discopop(margins, temperature=1e-9)
    switched = jnp.where(margins < 0, links.logistic(margins), jnp.exp(-margins))
    apart = margins != 0
    np.testing.assert_allclose(cold[apart], switched[apart], rtol=1e-12)


@pytest.mark.parametrize("temperature", [1e-6, 0.05, 0.999, 1.5, 1e3])
def test_discopop_is_finite_at_every_temperature(temperature):
    margins = jnp.array([-1e8, -1e4, -40.0, 0.0, 40.0, 1e4, 1e8])
    link = partial(links.discopop, temperature=temperature)
    losses, slopes = jax.vmap(jax.value_and_grad(link))(margins)
    assert bool(jnp.all(jnp.isfinite(losses) & jnp.isfinite(slopes)))
    if temperature < 1:
        np.testing.assert_allclose(losses[:2], -margins[:2], rtol=1e-6)


@pytest.mark.parametrize(
    "link",
    [
        links.logistic,
        links.hinge,
        links.discopop,
        *(partial(link, label_smoothing=0.001) for link in SMOOTHED),
        *(partial(link, label_smoothing=0.49) for link in SMOOTHED),
        lambda z: links.soft_logistic(z, jnp.full_like(z, 0.3)),
        lambda z: links.squared(z, jnp.full_like(z, 0.3)),
    ],
)
def test_huge_margins_are_finite(link):
    """beta = 1e3 and log-probs of -1e4 make margins of 1e7 and more."""
    margins = jnp.array([-4e7, -1e4, -100.0, 100.0, 1e4, 4e7])
    losses, slopes = jax.vmap(jax.value_and_grad(link))(margins)
    assert bool(jnp.all(jnp.isfinite(losses) & jnp.isfinite(slopes)))


reals = st.floats(-30, 30, width=32)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(margin=reals, pref=st.floats(0, 1, width=32))
def test_swapping_the_pair_swaps_the_label(margin, pref):
    one = links.soft_logistic(jnp.float32(margin), jnp.float32(pref))
    other = links.soft_logistic(jnp.float32(-margin), jnp.float32(1) - jnp.float32(pref))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(margin=reals, rate=st.floats(0.01, 0.4))
def test_what_a_swap_costs(margin, rate):
    """L(z) - L(-z): -z, times 1 - 2 h with smoothing, divided by it with the correction."""
    z = jnp.float32(margin)
    for link, cost in (
        (links.logistic, -margin),
        (partial(links.robust_logistic, label_smoothing=rate), -margin / (1 - 2 * rate)),
        (partial(links.smoothed_logistic, label_smoothing=rate), -(1 - 2 * rate) * margin),
        (partial(links.exo, label_smoothing=rate), None),
    ):
        gap = link(z) - link(-z)
        if cost is None:  # (sigmoid(z) - sigmoid(-z)) (log h - log(1 - h))
            cost = np.tanh(margin / 2) * (np.log(rate) - np.log1p(-rate))
        np.testing.assert_allclose(gap, cost, rtol=1e-4, atol=1e-4)
