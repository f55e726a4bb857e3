"""Rankings of the K answers to a prompt: their order, their ties, and how well scores keep to it.

Shared arguments:
  scores: [*B, K] the higher, the better. A candidate with a score that is not finite is missing.
  mask: [*B, K] True where the candidate is real; values under False never matter.
"""

import chex
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.ops.groups import scored_answers
from rlhf_jax.ops.masking import Mean
from rlhf_jax.ops.mismatch import order_accuracy


def best_first(
    scores: Float[Array, "*B K"], mask: Bool[Array, "*B K"] | None = None
) -> Int[Array, "*B K"]:
    """[*B, K] places of the candidates from the highest score to the lowest, missing ones last.

    Candidates with equal scores stay in the order of the row. A mask of None counts all.
    """
    real = scored_answers(scores, mask)
    return jnp.argsort(-jnp.where(real, scores, -jnp.inf), axis=-1, stable=True)


def tied_with_better(
    scores: Float[Array, "*B K"], mask: Bool[Array, "*B K"]
) -> Bool[Array, "*B K"]:
    """True for a real candidate with the score of one that stands before it in the row.

    A list without these has a strict order; of equal scores the first stays.
    """
    real = scored_answers(scores, mask)
    equal = scores[..., :, None] == scores[..., None, :]
    before = jnp.tril(jnp.ones(equal.shape[-2:], bool), k=-1)
    return real & jnp.any(equal & before & real[..., None, :], axis=-1)


def ranking_accuracy(
    values: Float[Array, "*B K"], scores: Float[Array, "*B K"], mask: Bool[Array, "*B K"]
) -> Mean:
    """`ops.mismatch.order_accuracy` of the values among the real candidates, as a Mean [*B].

    Equal values count one half. The weight is 1 for a list with two different scores, else 0.
    """
    chex.assert_equal_shape([values, scores])
    real = scored_answers(scores, mask)
    values, scores = (jnp.where(real, x, 0.0) for x in (values, scores))
    # An empty list takes weights of 1, which its equal scores make nothing of.
    weights = jnp.where(jnp.any(real, axis=-1, keepdims=True), real, True)
    found = order_accuracy(values, scores, weights.astype(values.dtype))
    known = jnp.isfinite(found)
    return Mean(jnp.where(known, found, 0.0), known.astype(values.dtype))
