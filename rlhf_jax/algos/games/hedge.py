"""Hedge: mirror descent against oneself without a pull to a reference, and its regret bound."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.algos.games.methods import Method, mirror_descent
from rlhf_jax.types import Scalar

Numbers = float | int | Float[Array, "..."] | np.ndarray


def hedge(logps: Float[Array, "*B n"], *, eta: Scalar) -> Method:
    """l+ = log_softmax(l + eta P pi_t): `mirror_descent` at beta = 0; logps only set the shape."""
    return mirror_descent(logps, eta=eta, beta=0.0)


def hedge_step(num_answers: Scalar, updates: Numbers) -> Float[Array, "..."]:
    """sqrt(8 log n / T), the step that minimises `hedge_bound` for T updates from uniform.

    Reference: Cesa-Bianchi and Lugosi 2006, "Prediction, learning, and games", Theorem 2.2.
    """
    return jnp.sqrt(8.0 * jnp.log(num_answers) / updates)


def hedge_bound(rarest: Numbers, *, eta: Numbers, updates: Numbers) -> Numbers:
    """2 (log(1 / min_y pi_1(y)) / (eta T) + eta / 8) >= exploitability of the average policy.

    Twice the regret over T, as both players are the same. NumPy or JAX arrays, which broadcast.

    Args:
      rarest: min_y log pi_1(y), over the answers that the start has.
      eta: constant step.
      updates: T.
    Reference: Cesa-Bianchi and Lugosi 2006, Theorem 2.2; Freund and Schapire 1999, "Adaptive game
      playing using multiplicative weights".
    """
    return 2.0 * (-rarest / (eta * updates) + eta / 8.0)
