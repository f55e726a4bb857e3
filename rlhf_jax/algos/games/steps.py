"""The steps of preference-game methods: maps from log-probabilities and win rates to new ones.

S(l; u) = log_softmax((1 - eta beta) l + eta beta log mu + eta u)
"""

from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rlhf_jax.algos.games.many import log_softmax_of
from rlhf_jax.checks import check_range
from rlhf_jax.types import Scalar

Schedule = Callable[[Any], Any]  # number t of updates made -> Scalar
SLACK = 1e-6  # rounding in single precision may lift eta * beta = 1 by this much


def mirror_step(
    logps: Float[Array, "*B n"],
    ref_logps: Float[Array, "*B n"],
    win_rates: Float[Array, "*B n"],
    *,
    eta: Scalar,
    beta: Scalar,
) -> Float[Array, "*B n"]:
    """Mirror step on the KL-regularised preference game.

    l+ = log_softmax((1 - eta beta) l + eta beta log mu + eta u), which maximises
    E_pi[u] - beta KL(pi || mu) - (1 / eta - beta) KL(pi || exp l).

    Args:
      logps: [*B, n] l, log-probs or logits, in nats. An answer at -inf stays at -inf.
      ref_logps: [*B, n] log mu; not used at beta = 0.
      win_rates: [*B, n] u(y) = P(y > opponent), up to an additive constant.
      eta: step size >= 0; 1 / eta in INPO, eta / (beta (1 + eta)) in Nash-MP. May be traced.
      beta: KL weight >= 0 with eta beta <= 1; tau in Nash-MD and INPO. May be traced.
    Returns:
      [*B, n] log-probs.
    Raises:
      ValueError: eta or beta < 0, or eta beta > 1; traced numbers are not checked.
    """
    chex.assert_equal_shape([logps, ref_logps, win_rates])
    check_step(eta, beta)
    weight = eta * beta

    def logits(logps: Array, ref_logps: Array, win_rates: Array) -> Array:
        return scaled(1.0 - weight, logps) + scaled(weight, ref_logps) + eta * win_rates

    return log_softmax_of(logits, logps, ref_logps, win_rates)


def softmax_gradient_step(
    logps: Float[Array, "*B n"],
    ref_logps: Float[Array, "*B n"],
    win_rates: Float[Array, "*B n"],
    *,
    eta: Scalar,
    beta: Scalar,
) -> Float[Array, "*B n"]:
    """Policy gradient step on the logits of a table, against a fixed opponent.

    l+ = log_softmax(l + eta pi (a - pi^T a)),   a = u - beta (l - log mu).

    Args:
      logps, ref_logps, win_rates: [*B, n] as in `mirror_step`; an answer at -inf stays at -inf.
      eta: learning rate of gradient ascent, >= 0, without an upper limit.
      beta: KL weight >= 0.
    Returns:
      [*B, n] log-probs.
    """
    chex.assert_equal_shape([logps, ref_logps, win_rates])
    # -inf minus -inf is NaN, and stays NaN when multiplied by a probability of 0.
    possible = jnp.isfinite(logps)
    log_ratios = jnp.where(possible, logps - ref_logps, 0.0)
    advantages = win_rates - scaled(beta, log_ratios)
    probs = jnp.exp(logps)
    centred = advantages - jnp.sum(probs * advantages, axis=-1, keepdims=True)
    return jax.nn.log_softmax(logps + eta * probs * centred, axis=-1)


def decaying_steps(beta: Scalar) -> Schedule:
    """eta_t = 2 / (beta (t + 2)), for the 1 / T rates of Nash-MD and INPO; eta_0 beta = 1."""
    return lambda step: 2.0 / (beta * (step + 2))


def check_step(eta: Scalar | Schedule, beta: Scalar) -> None:
    """ValueError unless eta >= 0, beta >= 0 and eta beta <= 1; traced numbers are not checked."""
    step = at_step(eta, 0)
    check_range("[0, inf)", eta=step, beta=beta)
    check_range(f"[0, {1 + SLACK}]", **{"eta * beta": step * beta})


def check_weights(weights: Float[Array, "K"] | Sequence[float]) -> Float[Array, "K"]:
    """The weights as an array; ValueError if they are not a distribution (unless traced)."""
    try:
        known = np.asarray(weights)
    except jax.errors.TracerArrayConversionError:
        return jnp.asarray(weights)
    if known.size == 0 or not (np.all(known >= 0) and abs(known.sum() - 1) <= SLACK):
        raise ValueError(f"history_weights must be >= 0 and sum to 1, got {known}")
    return jnp.asarray(weights)


def at_step(value: Scalar | Schedule, step: Int[Array, ""] | int) -> Any:
    """The number, or the value of the schedule at this step."""
    return value(step) if callable(value) else value


def scaled(weight: Scalar | Array, logps: Array) -> Array:
    """weight * logps, broadcast; 0 where the weight is 0, even at log-probs of -inf."""
    return jnp.where(jnp.asarray(weight) != 0, weight * logps, 0.0)
