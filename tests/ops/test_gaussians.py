"""Diagonal Gaussians: divergences against Monte Carlo and by hand, draws against their law."""

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.ops.gaussians import diagonal_normal_kl, gaussian_draws, standard_normal_kl

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
