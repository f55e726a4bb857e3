"""A teacher that ranks factors instead of weighing them: comparisons by a decision tree."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlhf_jax.checks import check_entries, check_ids, check_range
from rlhf_jax.types import Scalar


def factor_margins(
    factors: Float[Array, "N n"], multipliers: Scalar | Float[Array, " n"]
) -> Float[Array, " n"]:
    """delta_l = sigma_l * std(z_l), over the N items at hand.

    Margins in these units are what makes labels free of the scales of the factors.

    Args:
      factors: [N, n] z.
      multipliers: sigma >= 0, one or [n]. 0: the smallest gap decides; inf: no gap does.
    Reference: Bukharin et al. 2023, arXiv:2309.02632 (HERON).
    """
    check_entries("[0, inf]", multipliers=multipliers)
    spread = jnp.std(factors, axis=0)
    # inf times the std 0 of a factor that never changes would be NaN.
    return jnp.where(jnp.isinf(multipliers), jnp.inf, multipliers * spread)


def deciding_levels(
    factors: Float[Array, "*B n"], other_factors: Float[Array, "*B n"], margins: Float[Array, " n"]
) -> Int[Array, "*B"]:
    """The first level whose gap exceeds its margin or is NaN, 0 for the most important; n if none.

    Args:
      factors, other_factors, margins: as in `lexicographic_prefs`.
    Raises:
      AssertionError: shapes differ (at trace time).
    Reference: Bukharin et al. 2023, arXiv:2309.02632 (HERON).
    """
    clear = _clear_gaps(factors, other_factors, margins) != 0  # NaN != 0
    last = jnp.full((), clear.shape[-1], jnp.int32)
    return jnp.where(clear.any(-1), jnp.argmax(clear, axis=-1).astype(jnp.int32), last)


def lexicographic_prefs(
    factors: Float[Array, "*B n"], other_factors: Float[Array, "*B n"], margins: Float[Array, " n"]
) -> Int[Array, "*B"]:
    """The decision tree: factors are compared in order of importance until a gap is clear.

    pref = sign(z_l - z'_l) at the first l with |z_l - z'_l| > delta_l; 0 where there is none, and
    where NaN, in a factor or its margin, comes first: less important factors don't decide then.

    Antisymmetric in the two items. With margins it is not transitive: being too close to call
    isn't.

    Args:
      factors, other_factors: [*B, n] z of the two items, larger is better, the most important
        first.
      margins: [n] delta >= 0, see `factor_margins`; inf switches a factor off.
    Returns:
      [*B] int32: 1 first preferred, -1 the other one, 0 undecided (to be left out of a loss).
    Raises:
      AssertionError: shapes differ (at trace time).
    Reference: Bukharin et al. 2023, arXiv:2309.02632 (HERON).
    """
    gaps = _clear_gaps(factors, other_factors, margins)
    level = jnp.argmax(gaps != 0, axis=-1)[..., None]
    first = jnp.take_along_axis(gaps, level, axis=-1)[..., 0]
    return jnp.where(jnp.isnan(first), 0.0, jnp.sign(first)).astype(jnp.int32)


def noisy_tree_prefs(
    verdicts: Int[Array, "*B"], *, beta: Scalar = jnp.inf, mistake_rate: Scalar = 0.0
) -> Float[Array, "*B"]:
    """P(item 1 beats item 0) of a teacher who follows the tree, but for noise.

    P = (1 - 2 eps) sigmoid(-beta verdict) + eps: Bradley-Terry on the verdict and then the mistake
    teacher, so that a coin is thrown where the tree is undecided. Draws and likelihoods are those
    of every teacher of pairs, `teachers.pref_labels` and `comparisons.pref_loglik`.

    Args:
      verdicts: [*B] `lexicographic_prefs` of items 0 and 1, in this order.
      beta: rationality >= 0, inf allowed. May be traced.
      mistake_rate: eps in [0, 1/2]. May be traced.
    Returns:
      [*B] float32 in [0, 1].
    Departs: HERON's labels have no noise; this is the usual one on top of them.
    """
    check_ids(verdicts=verdicts)
    check_range("[0, inf]", beta=beta)
    check_range("[0, 1/2]", mistake_rate=mistake_rate)
    margins = jnp.where(verdicts == 0, 0.0, -beta * jnp.where(verdicts == 0, 1, verdicts))
    prefs = (1 - 2 * mistake_rate) * jax.nn.sigmoid(margins) + mistake_rate
    return prefs.astype(jnp.float32)


def _clear_gaps(factors: Array, other_factors: Array, margins: Array) -> Array:
    """[*B, n] z - z', 0 where it is within its margin, NaN where that is not known."""
    chex.assert_equal_shape([factors, other_factors])
    chex.assert_shape(margins, factors.shape[-1:])
    # Equal infinities tie; their difference is NaN.
    gaps = jnp.where(factors == other_factors, 0.0, factors - other_factors)
    within = (jnp.abs(gaps) <= margins) | jnp.isposinf(margins)
    return jnp.where(within, 0.0, gaps + 0.0 * margins)
