"""Minima of smooth convex functions by damped Newton, to the limit of rounding."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.ops.linear_systems import solve

HALVINGS = 30  # of a step: 1 down to 2^-29


class Minimum(NamedTuple):
    """params: [d]; residual: largest entry of the gradient at params, the certificate."""

    params: Array
    residual: Array


def newton_minimum(
    objective: Callable[[Float[Array, " d"]], Float[Array, ""]], start: Float[Array, " d"]
) -> Minimum:
    """argmin of a strictly convex function: x <- x - s H^-1 g, s the best of 1, 1/2, 1/4, ...

    Stops when neither the objective nor the decrement g^T H^-1 g falls below its lowest value so
    far, and returns the last point where one of them did. No reverse-mode derivative.

    Args:
      objective: [d] -> [], with a positive definite Hessian.
      start: [d].
    """
    sizes = 0.5 ** jnp.arange(HALVINGS)

    def step(carry):
        best, params, lowest, least, _ = carry
        value, grads = jax.value_and_grad(objective)(params)
        direction = solve(jax.hessian(objective)(params), grads[:, None])[:, 0]
        decrement = grads @ direction
        tried = params - sizes[:, None] * direction
        values = jax.vmap(objective)(tried)
        size = jnp.argmin(values)
        # Near the minimum rounding decides between steps; a whole one is right there.
        moved = jnp.where(values[size] < value, tried[size], tried[0])
        lower = (value < lowest) | (decrement < least)
        records = jnp.minimum(lowest, value), jnp.minimum(least, decrement)
        return jnp.where(lower, params, best), moved, *records, lower

    unknown = jnp.full((), jnp.inf, start.dtype)
    carry = start, start, unknown, unknown, jnp.array(True)
    params = jax.lax.while_loop(lambda carry: carry[-1], step, carry)[0]
    return Minimum(params, jnp.max(jnp.abs(jax.grad(objective)(params))))
