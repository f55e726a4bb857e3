"""Losses for reward models: scores in, one loss per comparison out."""

import chex
import jax
from jaxtyping import Array, Float


def bradley_terry_loss(
    chosen_scores: Float[Array, "*B"], rejected_scores: Float[Array, "*B"]
) -> Float[Array, "*B"]:
    """Negative log-likelihood of a comparison under the Bradley-Terry model.

    L = -log sigmoid(s_w - s_l) = softplus(-(s_w - s_l)).

    Args:
      chosen_scores: [*B] s_w, score of the preferred answer, any real.
      rejected_scores: [*B] s_l, score of the other answer.
    Returns:
      [*B] losses in nats, unreduced, >= 0. Finite where s_w - s_l is.
    Raises:
      AssertionError: shapes differ (at trace time).
    Reference: Bradley and Terry 1952; as a reward-model loss, Ouyang et al. 2022,
      arXiv:2203.02155, Eq. 1.
    """
    chex.assert_equal_shape([chosen_scores, rejected_scores])
    return jax.nn.softplus(rejected_scores - chosen_scores)
