"""Diagonal Gaussians: divergences against Monte Carlo and by hand, draws against their law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.ops.gaussians import (
    diagonal_normal_kl,
    diagonal_normal_logps,
    gaussian_draws,
    standard_normal_kl,
    tanh_normal_logps,
)

MEANS, LOG_VARIANCES = np.array([0.5, -1.0]), np.array([0.2, -0.7])
PRIOR_MEANS, PRIOR_LOG_VARIANCES = np.array([0.1, 0.3]), np.array([-0.4, 0.6])


def log_density(x, means, log_variances):
    away = (x - means) ** 2 * np.exp(-log_variances)
    return -0.5 * np.sum(away + log_variances + np.log(2 * np.pi), axis=-1)


def test_golden_numbers():
    # -1/2 [(1 + 0 - 4 - 1) + (1 + log 4 - 0 - 4)] = -1/2 [-4 - 1.6137056]
    found = standard_normal_kl(jnp.array([2.0, 0.0]), jnp.array([0.0, np.log(4.0)]))
    np.testing.assert_allclose(found, 2.8068528, rtol=1e-6)
    # N(1, 1) to N(0, 4): 1/2 [log 4 - 1 + 1/4 + 1/4] = 0.4431472
    found = diagonal_normal_kl(*(jnp.array([x]) for x in (1.0, 0.0, 0.0, np.log(4.0))))
    np.testing.assert_allclose(found, 0.4431472, rtol=1e-6)


def test_divergences_are_those_of_draws():
    """Mean of log q - log p over draws from q, within four standard errors."""
    x = MEANS + np.exp(LOG_VARIANCES / 2) * np.random.default_rng(0).standard_normal((200_000, 2))
    own = log_density(x, MEANS, LOG_VARIANCES)
    q = jnp.asarray(MEANS), jnp.asarray(LOG_VARIANCES)
    for prior, found in (
        ((np.zeros(2), np.zeros(2)), standard_normal_kl(*q)),
        (
            (PRIOR_MEANS, PRIOR_LOG_VARIANCES),
            diagonal_normal_kl(*q, *map(jnp.asarray, (PRIOR_MEANS, PRIOR_LOG_VARIANCES))),
        ),
    ):
        ratios = own - log_density(x, *prior)
        error = ratios.std() / np.sqrt(len(x))
        assert abs(ratios.mean() - float(found)) < 4 * error < 0.02


def test_a_gaussian_is_at_distance_zero_from_itself_only():
    q = jnp.asarray(MEANS), jnp.asarray(LOG_VARIANCES)
    assert float(diagonal_normal_kl(*q, *q)) == 0.0
    assert float(diagonal_normal_kl(*q, q[0] + 0.01, q[1])) > 0
    assert float(diagonal_normal_kl(*q, q[0], q[1] + 0.01)) > 0


def test_draws_have_the_moments_and_their_gradients():
    noise = jnp.asarray(np.random.default_rng(1).standard_normal((100_000, 2)))
    wide = [jnp.broadcast_to(jnp.asarray(x), noise.shape) for x in (MEANS, LOG_VARIANCES)]
    draws = np.asarray(gaussian_draws(*wide, noise))
    np.testing.assert_allclose(draws.mean(0), MEANS, atol=0.02)
    np.testing.assert_allclose(draws.var(0), np.exp(LOG_VARIANCES), rtol=0.02)

    def second_moment(means, log_variances):
        wide = [jnp.broadcast_to(x, noise.shape) for x in (means, log_variances)]
        return jnp.mean(gaussian_draws(*wide, noise) ** 2, axis=0).sum()

    # E z^2 = m^2 + exp(lv): slopes 2 m and exp(lv)
    slopes = jax.grad(second_moment, (0, 1))(jnp.asarray(MEANS), jnp.asarray(LOG_VARIANCES))
    np.testing.assert_allclose(slopes[0], 2 * MEANS, atol=0.03)
    np.testing.assert_allclose(slopes[1], np.exp(LOG_VARIANCES), rtol=0.03)


def test_log_densities_by_hand():
    # -1/2 [log 4 + (3 - 1)^2 / 4 + log 2 pi] = -1/2 (1.3862944 + 1 + 1.8378771)
    one, wide, point = (jnp.array([x]) for x in (1.0, np.log(4.0), 3.0))
    np.testing.assert_allclose(diagonal_normal_logps(one, wide, point), -2.1120857, rtol=1e-6)
    # limit 2, a = (1, -1): b = (1/2, -1/2), u = (0.5493061, -0.5493061), 1 - b^2 = 3/4;
    # m = (0.5493061, 0), lv = (0, 0): -1/2 (0 + 0.3017372 + 2 log 2 pi) - 2 log(2 * 3/4)
    means, flat = jnp.array([np.arctanh(0.5), 0.0]), jnp.zeros(2)
    found = tanh_normal_logps(means, flat, jnp.array([1.0, -1.0]), limit=2.0)
    np.testing.assert_allclose(found, -0.1508686 - 1.8378771 - 0.8109302, rtol=1e-6)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("limit", [1.0, 2.5])
def test_a_squashed_gaussian_integrates_to_one_over_its_box(x64, limit):
    """The midpoint rule in u with a = limit tanh u, so that the ends of the box are resolved."""
    with jax.enable_x64(x64):
        u, step = np.linspace(-5.5, 5.5, 4000, retstep=True)
        actions = jnp.asarray(limit * np.tanh(u))[:, None]
        slopes = limit / np.cosh(u) ** 2
        for mean, log_variance in ((0.3, -1.0), (-1.0, 0.5)):
            full = (jnp.full(actions.shape, x, actions.dtype) for x in (mean, log_variance))
            density = np.exp(np.asarray(tanh_normal_logps(*full, actions, limit=limit), float))
            total = np.sum(density * slopes) * step
            assert total == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("x64", [False, True])
def test_actions_at_the_limit_are_finite_and_beyond_it_nan_without_gradient(x64):
    with jax.enable_x64(x64):
        means, log_variances = jnp.array([[0.5], [0.5], [0.5]]), jnp.full((3, 1), -10.0)
        actions = jnp.array([[1.0], [-1.0], [1.01]])

        def total(*heads):
            logps = tanh_normal_logps(*heads, actions)
            return jnp.sum(jnp.where(jnp.array([True, True, False]), logps, 0.0)), logps

        grads, logps = jax.grad(total, argnums=(0, 1), has_aux=True)(means, log_variances)
        assert np.isfinite(logps[:2]).all()
        assert np.isnan(logps[2])
        assert logps.dtype == (jnp.float64 if x64 else jnp.float32)
        for grad in grads:
            assert np.isfinite(grad).all()
            assert float(grad[2, 0]) == 0.0
        # At the limit it is the density of the edge: u = atanh(1 - 1e-5) = 6.1030
        edge = tanh_normal_logps(means[:1], log_variances[:1], jnp.array([[1.0 - 1e-5]]))
        np.testing.assert_allclose(logps[0], edge[0], rtol=1e-3)
        np.testing.assert_allclose(float(grads[0][0, 0]), (6.1030 - 0.5) * np.exp(10), rtol=1e-2)


def test_digits_near_the_limit_and_in_the_middle_are_those_of_float64():
    actions = np.array([1e-6, 0.3, 0.99, 0.9999, -0.9999])[:, None]
    heads = np.full((5, 1), 0.2), np.full((5, 1), -0.5)
    single = tanh_normal_logps(*(jnp.asarray(x, jnp.float32) for x in (*heads, actions)))
    u = np.arctanh(np.asarray(actions, np.float32).astype(float))
    exact = log_density(u, *heads) - np.log1p(-(np.tanh(u[:, 0]) ** 2))
    np.testing.assert_allclose(single, exact, rtol=1e-5)


def test_in_a_wide_box_a_squashed_gaussian_is_a_gaussian():
    with jax.enable_x64(True):
        means, log_variances, points = (jnp.asarray([x]) for x in (0.3, -0.7, 1.1))
        squashed = tanh_normal_logps(
            means / 1e6, log_variances - 2 * np.log(1e6), points, limit=1e6
        )
        np.testing.assert_allclose(
            squashed, diagonal_normal_logps(means, log_variances, points), rtol=1e-9
        )
