"""One score out of several: combinations of the members of an ensemble of reward models.

Members come first: scores [N, *B] of R_i give one score [*B] per answer. The members must share a
zero and a unit (centre and scale each one on the same answers), or the combination only picks the
member with the lowest zero. Nothing here stops gradients: freeze the ensemble during training.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range
from rlhf_jax.types import Scalar


def mean_scores(scores: Float[Array, "N *B"]) -> Float[Array, "*B"]:
    """Ensemble mean.

    R = (1/N) sum_i R_i.

    Needs: scores of several reward models.
    Reduces to: the single score where all members agree.
    Reference: Coste et al. 2023, arXiv:2310.02743, Eq. 3.
    """
    return jnp.mean(scores, axis=0)


def worst_case_scores(scores: Float[Array, "N *B"]) -> Float[Array, "*B"]:
    """Worst-case optimisation (WCO).

    R = min_i R_i.

    Never above `mean_scores`. Members that tie share the gradient.

    Needs: scores of several reward models.
    Reduces to: the single score where all members agree.
    Reference: Coste et al. 2023, arXiv:2310.02743, Eq. 4.
    """
    return jnp.min(scores, axis=0)


def uncertainty_penalised_scores(
    scores: Float[Array, "N *B"], *, penalty: Scalar
) -> Float[Array, "*B"]:
    """Uncertainty-weighted optimisation (UWO).

    R = R_mu - lambda (1/N) sum_i (R_i - R_mu)^2,   R_mu = (1/N) sum_i R_i.

    The variance is that of the population, divided by N; the unit of lambda is 1 / score.

    Args:
      penalty: lambda, >= 0. May be traced.
    Needs: scores of several reward models.
    Reduces to: `mean_scores` at penalty = 0.
    Reference: Coste et al. 2023, arXiv:2310.02743, Eq. 5.
    """
    check_range("[0, inf)", penalty=penalty)
    return jnp.mean(scores, axis=0) - penalty * jnp.var(scores, axis=0)


class Strengths(NamedTuple):
    """means: mu [*B], how far the chosen answer is ahead; stds [*B], how much members differ."""

    means: Float[Array, "*B"]
    stds: Float[Array, "*B"]


def preference_strengths(
    chosen_scores: Float[Array, "N *B"], rejected_scores: Float[Array, "N *B"]
) -> Strengths:
    """Preference strength of a pair, by the vote of an ensemble.

    d_i = R_i(y_w) - R_i(y_l);   mu = (1/N) sum_i d_i,   sd = sqrt( (1/N) sum_i (d_i - mu)^2 ).

    mu < 0 where the members find the label wrong. A constant of one member drops out. Members are
    trained briefly on the same pairs: those that have memorised a wrong label no longer see it.

    Returns:
      `Strengths`, constants: no gradient.
    Needs: scores of both answers by several reward models.
    Reference: Wang et al. 2024, arXiv:2401.06080, Eq. 4.
    """
    chex.assert_equal_shape([chosen_scores, rejected_scores])
    gaps = jax.lax.stop_gradient(chosen_scores - rejected_scores)
    return Strengths(jnp.mean(gaps, axis=0), jnp.std(gaps, axis=0))
