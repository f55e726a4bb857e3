"""Policy-gradient objectives of answers scored once, with a ratio per token: GRPO's relatives.

They differ in how tokens are clipped and averaged; `answer_policy_gradient` has those with one
ratio per answer. In a first update from the policy that sampled, every ratio is 1 and no clip
binds, so they differ only in the averaging.

Shared arguments and results, unless a function says otherwise:
  token_logps: [*B, T] log-probs under the policy being trained, in nats.
  old_token_logps, ref_token_logps: [*B, T] under the policy that sampled and the reference; data.
  advantages: [*B] A of each answer, e.g. `ops.groups.group_normalised_advantages`; data.
  mask: [*B, T] True where the token counts; values under False never matter, NaN included.
  clip_eps: eps > 0; infinity switches the clip off.
Losses are unreduced; an answer without tokens has loss 0 and gradient 0. Gradient flows to
token_logps only. Shapes are checked at trace time. Keyword numbers may be traced.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.checks import check_mask, check_range
from rlhf_jax.losses.policy_gradient import asymmetric_clip_loss
from rlhf_jax.ops.kl import k3
from rlhf_jax.ops.masking import masked_mean, masked_sum
from rlhf_jax.types import Scalar


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

    The plain mean of the losses is TRL's loss type `grpo`.

    Args:
      beta: KL weight, >= 0.
    Needs: scored answers, old policy, reference.
    Reduces to: the token mean of `reinforce_loss` in gradient at rho = 1 and beta = 0;
      `dr_grpo_loss` with max_length = T at beta = 0 for answers of length T.
    Reference: Shao et al. 2024, arXiv:2402.03300, Eq. 3.
    """
    check_range("(0, inf]", clip_eps=clip_eps)
    check_range("[0, inf)", beta=beta)
    chex.assert_equal_shape([token_logps, ref_token_logps, mask])
    losses = _token_losses(token_logps, old_token_logps, advantages, mask, clip_eps, clip_eps)
    ref_token_logps = jax.lax.stop_gradient(ref_token_logps)
    # Masked before k3: NaN under the mask would reach the gradient through a mask after it.
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

    The plain mean of the losses is TRL's `dr_grpo`.

    Args:
      advantages: [*B] A, centred and not divided by a deviation
        (`ops.groups.group_centred_advantages`); data.
      max_length: L_max > 0, tokens of the longest answer allowed; the same for every batch.
    Needs: scored answers, old policy.
    Reduces to: `rloo_loss` in gradient at rho = 1, up to (G - 1) / G and L_max; `grpo_loss` with
      beta = 0 at equal lengths.
    Reference: Liu et al. 2025, arXiv:2503.20783, Section 3.2.
    """
    check_range("(0, inf]", clip_eps=clip_eps)
    check_range("(0, inf)", max_length=max_length)
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

    `ops.masking.token_mean` of the losses over the whole batch is TRL's `dapo`.

    Args:
      clip_eps_low: eps_low > 0, infinity for none; the paper's 0.2.
      clip_eps_high: eps_high > 0, infinity for none; the paper's 0.28.
    Returns:
      [*B, T] losses, 0 under the mask.
    Needs: scored answers, old policy.
    Reduces to: `grpo_loss` with beta = 0 as the mean over an answer's tokens at
      clip_eps_low = clip_eps_high.
    Reference: Yu et al. 2025, arXiv:2503.14476, Section 3.
    """
    return _token_losses(
        token_logps, old_token_logps, advantages, mask, clip_eps_low, clip_eps_high
    )


def high_entropy_mask(
    entropies: Float[Array, "*B T"], mask: Bool[Array, "*B T"], *, quantile: Scalar
) -> Bool[Array, "*B T"]:
    """High-entropy token mask (forking tokens, 80/20 rule): keeps the uncertain tokens of a batch.

    keep_t = H_t >= Q(quantile),   Q the quantile function of H over all counted tokens.

    Q is linear between two entropies. There is one threshold for all leading axes, so the tokens
    kept of an answer depend on the batch, and each micro-batch has its own threshold.

    Args:
      entropies: [*B, T] H >= 0 of the policy at each token, in nats (`ops.logprobs.entropy`); data.
      quantile: share of tokens left out, in [0, 1]: 0.8 in the paper, which is TRL's
        top_entropy_quantile 0.2.
    Returns:
      [*B, T] True where the token is kept; at least one is, if any counts. Multiply token losses by
      it to keep the other tokens in the denominator, as TRL does, or pass it as the mask of an
      aggregation to take them out.
    Needs: logits of the answers.
    Reduces to: `mask` at quantile = 0.
    Reference: Wang et al. 2025, arXiv:2506.01939.
    """
    check_range("[0, 1]", quantile=quantile)
    check_mask(mask=mask)
    chex.assert_equal_shape([entropies, mask])
    if entropies.size == 0:
        return mask
    entropies = jax.lax.stop_gradient(entropies)
    last = jnp.maximum(jnp.sum(mask) - 1, 0)
    # Masked entries sort behind all others, so `last` is the last counted one.
    ordered = jnp.sort(jnp.where(mask, entropies, jnp.finfo(entropies.dtype).max), axis=None)
    place = quantile * last
    below = jnp.floor(place).astype(last.dtype)
    low, high = ordered[below], ordered[jnp.minimum(below + 1, last)]
    # Rounding must not lift the threshold above `high`, which would drop that entropy itself.
    threshold = jnp.minimum(low + (place - below) * (high - low), high)
    return mask & (entropies >= threshold)


def _token_losses(
    token_logps: Float[Array, "*B T"],
    old_token_logps: Float[Array, "*B T"],
    advantages: Float[Array, "*B"],
    mask: Bool[Array, "*B T"],
    clip_eps_low: Scalar,
    clip_eps_high: Scalar,
) -> Float[Array, "*B T"]:
    """[*B, T] clipped loss of each token with the advantage of its answer; 0 under the mask."""
    check_mask(mask=mask)
    chex.assert_equal_shape([token_logps, old_token_logps, mask])
    chex.assert_shape(advantages, token_logps.shape[:-1])
    return asymmetric_clip_loss(
        jnp.where(mask, token_logps, 0.0),
        jnp.where(mask, old_token_logps, 0.0),
        jnp.where(mask, advantages[..., None], 0.0),
        clip_eps_low=clip_eps_low,
        clip_eps_high=clip_eps_high,
    )
