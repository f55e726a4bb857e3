"""Beliefs about a linear reward, against a grid in two dimensions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.feedback import choices, posteriors

BETA, N = 3.0, 12


def normal(seed: int, *shape: int) -> jax.Array:
    """Standard normal numbers, without a program compiled for each shape."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


OPTIONS = normal(0, N, 2, 2)
TRUTH = jnp.array([0.8, -0.6])
CHOICE = choices.sample_choice(jax.random.key(1), OPTIONS @ TRUTH, beta=BETA)


def log_density(theta):
    return jnp.sum(choices.choice_loglik(OPTIONS @ theta, CHOICE, beta=BETA))


@pytest.fixture(scope="module")
def grid():
    """Angles, points of the circle, and their exact posterior."""
    angles = (np.arange(2000) + 0.5) * 2 * np.pi / 2000
    points = np.stack([np.cos(angles), np.sin(angles)], -1)
    logs = np.asarray(jax.vmap(log_density)(jnp.asarray(points, jnp.float32)), float)
    weights = np.exp(logs - logs.max())
    return angles, points, weights / weights.sum()


@partial(jax.jit, static_argnums=1)
def learn(key, num_particles):
    """One record after another: reweight, then resample and move where that is needed."""
    particles = posteriors.uniform_particles(key, num_particles, 2)

    def step(particles, t):
        def density(theta):
            logliks = choices.choice_loglik(OPTIONS @ theta, CHOICE, beta=BETA)
            return jnp.sum(jnp.where(jnp.arange(N) <= t, logliks, 0.0))

        values = particles.thetas @ OPTIONS[t].T
        label = jnp.full(num_particles, CHOICE[t])
        particles = posteriors.reweight(particles, choices.choice_loglik(values, label, beta=BETA))
        size = posteriors.effective_size(particles)
        moved = posteriors.resample_move(jax.random.fold_in(key, t), particles, density)
        return moved, (size, posteriors.effective_size(moved))

    return jax.lax.scan(step, particles, jnp.arange(N))


@pytest.mark.long
def test_particles_against_a_grid(grid):
    angles, points, exact = grid
    particles, (before, after) = learn(jax.random.key(2), 6000)
    assert bool((before < 2000).any())  # a resample-move took place,
    assert bool((after[before < 2000] > 5999).all())
    np.testing.assert_allclose(after[before >= 2000], before[before >= 2000])  # and only there
    np.testing.assert_allclose(posteriors.posterior_mean(particles), exact @ points, atol=0.012)
    at = np.arctan2(*np.asarray(particles.thetas).T[::-1]) % (2 * np.pi)
    weights = np.exp(np.asarray(particles.log_weights))
    shares = [weights[at <= angle].sum() for angle in angles[::20]]
    np.testing.assert_allclose(shares, np.cumsum(exact)[::20], atol=0.025)


@pytest.mark.long
def test_metropolis_keeps_the_posterior_and_finds_it(grid):
    """From one point, many chains end up with the law of the grid."""
    _, points, exact = grid
    start = jnp.broadcast_to(TRUTH, (3000, 2))
    moved = posteriors.metropolis(jax.random.key(0), start, log_density, scale=0.6, steps=40)
    np.testing.assert_allclose(jnp.linalg.norm(moved, axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(moved.mean(0), exact @ points, atol=0.02)
    second = np.einsum("n,ni,nj->ij", exact, points, points)
    np.testing.assert_allclose(moved.T @ moved / 3000, second, atol=0.02)


@pytest.mark.long
def test_sizes_and_systematic_resampling():
    level = posteriors.uniform_particles(jax.random.key(0), 8, 3)
    assert float(posteriors.effective_size(level)) == pytest.approx(8.0, rel=1e-5)
    weights = np.array([0.5, 0.2, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0], np.float32)
    uneven = level._replace(log_weights=jnp.log(weights))
    size = 1 / float(np.sum(weights**2))
    assert float(posteriors.effective_size(uneven)) == pytest.approx(size, rel=1e-5)
    kept = np.asarray(posteriors.resample(jax.random.key(1), uneven).thetas)
    before = np.asarray(level.thetas)
    counts = [int((kept == before[i]).all(-1).sum()) for i in range(8)]
    assert counts[0] == 4
    assert counts[1] in (1, 2)
    assert counts[2] in (2, 3)
    assert sum(counts[:3]) == 8
    drawn = np.asarray(posteriors.draw_particles(jax.random.key(0), uneven, 50))
    assert set(map(tuple, drawn.tolist())) == set(map(tuple, before[:3].tolist()))


def test_information_is_the_curvature_of_the_likelihood():
    theta = jnp.array([0.2, -0.4])
    curvature = -jax.jit(jax.hessian(log_density))(theta)
    found = posteriors.choice_information(OPTIONS, theta, beta=BETA)
    np.testing.assert_allclose(found, curvature, rtol=1e-4)
    x = np.asarray(OPTIONS[:, 1] - OPTIONS[:, 0])
    prefs = 1 / (1 + np.exp(-BETA * x @ np.asarray(theta)))
    pairs = np.einsum("n,ni,nj->ij", BETA**2 * prefs * (1 - prefs), x, x)
    np.testing.assert_allclose(found, pairs, rtol=1e-4)


@pytest.mark.long
def test_laplace_is_the_mode_and_bootstrapped_modes_spread_as_it_does():
    options = normal(5, 400, 2, 2)
    choice = choices.sample_choice(jax.random.key(6), options @ TRUTH, beta=BETA)
    fitted = jax.jit(partial(posteriors.laplace, beta=BETA))(options, choice)

    def objective(theta):
        logliks = choices.choice_loglik(options @ theta, choice, beta=BETA)
        return jnp.sum(logliks) - theta @ theta / 2

    slope, hessian = jax.jit(lambda t: (jax.grad(objective)(t), jax.hessian(objective)(t)))(
        fitted.mean
    )
    np.testing.assert_allclose(slope, 0.0, atol=1e-2)
    np.testing.assert_allclose(fitted.covariance, -np.linalg.inv(hessian), rtol=1e-3)
    sd = np.sqrt(np.diagonal(fitted.covariance))
    assert (np.abs(fitted.mean - TRUTH) < 3.5 * sd).all()
    ensemble = jax.jit(partial(posteriors.bootstrap_ensemble, beta=BETA), static_argnums=3)
    members = ensemble(jax.random.key(0), options, choice, 100)
    np.testing.assert_allclose(members.mean(0), fitted.mean, atol=0.5 * sd.max())
    np.testing.assert_allclose(np.std(np.asarray(members), axis=0), sd, rtol=0.35)


@pytest.mark.long
def test_the_mode_of_a_flat_prior_is_reached():
    """One choice of x = 1 over 0: sigmoid(-theta) = 1e-12 theta at theta = 24.4."""
    with jax.enable_x64(True):
        options, choice = jnp.array([[[0.0], [1.0]]]), jnp.array([1])
        found = posteriors.laplace(options, choice, beta=1.0, precision=1e-12)
        theta = float(found.mean[0])
    assert np.exp(-theta) == pytest.approx(1e-12 * theta, rel=1e-3)


@pytest.mark.long
def test_in_float32_the_mode_of_a_flat_prior_is_where_the_likelihood_is_flat():
    """log P rounds to 0 from 17 on, so that nothing is left to gain."""
    options, choice = jnp.array([[[0.0], [1.0]]]), jnp.array([1])
    found = posteriors.laplace(options, choice, beta=1.0, precision=1e-12)
    assert 15.0 < float(found.mean[0]) < 26.0
