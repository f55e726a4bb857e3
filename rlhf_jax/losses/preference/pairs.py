"""Direct preference objectives: log-probabilities of a pair in, one loss per pair out.

Every function takes the four arrays in the same order, so that one update serves them all.
"""

from jaxtyping import Array, Float

from rlhf_jax.losses.preference.ratios import pair_log_ratios
from rlhf_jax.losses.reward import bradley_terry_loss

Scalar = float | Float[Array, ""]


def dpo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """Direct preference optimisation, one value per pair.

    L = -log sigmoid(beta h),   h = chosen log-ratio - rejected log-ratio.

    Args:
      chosen_logps: [*B] summed log pi(y_w | x), in nats.
      rejected_logps: [*B] summed log pi(y_l | x), in nats.
      ref_chosen_logps: [*B] summed log pi_ref(y_w | x), in nats.
      ref_rejected_logps: [*B] summed log pi_ref(y_l | x), in nats.
      beta: KL weight > 0. May be traced.
    Returns:
      [*B] losses, unreduced, >= 0. Gradient flows to chosen_logps and rejected_logps only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Reference: Rafailov et al. 2023, arXiv:2305.18290, Eq. 7.
    """
    chosen_log_ratios, rejected_log_ratios = pair_log_ratios(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    return bradley_terry_loss(beta * chosen_log_ratios, beta * rejected_log_ratios)


def ipo_loss(
    chosen_logps: Float[Array, "*B"],
    rejected_logps: Float[Array, "*B"],
    ref_chosen_logps: Float[Array, "*B"],
    ref_rejected_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """Identity preference optimisation, one value per pair.

    L = (h - 1 / (2 beta))^2,   h = chosen log-ratio - rejected log-ratio.

    Args:
      chosen_logps: [*B] summed log pi(y_w | x), in nats.
      rejected_logps: [*B] summed log pi(y_l | x), in nats.
      ref_chosen_logps: [*B] summed log pi_ref(y_w | x), in nats.
      ref_rejected_logps: [*B] summed log pi_ref(y_l | x), in nats.
      beta: KL weight > 0; the paper's tau. May be traced.
    Returns:
      [*B] losses, unreduced, >= 0. Gradient flows to chosen_logps and rejected_logps only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Reference: Azar et al. 2023, arXiv:2310.12036, Eq. 17.
    Departs: log-probs are sums; the authors' later advice is per-token means (pass mean_logps).
    """
    chosen_log_ratios, rejected_log_ratios = pair_log_ratios(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    return (chosen_log_ratios - rejected_log_ratios - 1.0 / (2.0 * beta)) ** 2
