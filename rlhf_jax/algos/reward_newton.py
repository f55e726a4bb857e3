"""Rewards that are linear in their params, fitted to comparisons to the last digit by Newton."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.linear_systems import solve

Scalar = float | int | Float[Array, ""]
HALVINGS = 12  # of a step: 1 down to 2^-11


class Fit(NamedTuple):
    """params: [d]; residual: largest entry of the gradient at them, the certificate."""

    params: Array
    residual: Array


def fit_rewards(
    chosen: Float[Array, "B d"],
    rejected: Float[Array, "B d"],
    weights: Float[Array, " B"] | None = None,
    *,
    beta: Scalar,
    ridge: Scalar,
    steps: int = 25,
) -> Fit:
    """argmin_w sum_i c_i -log sigmoid(beta <w, x_i - y_i>) + ridge / 2 |w|^2.

    c are the weights. Damped Newton: of the steps 1, 1/2, 1/4, ... the one that lowers the
    objective most.

    Args:
      chosen, rejected: [B, d] features of the preferred trajectory and of the other one; summed
        one-hots of (h, s, a) make the reward a table.
      weights: [B] >= 0 of each pair; None means 1 for each.
      beta: how sharply the teacher compares, in 1 / reward; `bradley_terry_loss` at beta times the
        scores.
      ridge: > 0; makes the optimum exist and be one.
      steps: of Newton.
    Returns:
      Fit.
    Raises:
      AssertionError: shapes differ (at trace time).
    Reference: the reward model of Tiapkin et al. 2023, arXiv:2310.17303.
    Departs: ridge in the place of the box [0, 1] for rewards.
    """

    def objective(params: Array) -> Array:
        losses = bradley_terry_loss(beta * (chosen @ params), beta * (rejected @ params))
        weighted = losses if weights is None else weights * losses
        return jnp.sum(weighted) + 0.5 * ridge * jnp.sum(params**2)

    sizes = 0.5 ** jnp.arange(HALVINGS)

    def step(params: Array, _) -> tuple[Array, None]:
        grads = jax.grad(objective)(params)
        direction = solve(jax.hessian(objective)(params), grads[:, None])[:, 0]
        tried = params - sizes[:, None] * direction
        best = jnp.argmin(jax.vmap(objective)(tried))
        # Near the optimum rounding decides between steps; a whole one is right there.
        better = objective(tried[best]) < objective(params)
        return jnp.where(better, tried[best], tried[0]), None

    params, _ = jax.lax.scan(step, jnp.zeros_like(chosen[0]), None, length=steps)
    return Fit(params, jnp.max(jnp.abs(jax.grad(objective)(params))))
