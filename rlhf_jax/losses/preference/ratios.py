"""Log-ratios of a pair to its reference: where every pairwise objective with a reference starts."""

import chex
import jax
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range
from rlhf_jax.types import Scalar


def pair_log_ratios(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
) -> tuple[Float[Array, "*B"], Float[Array, "*B"]]:
    """log pi - log pi_ref of the chosen and of the rejected answers; the reference is data.

    u_w = log pi(y_w | x) - log pi_ref(y_w | x), and u_l likewise.

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: [*B] log-probs in nats,
        summed over the answer (or its mean, where an objective says so).
    Returns:
      u_w and u_l, [*B] each. No gradient flows to the reference.
    Raises:
      AssertionError: shapes differ (at trace time).
    """
    chex.assert_equal_shape([chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps])
    chosen_log_ratios = chosen_logps - jax.lax.stop_gradient(ref_chosen_logps)
    rejected_log_ratios = rejected_logps - jax.lax.stop_gradient(ref_rejected_logps)
    return chosen_log_ratios, rejected_log_ratios


def pair_margins(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """Gap of the implicit rewards of a pair: z = beta (u_w - u_l).

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: [*B] as in
        `pair_log_ratios`.
      beta: KL weight > 0. May be traced.
    Returns:
      [*B]. No gradient flows to the reference.
    Raises:
      AssertionError: shapes differ (at trace time).
    """
    check_range("(0, inf)", beta=beta)
    chosen_log_ratios, rejected_log_ratios = pair_log_ratios(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    return beta * (chosen_log_ratios - rejected_log_ratios)
