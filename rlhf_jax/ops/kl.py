"""Kullback-Leibler divergences: exact, estimates of the value, estimates of the gradient.

Samples always come from pi, and the direction is KL(pi || pi_ref) unless a name says forward.
`logps` and `ref_logps` are of the same sample, under two distributions.

`k1`, `k2` and `k3` estimate the value: log them, or subtract them from a reward. The surrogates
estimate the gradient: minimise them. A good estimate of one is a bad estimate of the other, because
differentiating an estimate ignores that pi also drew the sample.

On the log-probs of single tokens a surrogate differentiates each step's divergence at the prefixes
that were drawn, but not the probability of drawing them. The gradient of a whole answer's KL comes
from summed log-probs, or from `score_function_kl_surrogate` with each token's k1 summed to the end.

Shared arguments and results, unless a function says otherwise:
  logps: [*S] log-probs under pi of samples from pi, in nats, of a step or summed over an answer.
  ref_logps: [*S] the same under pi_ref.
Results are [*S], unreduced. A surrogate passes its gradient to logps only. Shapes are checked at
trace time.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range
from rlhf_jax.ops.logprobs import MAX_LOG_RATIO, ratios
from rlhf_jax.types import Scalar


def exact_kl(logits: Float[Array, "*B A"], ref_logits: Float[Array, "*B A"]) -> Float[Array, "*B"]:
    """KL(pi || pi_ref) = sum_a pi(a) (log pi(a) - log pi_ref(a)), in nats.

    Args:
      logits, ref_logits: [*B, A] unnormalised.
    Returns:
      [*B] >= 0 up to rounding, float32 at least; infinite where pi has mass and pi_ref has none.
    """
    chex.assert_equal_shape([logits, ref_logits])
    dtype = jnp.promote_types(logits.dtype, jnp.float32)
    logps = jax.nn.log_softmax(logits.astype(dtype), axis=-1)
    ref_logps = jax.nn.log_softmax(ref_logits.astype(dtype), axis=-1)
    probs = jnp.exp(logps)
    # 0 log 0 = 0: where pi has no mass, log pi is -inf and the product would be NaN.
    gap = jnp.where(probs > 0, logps - ref_logps, 0.0)
    return jnp.sum(probs * gap, axis=-1)


def forward_kl(
    logits: Float[Array, "*B A"], ref_logits: Float[Array, "*B A"]
) -> Float[Array, "*B"]:
    """KL(pi_ref || pi) = sum_a pi_ref(a) (log pi_ref(a) - log pi(a)), in nats: `exact_kl` turned
    round, infinite where pi_ref has mass and pi has none."""
    return exact_kl(ref_logits, logits)


def k1(logps: Float[Array, "*S"], ref_logps: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """k1 = log pi - log pi_ref at samples from pi: unbiased for KL(pi || pi_ref), may be negative.

    As a reward penalty (no gradient through it) it gives the exact gradient of KL(pi || pi_ref);
    differentiated as a loss, its expected gradient is 0.

    Reference: Schulman 2020, "Approximating KL divergence"; also for `k2` and `k3`.
    """
    chex.assert_equal_shape([logps, ref_logps])
    return logps - ref_logps


def k2(logps: Float[Array, "*S"], ref_logps: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """k2 = (log pi - log pi_ref)^2 / 2 at samples from pi: biased, small variance.

    Differentiated as a loss, its expected gradient is exactly that of KL(pi || pi_ref).
    """
    return 0.5 * k1(logps, ref_logps) ** 2


def k3(logps: Float[Array, "*S"], ref_logps: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """k3 = pi_ref / pi - 1 + log(pi / pi_ref) at samples from pi: unbiased, >= 0.

    Differentiated as a loss, its expected gradient is that of the *forward* KL(pi_ref || pi). The
    exponent stops at 40, so the result is finite.
    """
    gap = k1(ref_logps, logps)
    # expm1 keeps the digits where the two policies are close.
    return jnp.expm1(jnp.minimum(gap, MAX_LOG_RATIO)) - gap


def reverse_kl_surrogate(
    logps: Float[Array, "*S"], ref_logps: Float[Array, "*S"]
) -> Float[Array, "*S"]:
    """Reverse KL loss: the value of k3, the gradient of k2.

    L = k3 in value;   grad L = (log pi - log pi_ref) grad log pi.

    At samples from pi both are unbiased: the mean value is KL(pi || pi_ref), the mean gradient is
    its gradient. Differentiating k3 itself gives that of the forward KL, and k1's has mean 0. The
    exponent in the value stops at 40; the gradient has no exponent.

    Needs: samples from pi, reference.
    Reduces to: `k3` in value; `k2` and `score_function_kl_surrogate` in gradient.
    Reference: Schulman 2020, "Approximating KL divergence", for the value; Tang and Munos 2025,
      arXiv:2506.09477, for the gradient.
    """
    chex.assert_equal_shape([logps, ref_logps])
    return _surrogate(k3(logps, ref_logps), k1(logps, ref_logps), logps)


def score_function_kl_surrogate(
    logps: Float[Array, "*S"], ref_logps: Float[Array, "*S"]
) -> Float[Array, "*S"]:
    """Reverse KL by the score function (REINFORCE with k1 as the cost).

    L = sg(log pi - log pi_ref) log pi;   grad L = (log pi - log pi_ref) grad log pi.

    At samples from pi the mean gradient is that of KL(pi || pi_ref); only the gradient has a
    meaning. Any baseline b may be subtracted from k1 by hand: sg(k1 - b) log pi.

    Needs: samples from pi, reference.
    Reduces to: `k2` and `reverse_kl_surrogate` in gradient, sample by sample; `reinforce_loss` with
      advantages -k1.
    Reference: Williams 1992, "Simple statistical gradient-following algorithms"; Tang and Munos
      2025, arXiv:2506.09477.
    """
    return jax.lax.stop_gradient(k1(logps, ref_logps)) * logps


def forward_kl_surrogate(
    logps: Float[Array, "*S"], ref_logps: Float[Array, "*S"]
) -> Float[Array, "*S"]:
    """Forward KL(pi_ref || pi) loss from samples of pi.

    L = w log w - w + 1 in value;   grad L = (1 - w) grad log pi,   w = pi_ref / pi.

    At samples from pi both are unbiased for KL(pi_ref || pi). A loss of k3, as GRPO's, minimises
    this divergence; if samples from pi_ref are at hand, -log pi there has less variance. The
    exponent of w stops at 40, where the gradient keeps its size (that of k3 loses its w).

    Needs: samples from pi, reference.
    Reduces to: `k3` in gradient.
    Reference: Schulman 2020, "Approximating KL divergence", for k3; Tang and Munos 2025,
      arXiv:2506.09477, for its gradient.
    """
    chex.assert_equal_shape([logps, ref_logps])
    w = ratios(ref_logps, logps)
    gap = jnp.minimum(k1(ref_logps, logps), MAX_LOG_RATIO)
    return _surrogate(w * gap - jnp.expm1(gap), 1.0 - w, logps)


def adapted_beta(
    beta: Scalar, kl: Scalar, *, target: Scalar, gain: Scalar = 0.1
) -> Float[Array, ""]:
    """The KL weight of the next batch: larger where the policy is farther away than wanted.

    beta' = beta (1 + gain clip((kl - target) / target, -0.2, 0.2)).

    Args:
      beta: KL weight of this batch, >= 0; 0 stays 0.
      kl: KL(pi || pi_ref) measured on this batch, in nats per answer.
      target: the KL that is wanted, > 0, in the same unit. All four may be traced.
      gain: K_beta > 0, the paper's 0.1.
    Reference: Ziegler et al. 2019, arXiv:1909.08593, Section 2.2.
    """
    check_range("[0, inf)", beta=beta)
    check_range("(-inf, inf)", kl=kl)
    check_range("(0, inf)", target=target, gain=gain)
    return beta * (1.0 + gain * jnp.clip((kl - target) / target, -0.2, 0.2))


def _surrogate(
    value: Float[Array, "*S"], slope: Float[Array, "*S"], logps: Float[Array, "*S"]
) -> Float[Array, "*S"]:
    """[*S] with this value and this gradient in logps; neither is differentiated."""
    zero = logps - jax.lax.stop_gradient(logps)  # 0 in value, with the gradient of logps
    return jax.lax.stop_gradient(value) + jax.lax.stop_gradient(slope) * zero
