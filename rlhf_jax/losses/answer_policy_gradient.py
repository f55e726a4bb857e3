"""Policy-gradient objectives with one ratio per answer: GSPO, GMPO, RLOO and their relatives.

The ratio is that of the whole answer, or the geometric mean of its tokens' ratios.

Shared arguments and results, unless a function says otherwise:
  token_logps: [*B, T] log-probs under the policy being trained, in nats.
  old_token_logps: [*B, T] the same under the policy that sampled; data, no gradient.
  advantages: [*B] A of each answer, e.g. `ops.groups.group_normalised_advantages`; data.
  mask: [*B, T] True where the token counts; values under False never matter, NaN included.
  clip_eps_low, clip_eps_high: eps_low and eps_high > 0, infinity for none.
Losses are [*B], unreduced; an answer without tokens has loss 0 and gradient 0. Gradient flows to
token_logps only. Shapes are checked at trace time. Keyword numbers may be traced.
Needs: scored answers, old policy.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.checks import check_mask, check_range
from rlhf_jax.losses.policy_gradient import asymmetric_clip_loss, ppo_clip_loss, reinforce_loss
from rlhf_jax.ops.logprobs import MAX_LOG_RATIO, ratios
from rlhf_jax.ops.masking import masked_mean, masked_sum
from rlhf_jax.types import Scalar


def gspo_loss(
    token_logps: Float[Array, "*B T"],
    old_token_logps: Float[Array, "*B T"],
    advantages: Float[Array, "*B"],
    mask: Bool[Array, "*B T"],
    *,
    clip_eps_low: Scalar,
    clip_eps_high: Scalar,
) -> Float[Array, "*B"]:
    """Group sequence policy optimisation (GSPO): one ratio for all tokens of an answer.

    L = max(-A s, -A clip(s, 1 - eps_low, 1 + eps_high)),   s = exp((1/|y|) sum_t log rho_t).

    The paper clips at eps_low = 3e-4 and eps_high = 4e-4.

    Reduces to: `grpo_loss` with beta = 0 and equal eps at one-token answers; the token mean of
      `reinforce_loss` in gradient at s = 1; the token mean of `gspo_token_loss` in value and
      gradient at advantages constant over tokens.
    Reference: Zheng et al. 2025, arXiv:2507.18071, Eq. 5.
    """
    gap, advantages = _answer_terms(token_logps, old_token_logps, advantages, mask)
    # The mean log-ratio is log s; with 0 as the old log-prob the ratio of the clip is s.
    return asymmetric_clip_loss(
        masked_mean(gap, mask, axis=-1),
        jnp.zeros_like(advantages),
        advantages,
        clip_eps_low=clip_eps_low,
        clip_eps_high=clip_eps_high,
    )


def gspo_token_loss(
    token_logps: Float[Array, "*B T"],
    old_token_logps: Float[Array, "*B T"],
    advantages: Float[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    *,
    clip_eps_low: Scalar,
    clip_eps_high: Scalar,
) -> Float[Array, "*B T"]:
    """GSPO-token, one value per token: GSPO's ratio, with an advantage for each token.

    L_t = max(-A_t s_t, -A_t clip(s_t, 1 - eps_low, 1 + eps_high)),   s_t = sg(s) pi_t / sg(pi_t).

    The value of s_t is GSPO's s, its gradient s grad log pi_t.

    Args:
      advantages: [*B, T] A_t; data.
    Returns:
      [*B, T] losses, 0 under the mask, for `ops.masking.sequence_mean_of_token_mean`.
    Needs: answers with token advantages, old policy.
    Reduces to: `gspo_loss` as the mean over an answer's tokens at advantages constant over tokens;
      `reinforce_loss` in gradient at s = 1.
    Reference: Zheng et al. 2025, arXiv:2507.18071, Section 4.3.
    """
    check_mask(mask=mask)
    chex.assert_equal_shape([token_logps, old_token_logps, advantages, mask])
    token_logps = jnp.where(mask, token_logps, 0.0)
    gap = token_logps - jnp.where(mask, old_token_logps, 0.0)
    # s is data in s_t; its gradient would be that of GSPO, spread over all tokens.
    log_ratio = jax.lax.stop_gradient(masked_mean(gap, mask, axis=-1))[..., None]
    own = token_logps - jax.lax.stop_gradient(token_logps)  # 0, with the gradient of log pi_t
    return asymmetric_clip_loss(
        log_ratio + own,
        jnp.zeros_like(token_logps),
        jnp.where(mask, advantages, 0.0),
        clip_eps_low=clip_eps_low,
        clip_eps_high=clip_eps_high,
    )


def luspo_loss(
    token_logps: Float[Array, "*B T"],
    old_token_logps: Float[Array, "*B T"],
    advantages: Float[Array, "*B"],
    mask: Bool[Array, "*B T"],
    *,
    clip_eps_low: Scalar,
    clip_eps_high: Scalar,
) -> Float[Array, "*B"]:
    """Length-unbiased sequence policy optimisation (LUSPO).

    L = |y| max(-A s, -A clip(s, 1 - eps_low, 1 + eps_high)),   s = exp((1/|y|) sum_t log rho_t).

    The plain mean of the losses is TRL's `luspo`.

    Reduces to: |y| times `gspo_loss`; the token sum of `reinforce_loss` in gradient at s = 1.
    Reference: Liu et al. 2026, arXiv:2602.05261.
    """
    losses = gspo_loss(
        token_logps,
        old_token_logps,
        advantages,
        mask,
        clip_eps_low=clip_eps_low,
        clip_eps_high=clip_eps_high,
    )
    return jnp.sum(mask, axis=-1, dtype=losses.dtype) * losses


def gmpo_loss(
    token_logps: Float[Array, "*B T"],
    old_token_logps: Float[Array, "*B T"],
    advantages: Float[Array, "*B"],
    mask: Bool[Array, "*B T"],
    *,
    clip_eps_low: Scalar,
    clip_eps_high: Scalar,
) -> Float[Array, "*B"]:
    """Geometric-mean policy optimisation (GMPO): tokens are clipped before the mean.

    L = -A exp((1/|y|) sum_t c_t),   c_t = min(log rho_t, eps_high) where A > 0,
    max(log rho_t, -eps_low) where A < 0.

    Gradient flows only to the token_logps that are not clipped. The mean of c stops at 40.

    Args:
      clip_eps_low: eps_low > 0 in nats: where A < 0 no ratio of a token counts as less than
        exp(-eps_low); the paper's 0.4. Infinity switches it off.
      clip_eps_high: eps_high > 0 in nats: where A > 0 none counts as more than exp(eps_high); the
        paper's 0.4. Infinity switches the clip off.
    Reduces to: `gspo_loss` at clip_eps_low = clip_eps_high = inf for both; `asymmetric_clip_loss`
      with 1 - exp(-eps_low) and exp(eps_high) - 1 at one-token answers; the token mean of
      `reinforce_loss` in gradient at rho = 1.
    Reference: Zhao et al. 2025, arXiv:2507.20673.
    """
    check_range("(0, inf]", clip_eps_low=clip_eps_low, clip_eps_high=clip_eps_high)
    gap, advantages = _answer_terms(token_logps, old_token_logps, advantages, mask)
    advantages = jax.lax.stop_gradient(advantages)
    pulled, pushed = jnp.minimum(gap, clip_eps_high), jnp.maximum(gap, -clip_eps_low)
    clipped = jnp.where(advantages[..., None] > 0, pulled, pushed)
    # The exponential of a mean log-ratio; `ratios` caps its exponent.
    means = masked_mean(clipped, mask, axis=-1)
    return -advantages * ratios(means, jnp.zeros_like(means))


def rloo_loss(
    token_logps: Float[Array, "*B T"],
    old_token_logps: Float[Array, "*B T"],
    advantages: Float[Array, "*B"],
    mask: Bool[Array, "*B T"],
    *,
    clip_eps: Scalar,
) -> Float[Array, "*B"]:
    """REINFORCE leave-one-out (RLOO) with a clip: an answer is one action.

    L = max(-A rho, -A clip(rho, 1 - eps, 1 + eps)),   rho = exp(sum_t log rho_t).

    The exponent of rho stops at 40.

    Args:
      advantages: [*B] A, `ops.groups.leave_one_out_advantages` of the scores minus
        beta (log pi_old - log pi_ref) of the answer; data.
      clip_eps: eps > 0; infinity leaves plain importance weights.
    Reduces to: `reinforce_loss` of the answer's log-prob in gradient at rho = 1; `dr_grpo_loss` in
      gradient at rho = 1, up to G / (G - 1) and L_max; `ppo_clip_loss` at one-token answers.
    Reference: Ahmadian et al. 2024, arXiv:2402.14740; Kool et al. 2019 for the baseline.
    Departs: the paper has no ratio and no clip; they are those of the TRL trainer.
    """
    check_range("(0, inf]", clip_eps=clip_eps)
    gap, advantages = _answer_terms(token_logps, old_token_logps, advantages, mask)
    log_ratios = masked_sum(gap, mask, axis=-1)
    return ppo_clip_loss(log_ratios, jnp.zeros_like(advantages), advantages, clip_eps=clip_eps)


def vespo_loss(
    token_logps: Float[Array, "*B T"],
    old_token_logps: Float[Array, "*B T"],
    advantages: Float[Array, "*B"],
    mask: Bool[Array, "*B T"],
    *,
    k_positive: Scalar = 2.0,
    lambda_positive: Scalar = 3.0,
    k_negative: Scalar = 3.0,
    lambda_negative: Scalar = 2.0,
) -> Float[Array, "*B T"]:
    """VESPO, a smooth Gamma-shaped weight on the answer's ratio instead of a clip; one per token.

    L_t = -sg(w^k exp(lambda (1 - w))) A log pi_t,   w = exp(sum_t log rho_t).

    Only the gradient has a meaning. The exponent of the weight stops at 40.

    Args:
      k_positive: k >= 0 where A >= 0: the weight grows like w^k below its peak at k / lambda.
      lambda_positive: lambda >= 0 where A >= 0: above the peak it fades like exp(-lambda w).
      k_negative: k >= 0 where A < 0.
      lambda_negative: lambda >= 0 where A < 0.
    Returns:
      [*B, T] losses, 0 under the mask, for `ops.masking.token_mean`.
    Reduces to: `reinforce_loss` in gradient at w = 1; `rloo_loss` with clip_eps = inf in gradient
      of the token sum at k = 1 and lambda = 0.
    Reference: Shen et al. 2026, arXiv:2602.10693, Eq. 20.
    Departs: the form was checked against the TRL trainer (1.16), not derived from the paper.
    """
    check_range(
        "[0, inf)",
        k_positive=k_positive,
        lambda_positive=lambda_positive,
        k_negative=k_negative,
        lambda_negative=lambda_negative,
    )
    gap, advantages = _answer_terms(token_logps, old_token_logps, advantages, mask)
    log_w = jax.lax.stop_gradient(jnp.minimum(jnp.sum(gap, axis=-1), MAX_LOG_RATIO))
    k = jnp.where(advantages >= 0, k_positive, k_negative)
    decay = jnp.where(advantages >= 0, lambda_positive, lambda_negative)
    # expm1(log w) = w - 1 keeps its digits near w = 1, and one exponent cannot be inf * 0.
    log_weights = jnp.minimum(k * log_w - decay * jnp.expm1(log_w), MAX_LOG_RATIO)
    weighted = jnp.exp(log_weights) * advantages
    steps = jnp.where(mask, weighted[..., None], 0.0)
    return reinforce_loss(jnp.where(mask, token_logps, 0.0), steps)


def off_policy_mask(
    token_logps: Float[Array, "*B T"],
    sampler_token_logps: Float[Array, "*B T"],
    advantages: Float[Array, "*B"],
    mask: Bool[Array, "*B T"],
    *,
    max_kl: Scalar,
) -> Bool[Array, "*B"]:
    """Off-policy sequence masking: drops bad answers that the policy has moved away from.

    keep = A >= 0  or  (1/|y|) sum_t (log pi_sampler - log pi) <= max_kl.

    Args:
      sampler_token_logps: [*B, T] log-probs under the sampler, in nats.
      max_kl: nats per token, > 0; infinity keeps all.
    Returns:
      [*B] True where the answer's losses count: put it into the mask, or into the weights to
      leave the answer out of the denominator too.
    Needs: scored answers, sampler.
    Reduces to: all True at max_kl = inf.
    Reference: DeepSeek-AI 2025, arXiv:2512.02556, Eq. 9.
    """
    check_range("(0, inf]", max_kl=max_kl)
    gap, advantages = _answer_terms(token_logps, sampler_token_logps, advantages, mask)
    return (advantages >= 0) | (-masked_mean(gap, mask, axis=-1) <= max_kl)


def _answer_terms(
    token_logps: Float[Array, "*B T"],
    old_token_logps: Float[Array, "*B T"],
    advantages: Float[Array, "*B"],
    mask: Bool[Array, "*B T"],
) -> tuple[Float[Array, "*B T"], Float[Array, "*B"]]:
    """[*B, T] log pi - log pi_old, 0 under the mask, and [*B] A, 0 for answers without tokens."""
    check_mask(mask=mask)
    chex.assert_equal_shape([token_logps, old_token_logps, mask])
    chex.assert_shape(advantages, token_logps.shape[:-1])
    gap = token_logps - jax.lax.stop_gradient(old_token_logps)
    # The ratio of an empty answer is exp(0) = 1, so its loss would be -A.
    advantages = jnp.where(jnp.any(mask, axis=-1), advantages, 0.0)
    return jnp.where(mask, gap, 0.0), advantages
