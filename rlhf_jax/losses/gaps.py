"""Losses of gap reward models, which say how much better an answer is than a reference answer.

g_ab = r(x, y_a, reference y_b), w the chosen answer of a pair and l the rejected one.

Shared argument: gaps [*B, 2, 2], any real; first axis the answer, second the reference, each chosen
then rejected. Results are [*B], unreduced. Shapes are checked at trace time.
"""

from collections.abc import Sequence

import chex
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.losses.links import logistic

GAP_TERMS = (("wl", "ww"), ("wl", "ll"), ("ww", "lw"), ("ll", "lw"))
_NAMES = ("ww", "wl", "lw", "ll")  # of the gaps, row by row


def gap_loss(
    gaps: Float[Array, "*B 2 2"], *, terms: Sequence[tuple[str, str]] = GAP_TERMS
) -> Float[Array, "*B"]:
    """Gap reward model (PIT), one value per pair.

    L = -sum_{(i, j)} log sigmoid(g_i - g_j),   (i, j) in wl > ww, wl > ll, ww > lw, ll > lw.

    The comparisons leave r a shift c(x), the gap of an answer to itself; see `gap_shift`.

    Args:
      terms: greater and lesser gap of each comparison; a variant has ("wl", "lw") too.
    Needs: gaps of both answers of a pair to both.
    Reduces to: 2 `bradley_terry_loss` of u + 2 of v where g = u(x, y) - v(x, y_ref).
    Reference: Wang et al. 2023, arXiv:2310.00898.
    Departs: the paper's equation was not available; the four comparisons are from memory.
    """
    chex.assert_shape(gaps, (..., 2, 2))
    named = dict(zip(_NAMES, jnp.moveaxis(gaps.reshape(*gaps.shape[:-2], 4), -1, 0), strict=True))
    if not terms:
        raise ValueError("terms must have at least one comparison of gaps, e.g. ('wl', 'ww')")
    for term in terms:
        if len(term) != 2 or not named.keys() >= set(term) or term[0] == term[1]:
            raise ValueError(f"terms must be pairs of different gaps of {_NAMES}, got {term!r:.40}")
    return jnp.sum(jnp.stack([logistic(named[i] - named[j]) for i, j in terms]), axis=0)


def gap_shift(gaps: Float[Array, "*B 2 2"]) -> Float[Array, "*B"]:
    """Zero of a gap reward model, one value per pair: what no change is worth.

    c = (g_ww + g_ll) / 2.

    A reward is a gap minus the mean of c, so that copying the reference is worth 0.

    Needs: gaps of both answers to themselves.
    Reference: derived.
    """
    chex.assert_shape(gaps, (..., 2, 2))
    return 0.5 * jnp.trace(gaps, axis1=-2, axis2=-1)
