"""The first step of every pairwise objective with a reference: log-ratios and margins of a pair."""

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
    """u = log pi - log pi_ref of the chosen and of the rejected answer; the reference is data.

    Args:
      chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps: [*B] log-probs in nats,
        summed over the answer, or its mean where an objective says so.
    Returns:
      u_w and u_l, [*B] each. No gradient flows to the reference.
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
    """Gap of the implicit rewards of a pair: z = beta (u_w - u_l), with beta > 0."""
    check_range("(0, inf)", beta=beta)
    chosen_log_ratios, rejected_log_ratios = pair_log_ratios(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    return beta * (chosen_log_ratios - rejected_log_ratios)
