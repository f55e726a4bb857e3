"""Every pair of answers of a small bandit, weighted: the population form of a pairwise loss."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

ANSWERS = 4


def draw_bandit(seed: int = 0):
    """Rewards, reference logits and a full-support behaviour policy: [A] float64 each."""
    rng = np.random.default_rng(seed)
    rewards, ref_logits, behaviour = rng.standard_normal((3, ANSWERS))
    return jnp.asarray(rewards), jnp.asarray(ref_logits), jax.nn.softmax(jnp.asarray(behaviour))


def rows(x):
    """[A, A]: x of the first answer of each pair."""
    return jnp.broadcast_to(x[:, None], (ANSWERS, ANSWERS))


def columns(x):
    """[A, A]: x of the second answer of each pair."""
    return jnp.broadcast_to(x[None, :], (ANSWERS, ANSWERS))


def gaps(x):
    """[A, A]: x of the first minus x of the second answer of each pair."""
    return x[:, None] - x[None, :]


def slope(loss: Callable, weights, logits, ref_logits):
    """Gradient to the logits of sum_ab weights[a, b] loss(a chosen, b rejected).

    loss: the four arrays [A, A] of a pairwise loss -> [A, A].
    """
    ref_logps = jax.nn.log_softmax(ref_logits)

    def mean(logits):
        logps = jax.nn.log_softmax(logits)
        losses = loss(rows(logps), columns(logps), rows(ref_logps), columns(ref_logps))
        return jnp.sum(weights * losses)

    return jax.grad(mean)(logits)


def assert_optimal(loss: Callable, weights, logits, ref_logits):
    """Stationary there to 1e-10, and clearly not half a nat beside it."""
    np.testing.assert_allclose(slope(loss, weights, logits, ref_logits), 0.0, atol=1e-10)
    beside = logits + 0.5 * jnp.sin(jnp.arange(float(ANSWERS)))
    assert float(jnp.max(jnp.abs(slope(loss, weights, beside, ref_logits)))) > 1e-3
