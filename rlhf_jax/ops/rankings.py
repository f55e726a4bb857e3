"""Rankings of the K answers to a prompt: their order, their ties, and how well scores keep to it.

Shared arguments:
  scores: [*B, K] the higher, the better. A candidate with a score that is not finite is missing.
  mask: [*B, K] True where the candidate is real; values under False never matter.
"""

import chex
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.checks import check_mask
from rlhf_jax.ops.masking import Mean


def best_first(scores: Float[Array, "*B K"], mask: Bool[Array, "*B K"]) -> Int[Array, "*B K"]:
    """[*B, K] places of the candidates from the highest score to the lowest, missing ones last.

    Candidates with equal scores stay in the order of the row.
    """
    check_mask(mask=mask)
    chex.assert_equal_shape([scores, mask])
    real = mask & jnp.isfinite(scores)
    return jnp.argsort(-jnp.where(real, scores, -jnp.inf), axis=-1, stable=True)


def tied_with_better(
    scores: Float[Array, "*B K"], mask: Bool[Array, "*B K"]
) -> Bool[Array, "*B K"]:
    """True for a real candidate with the score of one that stands before it in the row.

    A list without these has a strict order; of equal scores the first stays.
    """
    check_mask(mask=mask)
    chex.assert_equal_shape([scores, mask])
    real = mask & jnp.isfinite(scores)
    equal = scores[..., :, None] == scores[..., None, :]
    before = jnp.tril(jnp.ones(equal.shape[-2:], bool), k=-1)
    return real & jnp.any(equal & before & real[..., None, :], axis=-1)


def order_accuracy(
    values: Float[Array, "*B K"], scores: Float[Array, "*B K"], mask: Bool[Array, "*B K"]
) -> Mean:
    """Share of the pairs with different scores whose values have the same order, as a Mean [*B].

    Equal values count one half. The weight is 1 for a list with such a pair, else 0.
    """
    check_mask(mask=mask)
    chex.assert_equal_shape([values, scores, mask])
    real = mask & jnp.isfinite(scores)
    better = scores[..., :, None] > scores[..., None, :]
    pairs = better & real[..., :, None] & real[..., None, :]
    right = 0.5 + 0.5 * jnp.sign(values[..., :, None] - values[..., None, :])
    count = jnp.sum(pairs, axis=(-2, -1))
    total = jnp.sum(jnp.where(pairs, right, 0.0), axis=(-2, -1))
    return Mean(total / jnp.maximum(count, 1), (count > 0).astype(values.dtype))
