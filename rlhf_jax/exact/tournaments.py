"""Who beats whom in a preference game: Condorcet winners, top cycles, intransitive triples.

Only the sign of P(row beats column) - 1/2 counts; 1/2 exactly is a tie. All of it can be traced.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def condorcet_winner(prefs: Float[Array, "*B n n"]) -> Int[Array, "*B"]:
    """The answer that beats every other, or -1.

    Args:
      prefs: [*B, n, n], row beats column.
    Returns:
      [*B] int32.
    """
    n = prefs.shape[-1]
    wins = jnp.all(_beats(prefs) | jnp.eye(n, dtype=bool), axis=-1)
    return jnp.where(jnp.any(wins, axis=-1), jnp.argmax(wins, axis=-1), -1).astype(jnp.int32)


def intransitive_share(prefs: Float[Array, "*B n n"]) -> Float[Array, "*B"]:
    """Share of the triples of answers that beat each other in a circle.

    Args:
      prefs: [*B, n, n], row beats column; triples with a tie in them count as transitive.
    Returns:
      [*B] in [0, 1]; about 1/4 where every pair is a fair coin, 0 with fewer than three answers.
    """
    n = prefs.shape[-1]
    beats = _beats(prefs).astype(jnp.float32)
    paths = jnp.matmul(beats, beats, precision=jax.lax.Precision.HIGHEST)
    # Each circle i > j > k > i is counted once from each of its members.
    circles = jnp.sum(paths * jnp.swapaxes(beats, -1, -2), axis=(-1, -2)) / 3.0
    return circles / max(n * (n - 1) * (n - 2) / 6, 1.0)


def has_cycle(prefs: Float[Array, "*B n n"]) -> Bool[Array, "*B"]:
    """Whether some answers beat each other in a circle, of any length.

    Without ties there is then a circle of three; with ties there need not be.

    Args:
      prefs: [*B, n, n], row beats column.
    Returns:
      [*B].
    """
    return jnp.any(jnp.diagonal(_reaches(_beats(prefs)), axis1=-2, axis2=-1), axis=-1)


def smith_set(prefs: Float[Array, "*B n n"]) -> Bool[Array, "*B n"]:
    """The Smith set or top cycle: the fewest answers each of which beats all the others.

    It is the Condorcet winner alone where there is one. Every Nash policy lies in it, because one
    of the game among its members beats all that is outside.

    Args:
      prefs: [*B, n, n], row beats column; a tie between the two sides keeps both in.
    Returns:
      [*B, n] mask, never empty.
    """
    ties_or_beats = _beats(prefs) | ~jnp.swapaxes(_beats(prefs), -1, -2)
    return jnp.all(_reaches(ties_or_beats), axis=-1)


def _beats(prefs: Float[Array, "*B n n"]) -> Bool[Array, "*B n n"]:
    """Row beats column more often than not."""
    return prefs > 0.5


def _reaches(edges: Bool[Array, "*B n n"]) -> Bool[Array, "*B n n"]:
    """Whether a path of one edge or more leads from row to column."""
    for _ in range(max(edges.shape[-1] - 1, 1).bit_length()):
        ones = edges.astype(jnp.float32)
        edges = edges | (jnp.matmul(ones, ones, precision=jax.lax.Precision.HIGHEST) > 0)
    return edges
