"""Tournaments of preference games: Condorcet winners, Smith sets, cycles, intransitive triples.

Only the sign of P(row beats column) - 1/2 counts; exactly 1/2 is a tie. All functions can be
traced.
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
    """Share of the triples of answers that form a cycle.

    Args:
      prefs: [*B, n, n], row beats column; triples with a tie count as transitive.
    Returns:
      [*B] in [0, 1]; about 1/4 for independent fair coins, 0 for fewer than three answers.
    """
    n = prefs.shape[-1]
    beats = _beats(prefs).astype(jnp.float32)
    paths = jnp.matmul(beats, beats, precision=jax.lax.Precision.HIGHEST)
    # Each cycle i > j > k > i is counted once from each of its three members.
    circles = jnp.sum(paths * jnp.swapaxes(beats, -1, -2), axis=(-1, -2)) / 3.0
    return circles / max(n * (n - 1) * (n - 2) / 6, 1.0)


def has_cycle(prefs: Float[Array, "*B n n"]) -> Bool[Array, "*B"]:
    """Whether there is a cycle of any length.

    Without ties there is then also a cycle of three answers; with ties there may be none.

    Args:
      prefs: [*B, n, n], row beats column.
    """
    return jnp.any(jnp.diagonal(_reaches(_beats(prefs)), axis1=-2, axis2=-1), axis=-1)


def smith_set(prefs: Float[Array, "*B n n"]) -> Bool[Array, "*B n"]:
    """The Smith set (top cycle): the smallest set with members that beat all answers outside it.

    If there is a Condorcet winner, it is the only member. The support of every Nash policy lies in
    the Smith set, because every member beats every answer outside.

    Args:
      prefs: [*B, n, n], row beats column; a tie between a member and another answer makes both
        members.
    Returns:
      [*B, n] mask, never empty.
    """
    ties_or_beats = _beats(prefs) | ~jnp.swapaxes(_beats(prefs), -1, -2)
    return jnp.all(_reaches(ties_or_beats), axis=-1)


def _beats(prefs: Float[Array, "*B n n"]) -> Bool[Array, "*B n n"]:
    """True where row beats column with probability above 1/2."""
    return prefs > 0.5


def _reaches(edges: Bool[Array, "*B n n"]) -> Bool[Array, "*B n n"]:
    """Whether a path of at least one edge leads from row to column."""
    for _ in range(max(edges.shape[-1] - 1, 1).bit_length()):
        ones = edges.astype(jnp.float32)
        edges = edges | (jnp.matmul(ones, ones, precision=jax.lax.Precision.HIGHEST) > 0)
    return edges
