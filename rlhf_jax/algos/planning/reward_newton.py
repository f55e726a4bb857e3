"""Rewards that are linear in their params, fitted to comparisons to machine precision by Newton."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.newton import Minimum, newton_minimum
from rlhf_jax.types import Scalar


def fit_rewards(
    chosen: Float[Array, "B d"],
    rejected: Float[Array, "B d"],
    weights: Float[Array, " B"] | None = None,
    *,
    beta: Scalar,
    ridge: Scalar,
) -> Minimum:
    """argmin_w sum_i c_i -log sigmoid(beta <w, x_i - y_i>) + ridge / 2 |w|^2.

    c are the weights; minimised by `newton_minimum`.

    Args:
      chosen, rejected: [B, d] features of the preferred and of the other trajectory; sums of
        one-hots of (h, s, a) make the reward a table.
      weights: [B] >= 0 of each pair; None means 1.
      beta: inverse temperature of the teacher, in 1 / reward.
      ridge: > 0; makes the optimum exist and unique.
    Reference: the reward model of Tiapkin et al. 2023, arXiv:2310.17303.
    Departs: a ridge instead of the constraint that rewards lie in [0, 1].
    """

    def objective(params: Array) -> Array:
        losses = bradley_terry_loss(beta * (chosen @ params), beta * (rejected @ params))
        weighted = losses if weights is None else weights * losses
        return jnp.sum(weighted) + 0.5 * ridge * jnp.sum(params**2)

    return newton_minimum(objective, jnp.zeros_like(chosen[0]))
