"""A Bradley-Terry model of a matrix of wins, one score for each answer."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.losses.reward import bradley_terry_loss


def win_matrix_loss(scores: Float[Array, " n"], wins: Float[Array, "n n"]) -> Float[Array, ""]:
    """sum_ab W_ab (-log sigmoid(r_a - r_b)), with W_ab how often a beat b, counts or chances."""
    first, second = jnp.broadcast_arrays(scores[:, None], scores[None, :])
    return jnp.sum(wins * bradley_terry_loss(first, second))


def fit_win_matrix(wins: Float[Array, "n n"], *, steps: int = 20) -> Float[Array, " n"]:
    """argmin_r `win_matrix_loss`, of mean 0, by Newton steps from 0.

    Args:
      wins: [n, n] >= 0. The fit is finite if no group of answers wins every comparison with the
        others.
      steps: of Newton; the default reaches rounding from wins that are not extreme.
    """

    def step(_, scores: Array) -> Array:
        # A common shift of the scores changes nothing; the ones fix it.
        curvature = jax.hessian(win_matrix_loss)(scores, wins) + 1.0
        return scores - jnp.linalg.solve(curvature, jax.grad(win_matrix_loss)(scores, wins))

    return jax.lax.fori_loop(0, steps, step, jnp.zeros(wins.shape[-1], wins.dtype))
