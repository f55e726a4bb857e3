"""Losses of reward models for users who differ: one loss per user, over all of its comparisons.

Shared arguments and results:
  chosen_scores, rejected_scores: [*B, N] s_w and s_l of each comparison of a user.
  mask: [*B, N] True where a comparison is real; values under False never matter, NaN included.
Losses are [*B], unreduced, in nats; 0 for a user without comparisons, which is padding.
"""

import chex
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.checks import check_mask, check_range
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.masking import masked_sum
from rlhf_jax.types import Scalar


def vpl_loss(
    chosen_scores: Float[Array, "*B N"],
    rejected_scores: Float[Array, "*B N"],
    kl: Float[Array, "*B"],
    mask: Bool[Array, "*B N"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """Variational preference learning (VPL): minus the evidence lower bound of a user.

    L = -sum_n log sigmoid(s_w - s_l) + beta KL(q(z | context) || p(z)),   z ~ q.

    The comparisons are summed, not averaged: with their mean, the same model is fitted at beta / N.

    Args:
      kl: [*B] KL from the user's posterior to the prior, of `ops.gaussians`.
      beta: weight of the KL, >= 0; 1 is the bound itself.
    Needs: scored pairs by user, a posterior.
    Reduces to: the sum of `bradley_terry_loss` at beta = 0.
    Reference: Poddar et al. 2024, arXiv:2408.10075; their code for control sums as here, without
      the factor 1/2 of the KL, that for language models takes means.
    """
    check_range("[0, inf)", beta=beta)
    check_mask(mask=mask)
    chex.assert_equal_shape([chosen_scores, rejected_scores, mask])
    chex.assert_equal_shape([kl, mask[..., 0]])
    # Masked before the loss: the gradient of a NaN would be NaN.
    chosen, rejected = (jnp.where(mask, x, 0.0) for x in (chosen_scores, rejected_scores))
    fits = masked_sum(bradley_terry_loss(chosen, rejected), mask, axis=-1)
    return jnp.where(jnp.any(mask, axis=-1), fits + beta * kl, 0.0)
