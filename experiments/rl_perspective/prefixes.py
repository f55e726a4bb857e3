"""Q-learning whose state is the prefix written so far, with replay: values that alias nothing."""

import jax
import jax.numpy as jnp

from experiments.rl_perspective.config import Tokens
from experiments.rl_perspective.tokens import TIES, learn, rewards, wander


def prefix_rows(strings: jax.Array, vocabulary: int) -> jax.Array:
    """Row of the table for the prefix before each token, [B, T] of strings [B, T].

    Rows are numbered by length first: the empty prefix is 0, the one token v is 1 + v, and so on.
    """

    def step(row, token):
        return row * vocabulary + token + 1, row

    _, rows = jax.lax.scan(step, jnp.zeros(len(strings), int), strings.T)
    return rows.T


def prefix_q_learning(key, config: Tokens, target, vocabulary: int) -> jax.Array:
    """As `q_learning`, on prefixes; after each round as many old strings, times `replays`, again.

    Returns:
      [iterations] share of the greedy string's tokens that are right.
    """
    length, samples = config.length, config.samples

    def write(values, key, count, explore):
        def step(row, key):
            tie_key, wander_key = jax.random.split(key)
            seen = values[row]
            best = jnp.argmax(seen + TIES * jax.random.uniform(tie_key, seen.shape), axis=-1)
            token = wander(wander_key, best, vocabulary, explore)
            return row * vocabulary + token + 1, token

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
        seen = (prefix_rows(told, vocabulary), told, jnp.append(new_scores, scores[again]))
        values, _ = jax.lax.scan(
            lambda v, one: (learn(v, *one, rate=config.q_rate), None), values, seen
        )
        greedy = write(values, keys[3], 1, 0.0)[0]
        return (values, strings, scores), jnp.mean(greedy == target)

    count = config.iterations * samples
    rows = (vocabulary**length - 1) // (vocabulary - 1)
    start = (jnp.zeros((rows, vocabulary)), jnp.zeros((count, length), int), jnp.zeros(count))
    rounds = (jnp.arange(config.iterations), jax.random.split(key, config.iterations))
    return jax.lax.scan(iterate, start, rounds)[1]
