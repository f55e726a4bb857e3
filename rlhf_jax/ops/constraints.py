"""Constraints on mean costs: max_pi E r - beta KL(pi || pi_ref) subject to E c_m <= tau_m.

With m = 1..M constraints the Lagrangian is E r - beta KL - sum_m lambda_m (E c_m - tau_m). The
policy climbs it by `lagrangian_scores`; each multiplier lambda_m >= 0 follows its violation by one
of four rules.

Shared arguments:
  costs: [M, *B] c, constraints first; higher is worse. Where one is not finite it is missing.
  multipliers: [M] lambda. violations: [M] e = E c - tau, or that of a pessimistic mean.
  rate: eta > 0. smallest, largest: ends of the range that a multiplier stays in. All may be traced.
Results carry no gradient: costs and multipliers are data of a policy's update.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_entries, check_range
from rlhf_jax.types import Scalar

SMALLEST, LARGEST = 1e-3, 1e3  # of a multiplier


class CostMoments(NamedTuple):
    """Of N costs: means, stds (with N - 1, 0 for fewer than two) and counts, [M] each."""

    means: Float[Array, " M"]
    stds: Float[Array, " M"]
    counts: Float[Array, " M"]


def cost_moments(costs: Float[Array, "M *B"]) -> CostMoments:
    """Mean, standard deviation and number of the finite costs of each constraint.

    NaN in the mean of a constraint without any.
    """
    flat = jax.lax.stop_gradient(costs).reshape(costs.shape[0], -1)
    known = jnp.isfinite(flat)
    counts = jnp.sum(known, axis=-1).astype(flat.dtype)
    means = jnp.sum(jnp.where(known, flat, 0.0), axis=-1) / counts
    squares = jnp.where(known, (flat - means[:, None]) ** 2, 0.0)
    stds = jnp.sqrt(jnp.sum(squares, axis=-1) / jnp.maximum(counts - 1.0, 1.0))
    return CostMoments(means, stds, counts)


def pessimistic_violations(
    moments: CostMoments, thresholds: Float[Array, " M"], *, inflation: Scalar | Float[Array, " M"]
) -> Float[Array, " M"]:
    """How far a pessimistic mean cost is above its limit: e = m + k s - tau.

    Args:
      inflation: k >= 0, e.g. `exact.upper_bounds.cost_inflation`; 0: the mean itself.
    Reference: HC-RLHF, arXiv:2506.08266; its official code for k.
    """
    check_entries("[0, inf)", inflation=inflation)
    chex.assert_equal_shape([moments.means, thresholds])
    return moments.means + inflation * moments.stds - thresholds


def shaped_costs(
    costs: Float[Array, "M *B"],
    moments: CostMoments,
    *,
    inflation: Scalar | Float[Array, " M"],
    eps: Scalar = 1e-6,
) -> Float[Array, "M *B"]:
    """A cost of each sample, whose policy gradient is that of m + k s.

    chat = c + k (c^2 - 2 c m) / (2 s),   since s^2 = E c^2 - m^2.

    chat grows as c^2: clip costs before, not after.

    Args:
      moments: m and s, of this batch or of a buffer. inflation: k >= 0.
      eps: where s is not above it, chat = c.
    Reduces to: the costs at k = 0.
    Reference: HC-RLHF, arXiv:2506.08266, official code; the gradient is derived.
    """
    check_entries("[0, inf)", inflation=inflation)
    check_range("(0, inf)", eps=eps)
    costs = jax.lax.stop_gradient(costs)
    chex.assert_shape([moments.means, moments.stds], costs.shape[:1])
    slope = jnp.where(moments.stds > eps, inflation / (2.0 * jnp.maximum(moments.stds, eps)), 0.0)
    slope, means = (x.reshape(-1, *[1] * (costs.ndim - 1)) for x in (slope, moments.means))
    return costs + slope * (costs**2 - 2.0 * costs * means)


def lagrangian_scores(
    scores: Float[Array, "*B"],
    costs: Float[Array, "M *B"],
    multipliers: Float[Array, " M"],
    *,
    normalised: bool = True,
) -> Float[Array, "*B"]:
    """What an answer is worth under constraints.

    R = (r - sum_m lambda_m c_m) / (1 + sum_m lambda_m).

    The division bounds the step and moves no optimum if the KL weight is divided too
    (`lagrangian_beta`); a larger multiplier then turns the objective, it does not lengthen it.

    Args:
      normalised: divide; without it a large multiplier is a large learning rate.
    Returns:
      [*B], not finite where the score or a cost is not.
    Reduces to: the scores where all multipliers are 0.
    Reference: Dai et al. 2023, arXiv:2310.12773, for the division.
    """
    chex.assert_equal_shape([scores, *costs])
    chex.assert_shape(multipliers, costs.shape[:1])
    total = scores - jnp.tensordot(multipliers, costs, axes=1)
    found = total / (1.0 + jnp.sum(multipliers)) if normalised else total
    return jax.lax.stop_gradient(found)


def lagrangian_beta(
    beta: Scalar, multipliers: Float[Array, " M"], *, normalised: bool = True
) -> Scalar | Float[Array, ""]:
    """The KL weight beside `lagrangian_scores`: beta / (1 + sum_m lambda_m), or beta as it is."""
    return beta / (1.0 + jnp.sum(multipliers)) if normalised else beta


def projected_multipliers(
    multipliers: Float[Array, " M"],
    violations: Float[Array, " M"],
    *,
    rate: Scalar,
    largest: Scalar = LARGEST,
) -> Float[Array, " M"]:
    """Projected gradient ascent on the dual.

    lambda' = clip(lambda + eta e, 0, largest).
    """
    return jnp.clip(multipliers + _step(rate, violations), 0.0, largest)


def log_gradient_multipliers(
    multipliers: Float[Array, " M"],
    violations: Float[Array, " M"],
    *,
    rate: Scalar,
    smallest: Scalar = SMALLEST,
    largest: Scalar = LARGEST,
    normalised: bool = False,
) -> Float[Array, " M"]:
    """Gradient ascent in log lambda.

    log lambda' = clip(log lambda + eta lambda e, log smallest, log largest).

    Slow where lambda is small and fast where it is large. Without the clamp it runs away.

    Args:
      normalised: divide the step by 1 + sum_m lambda_m, as the objective is.
    Reference: Dai et al. 2023, arXiv:2310.12773, Appendix; HC-RLHF, arXiv:2506.08266.
    """
    scale = multipliers / (1.0 + jnp.sum(multipliers)) if normalised else multipliers
    logs = jnp.log(multipliers) + scale * _step(rate, violations)
    return jnp.exp(jnp.clip(logs, jnp.log(smallest), jnp.log(largest)))


def mirror_multipliers(
    multipliers: Float[Array, " M"],
    violations: Float[Array, " M"],
    *,
    rate: Scalar,
    smallest: Scalar = SMALLEST,
    largest: Scalar = LARGEST,
) -> Float[Array, " M"]:
    """Mirror ascent with the entropy: an exponentiated gradient.

    log lambda' = clip(log lambda + eta e, log smallest, log largest).
    """
    logs = jnp.log(multipliers) + _step(rate, violations)
    return jnp.exp(jnp.clip(logs, jnp.log(smallest), jnp.log(largest)))


class PIDState(NamedTuple):
    """integrals: I. errors: P, the smoothed violation. levels: C, smoothed for the derivative.
    past: [D, M] the last D levels, the oldest first."""

    integrals: Float[Array, " M"]
    errors: Float[Array, " M"]
    levels: Float[Array, " M"]
    past: Float[Array, "D M"]


def pid_start(multipliers: Float[Array, " M"], *, delay: int = 1) -> PIDState:
    """A controller that has seen nothing: its integral is the first multiplier.

    Args:
      delay: D >= 1, steps back that the derivative looks.
    """
    check_range("[1, inf)", delay=delay)
    check_entries("[0, inf)", multipliers=multipliers)
    zeros = jnp.zeros_like(multipliers)
    return PIDState(multipliers, zeros, zeros, jnp.zeros((delay, *multipliers.shape)))


def pid_multipliers(
    state: PIDState,
    violations: Float[Array, " M"],
    *,
    proportional: Scalar,
    rate: Scalar,
    derivative: Scalar = 0.0,
    smoothing: Scalar = 0.0,
    derivative_smoothing: Scalar = 0.0,
    largest: Scalar = LARGEST,
) -> tuple[Float[Array, " M"], PIDState]:
    """A PID controller of the multiplier: the proportional term damps what the integral swings.

    I' = max(0, I + K_i e),   P' = a P + (1 - a) e,   C' = b C + (1 - b) e,
    lambda = clip(K_p P' + I' + K_d max(0, C' - C_delayed), 0, largest).

    Args:
      proportional, rate, derivative: K_p, K_i and K_d, >= 0.
      smoothing, derivative_smoothing: a and b in [0, 1).
    Returns:
      multipliers [M], state.
    Reduces to: `projected_multipliers` at K_p = K_d = 0.
    Reference: Stooke et al. 2020, arXiv:2007.03964.
    Departs: the derivative is of the violation and not of the cost: the constant tau drops out.
    """
    check_range("[0, inf)", proportional=proportional, derivative=derivative)
    check_range("[0, 1)", smoothing=smoothing, derivative_smoothing=derivative_smoothing)
    integrals = jnp.clip(state.integrals + _step(rate, violations), 0.0, largest)
    violations = jax.lax.stop_gradient(violations)
    errors = smoothing * state.errors + (1.0 - smoothing) * violations
    levels = derivative_smoothing * state.levels + (1.0 - derivative_smoothing) * violations
    rises = jnp.maximum(levels - state.past[0], 0.0)
    found = jnp.clip(proportional * errors + integrals + derivative * rises, 0.0, largest)
    past = jnp.concatenate([state.past[1:], levels[None]])
    return found, PIDState(integrals, errors, levels, past)


def _step(rate: Scalar, violations: Float[Array, " M"]) -> Float[Array, " M"]:
    """eta e; 0 where the violation is unknown, e.g. that of a batch without any cost."""
    check_range("(0, inf)", rate=rate)
    violations = jax.lax.stop_gradient(violations)
    return jnp.where(jnp.isfinite(violations), rate * violations, 0.0)
