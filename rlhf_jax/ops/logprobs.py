"""Log-probabilities of actions, and their sums over a completion.

All log-probs are in nats, float32 or wider whatever the dtype of the logits. A logit of -inf
forbids an action. Unequal shapes raise AssertionError at trace time.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.checks import check_range, entries
from rlhf_jax.ops.masking import masked_mean, masked_sum
from rlhf_jax.types import Scalar

MAX_LOG_RATIO = 40.0  # exp of it, squared and times a weight, still fits float32


def token_logps(
    logits: Float[Array, "*B T A"], actions: Int[Array, "*B T"]
) -> Float[Array, "*B T"]:
    """Log-probability of each action.

    log pi(a_t) = logits[t, a_t] - logsumexp(logits[t]).

    Args:
      logits: [*B, T, A] unnormalised.
      actions: [*B, T] integers in [0, A). Any other integer gives NaN, without gradient; another
        dtype raises TypeError at trace time.
    Returns:
      [*B, T] float32, <= 0.
    """
    chex.assert_equal_shape_prefix([logits, actions], actions.ndim)
    logits = logits.astype(jnp.float32)
    # Subtracting the peak first keeps the digits that a common offset of the logits would cost.
    logits = logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    return entries(logits, actions=actions) - jax.nn.logsumexp(logits, axis=-1)


def sequence_logps(
    token_logps: Float[Array, "*B T"], mask: Bool[Array, "*B T"]
) -> Float[Array, "*B"]:
    """Masked sum over T: log pi(y | x) = sum_t m_t log pi(y_t | x, y_<t).

    Values under a False of the mask never matter, NaN included.
    """
    return masked_sum(token_logps, mask, axis=-1)


def mean_logps(token_logps: Float[Array, "*B T"], mask: Bool[Array, "*B T"]) -> Float[Array, "*B"]:
    """Masked mean over T, log pi(y | x) / |y|; 0 for a row without counted steps."""
    return masked_mean(token_logps, mask, axis=-1)


def ratios(logps: Float[Array, "*S"], old_logps: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Probability ratio of two policies on the same sample: exp(log pi - log pi_old).

    The log-probs are of one step or of a whole sequence. The exponent stops at 40, where the
    gradient becomes 0: loss and gradient stay finite for a policy that has diverged.
    """
    chex.assert_equal_shape([logps, old_logps])
    return jnp.exp(jnp.minimum(logps - old_logps, MAX_LOG_RATIO))


def log1mexp(x: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """log(1 - exp(x)) for x < 0: the log-probability of the complement, e.g. in log-odds.

    log(-expm1(x)) above -log 2 and log1p(-exp(x)) below it, each where it keeps its digits.

    Args:
      x: [*S] log-probabilities, < 0.
    Returns:
      [*S] <= 0. x >= 0, which has no finite value, counts as the largest normal number below 0 of
      its dtype (float32: log 1.2e-38 = -87.3) and has gradient 0.
    """
    below = -float(jnp.finfo(x.dtype).tiny)
    x = jnp.where(x < below, x, below)
    near = x > -jnp.log(2.0)
    # Each branch gets a harmless input where the other one is taken: no NaN in a gradient. See
    # https://cran.r-project.org/web/packages/Rmpfr/vignettes/log1mexp-note.pdf for the two forms.
    close = jnp.log(-jnp.expm1(jnp.where(near, x, -1.0)))
    far = jnp.log1p(-jnp.exp(jnp.where(near, -1.0, x)))
    return jnp.where(near, close, far)


def above_underflow(x: Scalar, dtype: Any) -> Float[Array, ""]:
    """x > 0, at least the smallest normal number of the dtype: XLA flushes smaller ones to 0."""
    return jnp.maximum(x, jnp.finfo(dtype).tiny)


def tempered(logits: Float[Array, "*B A"], *, temperature: Scalar) -> Float[Array, "*B A"]:
    """(logits - max_a logits) / temperature: the input of a softmax at that temperature.

    The largest becomes 0 and nothing overflows, so temperature -> 0 gives the point mass on it.
    Without the shift, logits / temperature would be infinite and its softmax NaN.

    Args:
      logits: [*B, A].
      temperature: > 0. May be traced.
    Returns:
      [*B, A] <= 0.
    """
    check_range("(0, inf)", temperature=temperature)
    # A common shift changes no softmax, so the peak needs no gradient.
    away = logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    return away / above_underflow(temperature, logits.dtype)


def entropy(logits: Float[Array, "*B A"]) -> Float[Array, "*B"]:
    """Entropy of a categorical distribution: H = -sum_a pi(a) log pi(a), float32 in [0, log A]."""
    logps = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    probs = jnp.exp(logps)
    # 0 log 0 = 0; the inner `where` keeps 0 * inf out of the gradient.
    return -jnp.sum(jnp.where(probs > 0, probs * jnp.where(probs > 0, logps, 0.0), 0.0), axis=-1)


def log_collision(logits: Float[Array, "*B A"]) -> Float[Array, "*B"]:
    """Log-probability that two draws agree: log sum_a pi(a)^2, [*B] float32 in [-log A, 0].

    Minus the Renyi entropy of order 2; WPO weighs a token relative to it.
    """
    logps = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    return jax.nn.logsumexp(2.0 * logps, axis=-1)
