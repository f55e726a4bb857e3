"""Small preference games, enumerated: maps of policies, and population forms of pairwise losses.

P[y, z] is the chance that y beats z. A policy is its log-probabilities [n].
"""

import jax
import jax.numpy as jnp
import numpy as np


def pair_weights(logps):
    """[n, n] chance of every ordered pair of two independent answers."""
    return jnp.exp(logps[:, None] + logps[None, :])


def random_game(seed, size=4):
    """P with P + P^T = 1, and five random policies as log-probabilities [5, size]."""
    rng = np.random.default_rng(seed)
    lower = np.tril(rng.uniform(size=(size, size)), -1)
    game = lower + np.triu(1.0 - lower.T, 1) + 0.5 * np.eye(size)
    logps = jax.nn.log_softmax(jnp.asarray(rng.standard_normal((5, size))))
    return jnp.asarray(game), logps


def step(logps, opponent, game, ref_logps, *, eta, beta):
    """The tabular map S: (1 - eta beta) log pi + eta beta log mu + eta P q, normalised."""
    kept = (1.0 - eta * beta) * logps + eta * beta * ref_logps
    return jax.nn.log_softmax(kept + eta * game @ jnp.exp(opponent))


def slope(loss, logits):
    """Gradient of a population loss, a function of log-probs, to the logits of a table."""
    return jax.grad(lambda logits: loss(jax.nn.log_softmax(logits)))(logits)


def assert_solves(loss, logps):
    """The population loss is stationary there to 1e-10, and clearly not beside it."""
    np.testing.assert_allclose(slope(loss, logps), 0.0, atol=1e-10)
    beside = logps + 0.5 * jnp.sin(jnp.arange(float(len(logps))))
    assert float(jnp.max(jnp.abs(slope(loss, beside)))) > 1e-3


def all_pairs(logps):
    """First and second [n, n] of every ordered pair."""
    shape = logps.shape[0], logps.shape[0]
    return jnp.broadcast_to(logps[:, None], shape), jnp.broadcast_to(logps[None, :], shape)


def labelled(game, sampler, loss):
    """Mean of loss(w, l) [n, n] over pairs from the sampler, ordered by a label of the game."""
    weights = pair_weights(sampler)
    # The pair (y, z) becomes (w, l) = (y, z) with chance P[y, z] and (z, y) otherwise.
    return lambda logps: jnp.sum(weights * (game * loss(logps) + game.T * loss(logps).T))
