"""Pairs with a spurious feature, seen from the chosen answer.

Of two answers with five quality features each, the first is chosen with probability
sigmoid(2 (dq_0 + 0.7 dq_1)); the feature s says nothing about that, and goes with the label.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

QUALITY = (1.0, 0.7, 0.0, 0.0, 0.0)
SLOPE = 2.0
FEATURE = len(QUALITY)  # the place of s
TEST_RHOS = (-0.9, -0.6, -0.3, 0.0, 0.3, 0.5, 0.7, 0.9)
FLAGS, LENGTHS = "flattery", "length"
WORLDS = (LENGTHS, FLAGS)


class Pairs(NamedTuple):
    """x: [N, 6] features of the chosen answer minus those of the other; s is the last one.

    environments: [N] from 0.
    """

    x: Float[Array, "N 6"]
    environments: Int[Array, "N"]


def draw_pairs(
    key: jax.Array, rhos: Sequence[float], count: int, *, world: str, spread: float
) -> Pairs:
    """`count` pairs of an environment for each rho, in random order.

    The difference of lengths is spread (rho + sqrt(1 - rho^2) noise) for the chosen answer. Flags
    are 0 or 1: the chosen answer flatters with probability (1 + rho) / 2, the other one with
    (1 - rho) / 2, and the difference is that of the flags.
    """
    keys = jax.random.split(key, 5)
    total = count * len(rhos)
    environments = jnp.repeat(jnp.arange(len(rhos)), count)
    rho = jnp.repeat(jnp.asarray(rhos, jnp.float32), count)
    quality = jax.random.normal(keys[0], (total, FEATURE))
    first = jax.random.uniform(keys[1], (total,)) < jax.nn.sigmoid(SLOPE * gold(quality))
    quality = jnp.where(first[:, None], quality, -quality)
    if world == FLAGS:
        draws = jax.random.uniform(keys[2], (2, total))
        s = (draws[0] < 0.5 * (1 + rho)) * 1.0 - (draws[1] < 0.5 * (1 - rho)) * 1.0
    else:
        noise = jax.random.normal(keys[3], (total,))
        s = spread * (rho + jnp.sqrt(1.0 - rho**2) * noise)
    order = jax.random.permutation(keys[4], total)
    x = jnp.concatenate([quality, s[:, None]], axis=-1)
    return Pairs(x[order], environments[order])


def gold(features: Float[Array, "*B d"]) -> Float[Array, "*B"]:
    """What answers are worth: the first two features alone."""
    return features[..., :FEATURE] @ jnp.asarray(QUALITY)


def accuracy(weights: Float[Array, "6"], x: Float[Array, "N 6"]) -> Float[Array, ""]:
    """Share of pairs with the chosen answer ahead; a tie counts one half."""
    z = x @ weights
    return jnp.mean((z > 0) + 0.5 * (z == 0))


def tilted(scores: Float[Array, "N"], kl: float) -> Float[Array, "N"]:
    """The policy exp(score / b) / Z on a pool of N items, b the smallest with at least `kl` nats.

    By bisection on log b: the KL to the uniform policy falls in b.
    """
    size = scores.shape[0]
    centred = (scores - jnp.mean(scores)) / (jnp.std(scores) + 1e-9)

    def policy(log_b):
        return jax.nn.log_softmax(centred * jnp.exp(-log_b))

    def nats(log_b):
        logps = policy(log_b)
        return jnp.sum(jnp.exp(logps) * logps) + jnp.log(size)

    def halve(ends, _):
        low, high = ends
        middle = 0.5 * (low + high)
        enough = nats(middle) >= kl
        return (jnp.where(enough, middle, low), jnp.where(enough, high, middle)), None

    (low, _), _ = jax.lax.scan(halve, (jnp.float32(-4.0), jnp.float32(4.0)), None, length=40)
    return jnp.exp(policy(low))
