"""Policy-gradient objectives: log-probabilities and advantages in, one loss per step out.

A step is one entry of the arrays: a token, or a whole answer if log-probs are summed over it.
Objectives of whole answers are in `group_policy_gradient` and `answer_policy_gradient`.

Shared arguments and results, unless a function says otherwise:
  logps: [*S] log-probs of the actions under the policy being trained, in nats.
  old_logps: [*S] the same under the policy that sampled; data, no gradient.
  sampler_logps: [*S] the same under the sampler; summed over an answer for one weight per answer.
  advantages: [*S] A; data, no gradient.
  values, returns: [*S] V under the critic being trained, and its targets G; G is data.
  clip_eps: eps > 0; infinity switches the clip off.
  max_ratio: the cap itself, not 1 + eps, > 0; infinity switches it off.
Losses are [*S], unreduced. Gradient flows to logps (or values) only. The exponent of the ratio
rho = exp(log pi - log pi_old) stops at 40, so a loss is finite for finite log-probs. Shapes are
checked at trace time. Keyword numbers may be traced.
Needs: steps, old policy, advantages.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range
from rlhf_jax.ops.logprobs import ratios
from rlhf_jax.types import Scalar


def reinforce_loss(logps: Float[Array, "*S"], advantages: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """REINFORCE, the score-function surrogate.

    L = -A log pi.

    Only the gradient has a meaning: its mean at samples from pi is minus the policy gradient.

    Needs: steps, advantages.
    Reference: Williams 1992, "Simple statistical gradient-following algorithms".
    """
    chex.assert_equal_shape([logps, advantages])
    return -jax.lax.stop_gradient(advantages) * logps


def ppo_clip_loss(
    logps: Float[Array, "*S"],
    old_logps: Float[Array, "*S"],
    advantages: Float[Array, "*S"],
    *,
    clip_eps: Scalar,
) -> Float[Array, "*S"]:
    """Proximal policy optimisation (PPO), the clipped surrogate.

    L = max(-A rho, -A clip(rho, 1 - eps, 1 + eps)),   rho = exp(log pi - log pi_old).

    Reduces to: `reinforce_loss` in gradient at rho = 1; -A rho (importance weighting) at
      clip_eps = inf; `asymmetric_clip_loss` at clip_eps_low = clip_eps_high.
    Reference: Schulman et al. 2017, arXiv:1707.06347, Eq. 7 (negated: something to minimise).
    """
    check_range("(0, inf]", clip_eps=clip_eps)
    return asymmetric_clip_loss(
        logps, old_logps, advantages, clip_eps_low=clip_eps, clip_eps_high=clip_eps
    )


def asymmetric_clip_loss(
    logps: Float[Array, "*S"],
    old_logps: Float[Array, "*S"],
    advantages: Float[Array, "*S"],
    *,
    clip_eps_low: Scalar,
    clip_eps_high: Scalar,
) -> Float[Array, "*S"]:
    """Asymmetric clip (clip-higher of DAPO).

    L = max(-A rho, -A clip(rho, 1 - eps_low, 1 + eps_high)),   rho = exp(log pi - log pi_old).

    Args:
      clip_eps_low: eps_low > 0, binding where A < 0; infinity for none.
      clip_eps_high: eps_high > 0, binding where A > 0; infinity for none.
    Reduces to: `ppo_clip_loss` at clip_eps_low = clip_eps_high; `reinforce_loss` in gradient at
      rho = 1.
    Reference: Yu et al. 2025, arXiv:2503.14476, Section 3.1.
    """
    check_range("(0, inf]", clip_eps_low=clip_eps_low, clip_eps_high=clip_eps_high)
    chex.assert_equal_shape([logps, old_logps, advantages])
    advantages = jax.lax.stop_gradient(advantages)
    rho = ratios(logps, jax.lax.stop_gradient(old_logps))
    clipped = jnp.clip(rho, 1.0 - clip_eps_low, 1.0 + clip_eps_high)
    # The larger of the two losses is a pessimistic bound: no gradient where the clip binds.
    return jnp.maximum(-advantages * rho, -advantages * clipped)


def dual_clip_loss(
    logps: Float[Array, "*S"],
    old_logps: Float[Array, "*S"],
    advantages: Float[Array, "*S"],
    *,
    clip_eps: Scalar,
    dual_clip: Scalar,
) -> Float[Array, "*S"]:
    """Dual-clip PPO (two-sided clip): a bad step that has become likely costs at most c |A|.

    L = PPO clip where A >= 0,   min(PPO clip, -A c) where A < 0.

    Args:
      dual_clip: c > 1, usually > 1 + eps; no gradient where A < 0 and rho > c. Infinity for none.
    Reduces to: `ppo_clip_loss` at dual_clip = inf; the two-sided clip of INTELLECT-2 and TRL,
      max(-A min(rho, delta), -A clip(rho)), at dual_clip = delta >= 1 + eps.
    Reference: Ye et al. 2019, arXiv:1912.09729, for the dual clip; Prime Intellect 2025,
      arXiv:2505.07291, for the two-sided one.
    """
    check_range("(0, inf]", clip_eps=clip_eps)
    check_range("(1, inf]", dual_clip=dual_clip)
    chex.assert_equal_shape([logps, old_logps, advantages])
    advantages = jax.lax.stop_gradient(advantages)
    rho = ratios(logps, jax.lax.stop_gradient(old_logps))
    clipped = jnp.clip(rho, 1.0 - clip_eps, 1.0 + clip_eps)
    # Bounds on the ratio, not on the product: 0 times infinity would be NaN at A = 0.
    pulled = jnp.minimum(rho, clipped)
    pushed = jnp.minimum(jnp.maximum(rho, clipped), dual_clip)
    return -advantages * jnp.where(advantages < 0, pushed, pulled)


def cispo_loss(
    logps: Float[Array, "*S"],
    old_logps: Float[Array, "*S"],
    advantages: Float[Array, "*S"],
    *,
    max_ratio: Scalar,
) -> Float[Array, "*S"]:
    """CISPO: clips the importance weight, so every step keeps its gradient.

    L = -sg(min(rho, max_ratio)) A log pi,   rho = exp(log pi - log pi_old), sg = stop-gradient.

    Only the gradient has a meaning. Average with `ops.masking.token_mean`.

    Reduces to: `reinforce_loss` in gradient at rho = 1; `ppo_clip_loss` with clip_eps = inf in
      gradient where rho <= max_ratio.
    Reference: MiniMax 2025, arXiv:2506.13585; Khatri et al. 2025, arXiv:2510.13786, for the
      absolute cap.
    Departs: the paper writes a lower clip too and leaves it off; here it does not exist.
    """
    weights = truncated_importance_weights(logps, old_logps, max_ratio=max_ratio)
    return reinforce_loss(logps, weights * advantages)


def sapo_loss(
    logps: Float[Array, "*S"],
    old_logps: Float[Array, "*S"],
    advantages: Float[Array, "*S"],
    *,
    tau_positive: Scalar,
    tau_negative: Scalar,
) -> Float[Array, "*S"]:
    """SAPO (soft adaptive policy optimisation): a smooth gate instead of the clip.

    L = -A (4 / tau) sigmoid(tau (rho - 1)),   tau = tau_positive where A > 0, else tau_negative.

    The gradient is -A rho 4 p (1 - p) grad log pi, with p the sigmoid; the value at rho = 1 is
    -2 A / tau.

    Args:
      tau_positive: how fast the gradient fades as rho leaves 1, > 0.
      tau_negative: the same where A <= 0, > 0; a larger value fades faster.
    Reduces to: `reinforce_loss` in gradient at rho = 1; `ppo_clip_loss` with clip_eps = inf in
      gradient as both tau -> 0.
    Reference: Gao et al. 2025, arXiv:2511.20347.
    """
    check_range("(0, inf)", tau_positive=tau_positive, tau_negative=tau_negative)
    chex.assert_equal_shape([logps, old_logps, advantages])
    advantages = jax.lax.stop_gradient(advantages)
    rho = ratios(logps, jax.lax.stop_gradient(old_logps))
    tau = jnp.where(advantages > 0, tau_positive, tau_negative)
    return -advantages * (4.0 / tau) * jax.nn.sigmoid(tau * (rho - 1.0))


def truncated_importance_weights(
    old_logps: Float[Array, "*S"], sampler_logps: Float[Array, "*S"], *, max_ratio: Scalar
) -> Float[Array, "*S"]:
    """Truncated importance sampling (TIS) weights, to multiply losses with.

    w = min(pi_old / pi_sampler, max_ratio), without gradient.

    For answers drawn by another policy than that of `old_logps`, e.g. by an inference engine that
    rounds differently. Only steps above the cap bias the result.

    Needs: old policy, sampler.
    Reduces to: 1 where sampler_logps = old_logps and max_ratio >= 1.
    Reference: Ionides 2008, "Truncated importance sampling"; Yao et al. 2025, "Your efficient RL
      framework secretly brings you off-policy RL training", for its use here.
    """
    check_range("(0, inf]", max_ratio=max_ratio)
    return jnp.minimum(jax.lax.stop_gradient(ratios(old_logps, sampler_logps)), max_ratio)


def masked_importance_weights(
    old_logps: Float[Array, "*S"], sampler_logps: Float[Array, "*S"], *, max_ratio: Scalar
) -> Float[Array, "*S"]:
    """Masked importance sampling (MIS) weights: steps above the cap are dropped.

    w = rho where rho <= max_ratio, else 0,   rho = pi_old / pi_sampler; without gradient.

    Needs: old policy, sampler.
    Reduces to: `truncated_importance_weights` where rho <= max_ratio; 1 where
      sampler_logps = old_logps and max_ratio >= 1.
    Reference: none; the masked modes of the TRL trainer.
    """
    check_range("(0, inf]", max_ratio=max_ratio)
    rho = jax.lax.stop_gradient(ratios(old_logps, sampler_logps))
    return jnp.where(rho <= max_ratio, rho, 0.0)


def value_loss(values: Float[Array, "*S"], returns: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Squared error of the critic.

    L = (V - G)^2 / 2.

    Needs: values, returns.
    """
    chex.assert_equal_shape([values, returns])
    return 0.5 * (values - jax.lax.stop_gradient(returns)) ** 2


def clipped_value_loss(
    values: Float[Array, "*S"],
    old_values: Float[Array, "*S"],
    returns: Float[Array, "*S"],
    *,
    clip_eps: Scalar,
) -> Float[Array, "*S"]:
    """Clipped value loss of PPO: pessimistic about steps larger than the clip.

    L = max((V - G)^2, (clip(V, V_old - c, V_old + c) - G)^2) / 2.

    Args:
      old_values: [*S] V at sampling time; data, no gradient.
      clip_eps: c > 0, in units of value; infinity switches the clip off.
    Needs: values, old values, returns.
    Reduces to: `value_loss` at clip_eps = inf.
    Reference: the critic loss of the OpenAI baselines PPO2, kept by Ziegler et al. 2019.
    """
    check_range("(0, inf]", clip_eps=clip_eps)
    chex.assert_equal_shape([values, old_values, returns])
    old_values = jax.lax.stop_gradient(old_values)
    clipped = jnp.clip(values, old_values - clip_eps, old_values + clip_eps)
    return jnp.maximum(value_loss(values, returns), value_loss(clipped, returns))
