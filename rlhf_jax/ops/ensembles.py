"""One score out of several: combinations of the members of an ensemble of reward models.

Members come first: scores [N, *B] of R_i give one score [*B] per answer. The members must share a
zero and a unit (`standardised_scores`), or the combination only picks the member with the lowest
zero. Nothing here stops gradients: freeze the ensemble during training.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range
from rlhf_jax.types import Scalar


class MemberScale(NamedTuple):
    """Zero and unit of each member. mean, std: [N] of its scores of one set of answers."""

    mean: Float[Array, " N"]
    std: Float[Array, " N"]


def member_scale(scores: Float[Array, "N *M"]) -> MemberScale:
    """Mean and standard deviation (population) of each member over reference answers.

    Args:
      scores: [N, *M] of the same answers for all members, e.g. samples of the SFT policy.
    Raises:
      ValueError: a member scores all answers alike; traced scores give NaN there.
    """
    flat = scores.reshape(scores.shape[0], -1)
    # Not std > 0: the rounding of a mean of equal numbers is no spread.
    spread = jnp.max(flat, axis=-1) > jnp.min(flat, axis=-1)
    if not isinstance(spread, Tracer) and not spread.all():
        raise ValueError(
            f"member {int(jnp.argmin(spread))} of {len(flat)} scores all {flat.shape[1]} reference "
            "answers alike, so its scores have no unit: train it longer, or leave it out"
        )
    std = jnp.std(flat, axis=-1)
    return MemberScale(jnp.mean(flat, axis=-1), jnp.where(spread, std, jnp.nan))


def standardised_scores(scores: Float[Array, "N *B"], scale: MemberScale) -> Float[Array, "N *B"]:
    """Scores of all members with one zero and one unit.

    R_i' = (R_i - mean_i) / std_i.

    Needs: scores of several reward models.
    Reduces to: the scores themselves at mean = 0, std = 1.
    Reference: the official code of Coste et al. 2023, arXiv:2310.02743, where it is commented out.
    """
    chex.assert_shape([scale.mean, scale.std], scores.shape[:1])
    mean, std = (x.reshape(-1, *[1] * (scores.ndim - 1)) for x in scale)
    return (scores - mean) / std


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


def member_variances(scores: Float[Array, "N *B"]) -> Float[Array, "*B"]:
    """Disagreement of the members.

    v = (1/N) sum_i (R_i - R_mu)^2,   the number to log beside a combined score.

    Needs: scores of several reward models.
    Reduces to: (`mean_scores` - `uncertainty_penalised_scores`) / penalty.
    Reference: Coste et al. 2023, arXiv:2310.02743, Eq. 5 and Fig. 10.
    """
    return jnp.var(scores, axis=0)


def error_correlation(
    scores: Float[Array, "N B"], gold_scores: Float[Array, " B"]
) -> Float[Array, "N N"]:
    """Correlation of the members' errors.

    C_ij = corr(e_i, e_j),   e_i = the residual of R_i after its least-squares line in the gold.

    What all members get wrong together, no combination can see. It is the partial correlation given
    the gold score: zero and unit of members and gold do not matter.
    Errors with correlation rho leave a mean over N members a share (1 + (N - 1) rho) / N of the
    variance of one member's error. NaN in the row of a member that is a line in the gold.

    Args:
      scores: [N, B] of B answers. Centre them within each prompt where prompts differ.
      gold_scores: [B], not all alike.
    Returns:
      [N, N] in [-1, 1], 1 on the diagonal.
    Needs: scores of several reward models, gold scores.
    Reference: partial correlation, Yule 1907, "On the theory of correlation for any number of
      variables".
    """
    chex.assert_shape(gold_scores, scores.shape[1:])
    gold = gold_scores - jnp.mean(gold_scores)
    centred = scores - jnp.mean(scores, axis=1, keepdims=True)
    errors = centred - jnp.outer(centred @ gold / (gold @ gold), gold)
    products = errors @ errors.T
    norms = jnp.sqrt(jnp.diagonal(products))
    return products / jnp.outer(norms, norms)


def mean_off_diagonal(matrix: Float[Array, "N N"]) -> Float[Array, ""]:
    """Mean of the N (N - 1) entries beside the diagonal; NaN for N = 1."""
    size = matrix.shape[0]
    return (jnp.sum(matrix) - jnp.trace(matrix)) / (size * (size - 1))


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
