"""A teacher that ranks factors instead of weighting them: comparisons by a decision tree."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlhf_jax.checks import check_entries, check_ids, check_range
from rlhf_jax.types import Scalar


def factor_margins(
    factors: Float[Array, "N n"], multipliers: Scalar | Float[Array, " n"]
) -> Float[Array, " n"]:
    """delta_l = sigma_l * std(z_l) over N items; labels then do not depend on the factors' scales.

    Args:
      factors: [N, n] z.
      multipliers: sigma >= 0, one or [n]. 0: any gap decides; inf: no gap decides.
    Reference: Bukharin et al. 2023, arXiv:2309.02632 (HERON).
    """
    check_entries("[0, inf]", multipliers=multipliers)
    spread = jnp.std(factors, axis=0)
    # A constant factor has std 0, and inf * 0 would be NaN.
    return jnp.where(jnp.isinf(multipliers), jnp.inf, multipliers * spread)


def deciding_levels(
    factors: Float[Array, "*B n"], other_factors: Float[Array, "*B n"], margins: Float[Array, " n"]
) -> Int[Array, "*B"]:
    """Index of the first factor with a gap that exceeds its margin or is NaN; n if there is none.

    Args:
      factors, other_factors, margins: as in `lexicographic_prefs`.
    Reference: Bukharin et al. 2023, arXiv:2309.02632 (HERON).
    """
    clear = _clear_gaps(factors, other_factors, margins) != 0  # NaN != 0
    last = jnp.full((), clear.shape[-1], jnp.int32)
    return jnp.where(clear.any(-1), jnp.argmax(clear, axis=-1).astype(jnp.int32), last)


def lexicographic_prefs(
    factors: Float[Array, "*B n"], other_factors: Float[Array, "*B n"], margins: Float[Array, " n"]
) -> Int[Array, "*B"]:
    """The decision tree: factors are compared in order of importance until a gap is clear.

    pref = sign(z_l - z'_l) at the first l with |z_l - z'_l| > delta_l, or 0 if there is none. If a
    factor or its margin is NaN before that, the result is 0: less important factors do not decide.

    Antisymmetric in the two items. Not transitive if there are margins, because "too close to call"
    is not transitive.

    Args:
      factors, other_factors: [*B, n] z of the two items; larger is better, the most important
        factor comes first.
      margins: [n] delta >= 0, see `factor_margins`; inf switches a factor off.
    Returns:
      [*B] int32: 1 if the first is preferred, -1 for the other, 0 if undecided (leave it out of a
      loss).
    Reference: Bukharin et al. 2023, arXiv:2309.02632 (HERON).
    """
    gaps = _clear_gaps(factors, other_factors, margins)
    level = jnp.argmax(gaps != 0, axis=-1)[..., None]
    first = jnp.take_along_axis(gaps, level, axis=-1)[..., 0]
    return jnp.where(jnp.isnan(first), 0.0, jnp.sign(first)).astype(jnp.int32)


def noisy_tree_prefs(
    verdicts: Int[Array, "*B"], *, beta: Scalar = jnp.inf, mistake_rate: Scalar = 0.0
) -> Float[Array, "*B"]:
    """P(item 1 beats item 0) of a teacher who follows the tree with noise.

    P = (1 - 2 eps) sigmoid(-beta verdict) + eps: Bradley-Terry on the verdict, then mistakes; 1/2
    where the tree is undecided. For draws and likelihoods use `teachers.pref_labels` and
    `comparisons.pref_loglik`.

    Args:
      verdicts: [*B] `lexicographic_prefs` of items 0 and 1, in this order.
      beta: rationality >= 0, inf allowed. May be traced.
      mistake_rate: eps in [0, 1/2]. May be traced.
    Returns:
      [*B] float32 in [0, 1].
    Departs: labels in HERON have no noise.
    """
    check_ids(verdicts=verdicts)
    check_range("[0, inf]", beta=beta)
    check_range("[0, 1/2]", mistake_rate=mistake_rate)
    margins = jnp.where(verdicts == 0, 0.0, -beta * jnp.where(verdicts == 0, 1, verdicts))
    prefs = (1 - 2 * mistake_rate) * jax.nn.sigmoid(margins) + mistake_rate
    return prefs.astype(jnp.float32)


def _clear_gaps(factors: Array, other_factors: Array, margins: Array) -> Array:
    """[*B, n] z - z', 0 within its margin, NaN if a factor or margin is NaN."""
    chex.assert_equal_shape([factors, other_factors])
    chex.assert_shape(margins, factors.shape[-1:])
    # Equal infinities tie; their difference is NaN.
    gaps = jnp.where(factors == other_factors, 0.0, factors - other_factors)
    within = (jnp.abs(gaps) <= margins) | jnp.isposinf(margins)
    return jnp.where(within, 0.0, gaps + 0.0 * margins)
