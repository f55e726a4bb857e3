"""Q-learning with replay. Its state is the prefix written so far, whose values alias nothing, or
the position alone."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from experiments.rl_perspective.config import Tokens
from experiments.rl_perspective.tokens import TIES, learn, rewards, wander


def prefix_follow(vocabulary: int) -> Callable[..., jax.Array]:
    """`(row, token) -> row` of the longer prefix. Rows are numbered by length first: the empty
    prefix is 0, the one token v is 1 + v, and so on."""
    return lambda row, token: row * vocabulary + token + 1


def place_follow(row: jax.Array, token: jax.Array) -> jax.Array:
    """The next position, whatever was written."""
    return row + jnp.ones_like(token)


def visited_rows(strings: jax.Array, follow: Callable[..., jax.Array]) -> jax.Array:
    """Row of the table before each token, [B, T] of strings [B, T]."""

    def step(row, token):
        return follow(row, token), row

    _, rows = jax.lax.scan(step, jnp.zeros(len(strings), int), strings.T)
    return rows.T


def replayed_q_learning(
    key, config: Tokens, target, vocabulary: int, *, prefix: bool, rate
) -> jax.Array:
    """As `q_learning`, on prefixes or positions; after each round as many old strings, times
    `replays`, again.

    Args:
      rate: step of Q-learning; may be traced.
    Returns:
      [iterations] share of the greedy string's tokens that are right.
    """
    length, samples = config.length, config.samples
    follow = prefix_follow(vocabulary) if prefix else place_follow
    rows = (vocabulary**length - 1) // (vocabulary - 1) if prefix else length

    def write(values, key, count, explore):
        def step(row, key):
            tie_key, wander_key = jax.random.split(key)
            seen = values[row]
            best = jnp.argmax(seen + TIES * jax.random.uniform(tie_key, seen.shape), axis=-1)
            token = wander(wander_key, best, vocabulary, explore)
            return follow(row, token), token

        return jax.lax.scan(step, jnp.zeros(count, int), jax.random.split(key, length))[1].T

    def iterate(carry, now):
        values, strings, scores = carry
        number, key = now
        keys = jax.random.split(key, 4)
        new = write(values, keys[0], samples, config.explore)
        strings = jax.lax.dynamic_update_slice(strings, new, (number * samples, 0))
        new_scores = rewards(keys[1], config, target, new)
        scores = jax.lax.dynamic_update_slice(scores, new_scores, (number * samples,))
        again = jax.random.randint(keys[2], (config.replays * samples,), 0, (number + 1) * samples)
        told = jnp.concatenate([new, strings[again]])
        seen = (visited_rows(told, follow), told, jnp.append(new_scores, scores[again]))
        values, _ = jax.lax.scan(lambda v, one: (learn(v, *one, rate=rate), None), values, seen)
        greedy = write(values, keys[3], 1, 0.0)[0]
        return (values, strings, scores), jnp.mean(greedy == target)

    count = config.iterations * samples
    start = (jnp.zeros((rows, vocabulary)), jnp.zeros((count, length), int), jnp.zeros(count))
    rounds = (jnp.arange(config.iterations), jax.random.split(key, config.iterations))
    return jax.lax.scan(iterate, start, rounds)[1]
