"""Posteriors of a linear reward: particles on the sphere, or a normal approximation.

Choices identify only beta times the norm of the reward. Here beta is known and |theta| = 1.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from rlhf_jax.checks import check_range
from rlhf_jax.feedback.choices import choice_loglik, choice_logps
from rlhf_jax.ops.linear_systems import invert
from rlhf_jax.ops.newton import newton_minimum
from rlhf_jax.types import Scalar

LogDensity = Callable[[Float[Array, " d"]], Float[Array, ""]]


class Particles(NamedTuple):
    """thetas [M, d] of norm 1 and log_weights [M], normalised: sum exp = 1."""

    thetas: Float[Array, "M d"]
    log_weights: Float[Array, " M"]


def uniform_particles(key: Key[Array, ""], num_particles: int, num_features: int) -> Particles:
    """Particles from the uniform distribution on the sphere, with equal weights."""
    thetas = to_sphere(jax.random.normal(key, (num_particles, num_features)))
    return Particles(thetas, jnp.full(num_particles, -jnp.log(num_particles), thetas.dtype))


def to_sphere(theta: Float[Array, "*B d"]) -> Float[Array, "*B d"]:
    """theta / |theta|."""
    return theta / jnp.linalg.norm(theta, axis=-1, keepdims=True)


def reweight(particles: Particles, logliks: Float[Array, " M"]) -> Particles:
    """Bayes' rule for one or more new records: log w += log P(record | theta), normalised."""
    return particles._replace(log_weights=jax.nn.log_softmax(particles.log_weights + logliks))


def effective_size(particles: Particles) -> Float[Array, ""]:
    """1 / sum_i w_i^2, from 1 (one particle has all the weight) to M."""
    return jnp.exp(-jax.nn.logsumexp(2.0 * particles.log_weights))


def posterior_mean(particles: Particles) -> Float[Array, " d"]:
    """sum_i w_i theta_i; its direction is the estimate, its norm in [0, 1] the concentration."""
    return jnp.exp(particles.log_weights) @ particles.thetas


def draw_particles(key: Key[Array, ""], particles: Particles, n: int) -> Float[Array, "n d"]:
    """n independent draws, with replacement: an ensemble, or the rewards of Thompson sampling."""
    return particles.thetas[jax.random.categorical(key, particles.log_weights, shape=(n,))]


def resample(key: Key[Array, ""], particles: Particles) -> Particles:
    """M particles of equal weight by systematic resampling: each is kept M w_i times, rounded."""
    size = particles.log_weights.shape[0]
    steps = (jnp.arange(size) + jax.random.uniform(key)) / size
    ends = jnp.cumsum(jnp.exp(particles.log_weights))
    kept = jnp.minimum(jnp.searchsorted(ends / ends[-1], steps), size - 1)
    level = jnp.full(size, -jnp.log(size), particles.log_weights.dtype)
    return Particles(particles.thetas[kept], level)


def metropolis(
    key: Key[Array, ""],
    thetas: Float[Array, "M d"],
    log_density: LogDensity,
    *,
    scale: Scalar,
    steps: int,
) -> Float[Array, "M d"]:
    """Random-walk Metropolis on the sphere; each particle is a chain of its own.

    theta' = (theta + scale z) / |theta + scale z|, z standard normal. The density of theta' depends
    only on its angle to theta, so the proposal is symmetric and cancels in the acceptance ratio.

    Args:
      key: one key for all steps.
      thetas: [M, d] of norm 1.
      log_density: [d] -> [], up to a constant, with respect to the area of the sphere.
      scale: > 0, roughly the angle of a step in radians. May be traced.
      steps: number of steps.
    """
    check_range("(0, inf)", scale=scale)
    density = jax.vmap(log_density)

    def step(carry, key):
        thetas, now = carry
        move_key, accept_key = jax.random.split(key)
        moved = to_sphere(thetas + scale * jax.random.normal(move_key, thetas.shape, thetas.dtype))
        then = density(moved)
        accepted = jnp.log(jax.random.uniform(accept_key, now.shape, now.dtype)) < then - now
        return (jnp.where(accepted[:, None], moved, thetas), jnp.where(accepted, then, now)), None

    start = thetas, density(thetas)
    return jax.lax.scan(step, start, jax.random.split(key, steps))[0][0]


def resample_move(
    key: Key[Array, ""],
    particles: Particles,
    log_density: LogDensity,
    *,
    steps: int = 5,
    threshold: float = 1 / 3,
) -> Particles:
    """Resamples and moves the particles under the posterior, if few of them carry the weight.

    This happens if the effective size is below threshold * M. The scale of the moves is 1.5 times
    the spread of the weighted particles over sqrt(d - 1).

    Args:
      key: one key per call.
      particles: after `reweight`.
      log_density: [d] -> [], log posterior with all records, up to a constant.
      steps: Metropolis steps.
      threshold: in [0, 1].
    Reference: Gilks and Berzuini 2001, "Following a moving target".
    """
    resample_key, move_key = jax.random.split(key)
    size, num_features = particles.thetas.shape
    mean = posterior_mean(particles)
    # |theta| = 1, so the mean square distance to the mean is 1 - |mean|^2.
    spread = jnp.sqrt(jnp.maximum(1.0 - mean @ mean, 1e-12))
    scale = 1.5 * spread / max(num_features - 1, 1) ** 0.5

    def refreshed(particles):
        level = resample(resample_key, particles)
        thetas = metropolis(move_key, level.thetas, log_density, scale=scale, steps=steps)
        return level._replace(thetas=thetas)

    low = effective_size(particles) < threshold * size
    return jax.lax.cond(low, refreshed, lambda same: same, particles)


class Normal(NamedTuple):
    """mean [d] and covariance [d, d] of a normal posterior of theta."""

    mean: Float[Array, " d"]
    covariance: Float[Array, "d d"]


def choice_information(
    options: Float[Array, "*B K d"], theta: Float[Array, " d"], *, beta: Scalar
) -> Float[Array, "d d"]:
    """Fisher information of choices, summed: sum_b beta^2 Cov_{c ~ P}(phi_b(c)).

    It is minus the Hessian of the summed `choice_loglik`, for any choice. For a comparison it is
    beta^2 p (1 - p) x x^T with x = phi_1 - phi_0.
    """
    probs = jnp.exp(choice_logps(options @ theta, beta=beta))
    centred = options - jnp.einsum("...k,...kd->...d", probs, options)[..., None, :]
    return beta**2 * jnp.einsum("...k,...ki,...kj->ij", probs, centred, centred)


def laplace(
    options: Float[Array, "N K d"],
    choice: Int[Array, " N"],
    *,
    beta: Scalar,
    precision: Scalar = 1.0,
) -> Normal:
    """Laplace approximation at the mode of log-likelihood + log N(theta; 0, I / precision).

    The mode is found by `ops.newton.newton_minimum`.

    Args:
      options: [N, K, d] features of the options of each record.
      choice: [N] chosen options.
      beta: rationality of the teacher. May be traced.
      precision: precision of the prior, > 0. May be traced.
    Returns:
      mean: the mode; covariance: inverse of information + precision I.
    Departs: theta is not restricted to norm 1; the prior fixes its scale.
    """
    check_range("(0, inf)", precision=precision)

    def objective(theta):
        logliks = choice_loglik(options @ theta, choice, beta=beta)
        return precision * jnp.sum(theta**2) / 2 - jnp.sum(logliks)

    mode = newton_minimum(objective, jnp.zeros(options.shape[-1], options.dtype)).params
    prior = precision * jnp.eye(options.shape[-1], dtype=options.dtype)
    return Normal(mode, invert(choice_information(options, mode, beta=beta) + prior))


def bootstrap_ensemble(
    key: Key[Array, ""],
    options: Float[Array, "N K d"],
    choice: Int[Array, " N"],
    num_members: int,
    *,
    beta: Scalar,
    precision: Scalar = 1.0,
) -> Float[Array, "M d"]:
    """Modes of `laplace` on bootstrap samples of the records, one per member: [M, d]."""
    rows = jax.random.randint(key, (num_members, choice.shape[0]), 0, choice.shape[0])

    def fit(kept):
        return laplace(options[kept], choice[kept], beta=beta, precision=precision).mean

    return jax.vmap(fit)(rows)
