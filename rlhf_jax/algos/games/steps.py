"""The steps that solve preference games: maps of log-probabilities, given the win rates.

S(l; u) = log_softmax((1 - eta beta) l + eta beta log mu + eta u)
"""

from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rlhf_jax.checks import check_range
from rlhf_jax.types import Scalar

Schedule = Callable[[Any], Any]  # (t, the number of updates made) -> Scalar
SLACK = 1e-6  # what single precision may add to eta beta = 1


def mirror_step(
    logps: Float[Array, "*B n"],
    ref_logps: Float[Array, "*B n"],
    win_rates: Float[Array, "*B n"],
    *,
    eta: Scalar,
    beta: Scalar,
) -> Float[Array, "*B n"]:
    """Mirror step on the KL-regularised preference game, the one primitive.

    l+ = log_softmax((1 - eta beta) l + eta beta log mu + eta u), which maximises
    E_pi[u] - beta KL(pi || mu) - (1 / eta - beta) KL(pi || exp l).

    Args:
      logps: [*B, n] l, log-probs or logits, in nats. An answer of -inf stays out for ever.
      ref_logps: [*B, n] log mu; never matters at beta = 0.
      win_rates: [*B, n] u(y) = P(y > opponent); a constant added to it changes nothing.
      eta: step >= 0; INPO's 1 / eta, Nash-MP's eta / (beta (1 + eta)). May be traced.
      beta: KL weight >= 0, eta beta <= 1; tau in Nash-MD and INPO. May be traced.
    Returns:
      [*B, n] log-probs.
    Raises:
      AssertionError: shapes differ (at trace time).
      ValueError: eta or beta < 0, or eta beta > 1, where they are known numbers.
    """
    chex.assert_equal_shape([logps, ref_logps, win_rates])
    check_step(eta, beta)
    weight = eta * beta
    kept = scaled(1.0 - weight, logps) + scaled(weight, ref_logps)
    return jax.nn.log_softmax(kept + eta * win_rates, axis=-1)


def softmax_gradient_step(
    logps: Float[Array, "*B n"],
    ref_logps: Float[Array, "*B n"],
    win_rates: Float[Array, "*B n"],
    *,
    eta: Scalar,
    beta: Scalar,
) -> Float[Array, "*B n"]:
    """Policy gradient step on the logits of a table, the opponent held fixed.

    l+ = log_softmax(l + eta pi (a - pi^T a)),   a = u - beta (l - log mu).

    Args:
      logps, ref_logps, win_rates: [*B, n] as in `mirror_step`; an answer of -inf never moves.
      eta: step >= 0, the rate of plain gradient ascent; any size.
      beta: KL weight >= 0.
    Returns:
      [*B, n] log-probs.
    Raises:
      AssertionError: shapes differ (at trace time).
    """
    chex.assert_equal_shape([logps, ref_logps, win_rates])
    possible = jnp.isfinite(logps)
    log_ratios = jnp.where(possible, logps - ref_logps, 0.0)
    advantages = win_rates - scaled(beta, log_ratios)
    probs = jnp.exp(logps)
    centred = advantages - jnp.sum(probs * advantages, axis=-1, keepdims=True)
    return jax.nn.log_softmax(logps + eta * probs * centred, axis=-1)


def decaying_steps(beta: Scalar) -> Schedule:
    """eta_t = 2 / (beta (t + 2)), the steps of Nash-MD's and INPO's 1 / T rates; eta_0 beta = 1."""
    return lambda step: 2.0 / (beta * (step + 2))


def check_step(eta: Scalar | Schedule, beta: Scalar) -> None:
    """ValueError unless eta >= 0, beta >= 0 and eta beta <= 1; traced numbers pass unseen."""
    step = at_step(eta, 0)
    check_range("[0, inf)", eta=step, beta=beta)
    check_range(f"[0, {1 + SLACK}]", **{"eta * beta": step * beta})


def check_weights(weights: Float[Array, "K"] | Sequence[float]) -> Float[Array, "K"]:
    """As an array; ValueError where they are known and no distribution."""
    try:
        known = np.asarray(weights)
    except jax.errors.TracerArrayConversionError:
        return jnp.asarray(weights)
    if known.size == 0 or not (np.all(known >= 0) and abs(known.sum() - 1) <= SLACK):
        raise ValueError(f"history_weights must be >= 0 and sum to 1, got {known}")
    return jnp.asarray(weights)


def at_step(value: Scalar | Schedule, step: Int[Array, ""] | int) -> Any:
    """The number, or its schedule's at this step."""
    return value(step) if callable(value) else value


def scaled(weight: Scalar | Array, logps: Array) -> Array:
    """weight * logps, broadcast, and 0 where the weight is 0, log-probs of -inf included."""
    return jnp.where(jnp.asarray(weight) != 0, weight * logps, 0.0)
