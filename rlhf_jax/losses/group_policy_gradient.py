"""Policy-gradient objectives of answers scored once: GRPO and its relatives.

Token log-probs [*B, T], one advantage per answer [*B] (see `ops.groups`), mask [*B, T]. What lies
under the mask never matters, NaN included; an answer without tokens has loss 0 and gradient 0.
What differs between these methods is the ratio (of a token, of the answer, its geometric mean per
token) and how tokens are averaged. In a first update from the policy that sampled, every ratio is
1, no clip binds, and only the averaging is left.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.losses.policy_gradient import asymmetric_clip_loss, ppo_clip_loss, reinforce_loss
from rlhf_jax.ops.kl import k3
from rlhf_jax.ops.logprobs import MAX_LOG_RATIO
from rlhf_jax.ops.masking import masked_mean, masked_sum

Scalar = float | Float[Array, ""]


def grpo_loss(
    token_logps: Float[Array, "*B T"],
    old_token_logps: Float[Array, "*B T"],
    ref_token_logps: Float[Array, "*B T"],
    advantages: Float[Array, "*B"],
    mask: Bool[Array, "*B T"],
    *,
    clip_eps: Scalar,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """Group-relative policy optimisation (GRPO), one value per answer.

    L = (1/|y|) sum_t [max(-A rho_t, -A clip(rho_t, 1 - eps, 1 + eps)) + beta k3_t].

    Args:
      token_logps: [*B, T] log-probs under the policy being trained, in nats.
      old_token_logps: [*B, T] the same under the policy that sampled; data, no gradient.
      ref_token_logps: [*B, T] the same under the reference; data, no gradient.
      advantages: [*B] A, e.g. `ops.groups.group_normalised_advantages`; data, no gradient.
      mask: [*B, T] True where the token counts.
      clip_eps: eps > 0. May be traced.
      beta: KL weight >= 0. May be traced.
    Returns:
      [*B] losses, unreduced; their plain mean is TRL's loss type `grpo`. Gradient flows to
      token_logps only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: scored answers, old policy, reference.
    Reduces to: the token mean of `reinforce_loss` in gradient at rho = 1 and beta = 0;
      `dr_grpo_loss` with max_length = T at beta = 0 for answers of length T.
    Reference: Shao et al. 2024, arXiv:2402.03300, Eq. 3.
    """
    chex.assert_equal_shape([token_logps, ref_token_logps, mask])
    losses = _token_losses(token_logps, old_token_logps, advantages, mask, clip_eps, clip_eps)
    ref_token_logps = jax.lax.stop_gradient(ref_token_logps)
    kl = k3(jnp.where(mask, token_logps, 0.0), jnp.where(mask, ref_token_logps, 0.0))
    return masked_mean(losses + beta * kl, mask, axis=-1)


def dr_grpo_loss(
    token_logps: Float[Array, "*B T"],
    old_token_logps: Float[Array, "*B T"],
    advantages: Float[Array, "*B"],
    mask: Bool[Array, "*B T"],
    *,
    clip_eps: Scalar,
    max_length: Scalar,
) -> Float[Array, "*B"]:
    """Dr. GRPO (GRPO done right), one value per answer: no division by the answer's own length.

    L = (1/L_max) sum_t max(-A rho_t, -A clip(rho_t, 1 - eps, 1 + eps)).

    Args:
      token_logps: [*B, T] log-probs under the policy being trained, in nats.
      old_token_logps: [*B, T] the same under the policy that sampled; data, no gradient.
      advantages: [*B] A, centred and not divided by a deviation
        (`ops.groups.group_centred_advantages`); data, no gradient.
      mask: [*B, T] True where the token counts.
      clip_eps: eps > 0. May be traced.
      max_length: L_max > 0, tokens of the longest answer allowed; the same for every batch.
    Returns:
      [*B] losses, unreduced; their plain mean is TRL's `dr_grpo`. Gradient flows to token_logps
      only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: scored answers, old policy.
    Reduces to: `rloo_loss` in gradient at rho = 1, up to (G - 1) / G and L_max; `grpo_loss` with
      beta = 0 at equal lengths.
    Reference: Liu et al. 2025, arXiv:2503.20783, Section 3.2.
    """
    losses = _token_losses(token_logps, old_token_logps, advantages, mask, clip_eps, clip_eps)
    return masked_sum(losses, mask, axis=-1) / max_length


def dapo_loss(
    token_logps: Float[Array, "*B T"],
    old_token_logps: Float[Array, "*B T"],
    advantages: Float[Array, "*B"],
    mask: Bool[Array, "*B T"],
    *,
    clip_eps_low: Scalar,
    clip_eps_high: Scalar,
) -> Float[Array, "*B T"]:
    """DAPO, the clip-higher surrogate for a token mean, one value per token.

    L_t = max(-A rho_t, -A clip(rho_t, 1 - eps_low, 1 + eps_high)).

    Args:
      token_logps: [*B, T] log-probs under the policy being trained, in nats.
      old_token_logps: [*B, T] the same under the policy that sampled; data, no gradient.
      advantages: [*B] A, e.g. `ops.groups.group_normalised_advantages`; data, no gradient.
      mask: [*B, T] True where the token counts.
      clip_eps_low: eps_low > 0; the paper's 0.2. May be traced.
      clip_eps_high: eps_high > 0; the paper's 0.28. May be traced.
    Returns:
      [*B, T] losses, 0 under the mask. `ops.masking.token_mean` of them over the whole batch is
      TRL's `dapo`. Gradient flows to token_logps only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: scored answers, old policy.
    Reduces to: `grpo_loss` with beta = 0 as the mean over an answer's tokens at
      clip_eps_low = clip_eps_high.
    Reference: Yu et al. 2025, arXiv:2503.14476, Section 3.
    """
    return _token_losses(
        token_logps, old_token_logps, advantages, mask, clip_eps_low, clip_eps_high
    )


def gspo_loss(
    token_logps: Float[Array, "*B T"],
    old_token_logps: Float[Array, "*B T"],
    advantages: Float[Array, "*B"],
    mask: Bool[Array, "*B T"],
    *,
    clip_eps_low: Scalar,
    clip_eps_high: Scalar,
) -> Float[Array, "*B"]:
    """Group sequence policy optimisation (GSPO), one value per answer: one ratio for all tokens.

    L = max(-A s, -A clip(s, 1 - eps_low, 1 + eps_high)),   s = exp((1/|y|) sum_t log rho_t).

    Args:
      token_logps: [*B, T] log-probs under the policy being trained, in nats.
      old_token_logps: [*B, T] the same under the policy that sampled; data, no gradient.
      advantages: [*B] A, e.g. `ops.groups.group_normalised_advantages`; data, no gradient.
      mask: [*B, T] True where the token counts.
      clip_eps_low: eps_low > 0, small: 3e-4 in the paper. May be traced.
      clip_eps_high: eps_high > 0, 4e-4 in the paper. May be traced.
    Returns:
      [*B] losses, unreduced. Gradient flows to token_logps only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: scored answers, old policy.
    Reduces to: `grpo_loss` with beta = 0 and equal eps at one-token answers; the token mean of
      `reinforce_loss` in gradient at s = 1; the token mean of `gspo_token_loss` in value and
      gradient at advantages constant over tokens.
    Reference: Zheng et al. 2025, arXiv:2507.18071, Eq. 5.
    """
    gap, advantages = _answer_terms(token_logps, old_token_logps, advantages, mask)
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

    Args:
      token_logps: [*B, T] log-probs under the policy being trained, in nats.
      old_token_logps: [*B, T] the same under the policy that sampled; data, no gradient.
      advantages: [*B, T] A_t; data, no gradient.
      mask: [*B, T] True where the token counts.
      clip_eps_low: eps_low > 0. May be traced.
      clip_eps_high: eps_high > 0. May be traced.
    Returns:
      [*B, T] losses, 0 under the mask; take `ops.masking.sequence_mean_of_token_mean`. The value
      of s_t is GSPO's s, its gradient s grad log pi_t. Gradient flows to token_logps only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: answers with token advantages, old policy.
    Reduces to: `gspo_loss` as the mean over an answer's tokens at advantages constant over tokens;
      `reinforce_loss` in gradient at s = 1.
    Reference: Zheng et al. 2025, arXiv:2507.18071, Section 4.3.
    """
    chex.assert_equal_shape([token_logps, old_token_logps, advantages, mask])
    token_logps = jnp.where(mask, token_logps, 0.0)
    gap = token_logps - jnp.where(mask, old_token_logps, 0.0)
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
    """Length-unbiased sequence policy optimisation (LUSPO), one value per answer.

    L = |y| max(-A s, -A clip(s, 1 - eps_low, 1 + eps_high)),   s = exp((1/|y|) sum_t log rho_t).

    Args:
      token_logps: [*B, T] log-probs under the policy being trained, in nats.
      old_token_logps: [*B, T] the same under the policy that sampled; data, no gradient.
      advantages: [*B] A; data, no gradient.
      mask: [*B, T] True where the token counts; |y| of them.
      clip_eps_low: eps_low > 0. May be traced.
      clip_eps_high: eps_high > 0. May be traced.
    Returns:
      [*B] losses, unreduced; their plain mean is TRL's `luspo`. Gradient flows to token_logps only.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: scored answers, old policy.
    Reduces to: |y| times `gspo_loss`; the token sum of `reinforce_loss` in gradient at s = 1.
    Reference: "Length-Unbiased Sequence Policy Optimization" 2026, arXiv:2602.05261.
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


def rloo_loss(
    token_logps: Float[Array, "*B T"],
    old_token_logps: Float[Array, "*B T"],
    advantages: Float[Array, "*B"],
    mask: Bool[Array, "*B T"],
    *,
    clip_eps: Scalar,
) -> Float[Array, "*B"]:
    """REINFORCE leave-one-out (RLOO) with a clip, one value per answer: an answer is one action.

    L = max(-A rho, -A clip(rho, 1 - eps, 1 + eps)),   rho = exp(sum_t log rho_t).

    Args:
      token_logps: [*B, T] log-probs under the policy being trained, in nats.
      old_token_logps: [*B, T] the same under the policy that sampled; data, no gradient.
      advantages: [*B] A, `ops.groups.leave_one_out_advantages` of the scores minus
        beta (log pi_old - log pi_ref) of the answer; data, no gradient.
      mask: [*B, T] True where the token counts.
      clip_eps: eps > 0; infinity leaves plain importance weights. May be traced.
    Returns:
      [*B] losses, unreduced. Gradient flows to token_logps only. The exponent of rho stops at 40.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: scored answers, old policy.
    Reduces to: `reinforce_loss` of the answer's log-prob in gradient at rho = 1; `dr_grpo_loss` in
      gradient at rho = 1, up to G / (G - 1) and L_max; `ppo_clip_loss` at one-token answers.
    Reference: Ahmadian et al. 2024, arXiv:2402.14740; Kool et al. 2019 for the baseline.
    Departs: the paper has no ratio and no clip; they are those of the TRL trainer.
    """
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

    Args:
      token_logps: [*B, T] log-probs under the policy being trained, in nats.
      old_token_logps: [*B, T] the same under the policy that sampled; data, no gradient.
      advantages: [*B] A; data, no gradient.
      mask: [*B, T] True where the token counts.
      k_positive: k >= 0 where A >= 0: the weight grows like w^k below its peak at k / lambda.
      lambda_positive: lambda >= 0 where A >= 0: it fades like exp(-lambda w) above.
      k_negative: k where A < 0. All four may be traced.
      lambda_negative: lambda where A < 0.
    Returns:
      [*B, T] losses, 0 under the mask, for `ops.masking.token_mean`. The value means nothing, its
      gradient does, and flows to token_logps only. The exponent of the weight stops at 40.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: scored answers, old policy.
    Reduces to: `reinforce_loss` in gradient at w = 1; `rloo_loss` with clip_eps = inf in gradient
      of the token sum at k = 1 and lambda = 0.
    Reference: arXiv:2602.10693.
    Departs: the form is that of the TRL trainer (1.16); the paper was not read.
    """
    gap, advantages = _answer_terms(token_logps, old_token_logps, advantages, mask)
    log_w = jax.lax.stop_gradient(jnp.minimum(jnp.sum(gap, axis=-1), MAX_LOG_RATIO))
    k = jnp.where(advantages >= 0, k_positive, k_negative)
    decay = jnp.where(advantages >= 0, lambda_positive, lambda_negative)
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
    """Off-policy sequence masking: drops bad answers that the policy has left behind; one each.

    keep = A >= 0  or  (1/|y|) sum_t (log pi_sampler - log pi) <= max_kl.

    Args:
      token_logps: [*B, T] log-probs under the policy being trained, in nats.
      sampler_token_logps: [*B, T] the same under what sampled.
      advantages: [*B] A.
      mask: [*B, T] True where the token counts.
      max_kl: > 0, nats per token; infinity keeps all. May be traced.
    Returns:
      [*B] True where the answer's losses count: put it into the mask, or into the weights to
      leave the answer out of the denominator too.
    Raises:
      AssertionError: shapes differ (at trace time).
    Needs: scored answers, sampler.
    Reduces to: all True at max_kl = inf.
    Reference: DeepSeek-AI 2025, arXiv:2512.02556, Eq. 9.
    """
    gap, advantages = _answer_terms(token_logps, sampler_token_logps, advantages, mask)
    return (advantages >= 0) | (-masked_mean(gap, mask, axis=-1) <= max_kl)


def _token_losses(
    token_logps: Float[Array, "*B T"],
    old_token_logps: Float[Array, "*B T"],
    advantages: Float[Array, "*B"],
    mask: Bool[Array, "*B T"],
    clip_eps_low: Scalar,
    clip_eps_high: Scalar,
) -> Float[Array, "*B T"]:
    """[*B, T] clipped loss of each token with the advantage of its answer; 0 under the mask."""
    gap, _ = _answer_terms(token_logps, old_token_logps, advantages, mask)
    return asymmetric_clip_loss(
        gap,
        jnp.zeros_like(gap),
        jnp.where(mask, advantages[..., None], 0.0),
        clip_eps_low=clip_eps_low,
        clip_eps_high=clip_eps_high,
    )


def _answer_terms(
    token_logps: Float[Array, "*B T"],
    old_token_logps: Float[Array, "*B T"],
    advantages: Float[Array, "*B"],
    mask: Bool[Array, "*B T"],
) -> tuple[Float[Array, "*B T"], Float[Array, "*B"]]:
    """[*B, T] log pi - log pi_old, 0 under the mask, and [*B] A, 0 for answers without tokens."""
    chex.assert_equal_shape([token_logps, old_token_logps, mask])
    chex.assert_shape(advantages, token_logps.shape[:-1])
    gap = token_logps - jax.lax.stop_gradient(old_token_logps)
    advantages = jnp.where(jnp.any(mask, axis=-1), advantages, 0.0)
    return jnp.where(mask, gap, 0.0), advantages
