"""Supervised losses of selected answers, with a prior that holds the policy near a reference.

Shared arguments and results:
  logits: [*B, T, A] of the policy being trained, unnormalised, at the steps of the answers.
  ref_logits: [*B, T, A] of the reference at the same steps; data, no gradient.
  actions: [*B, T] int, the answers. mask: [*B, T] True where the step counts; what it hides never
    matters, NaN included.
Losses are [*B, T], one per token, unreduced and 0 under the mask. Shapes are checked at trace time.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.checks import check_mask, check_range, entries
from rlhf_jax.ops.kl import forward_kl
from rlhf_jax.types import Scalar


def superhf_loss(
    logits: Float[Array, "*B T A"],
    ref_logits: Float[Array, "*B T A"],
    actions: Int[Array, "*B T"],
    mask: Bool[Array, "*B T"],
    *,
    beta: Scalar,
    divergence: Callable[[Array, Array], Array] = forward_kl,
) -> Float[Array, "*B T"]:
    """SuperHF: likelihood of a selected answer, and a prior over the whole vocabulary.

    L_t = -log pi(y_t) + beta KL(pi_0 || pi)_t,   dL_t / dz = pi - 1[y_t] + beta (pi - pi_0).

    With the forward KL the prior pulls with a strength of at most beta, however far the policy is,
    and the minimum for answers from q is (q + beta pi_0) / (1 + beta).

    Args:
      beta: weight of the prior, >= 0; the official configuration has 0.35.
      divergence: `(logits, ref_logits) -> [*B, T]`: `forward_kl`, as the official code, or
        `exact_kl` for the reverse direction KL(pi || pi_0).
    Needs: selected answers, reference.
    Reduces to: `-token_logps` (RAFT, supervised fine-tuning) at beta = 0.
    Reference: Mukobi et al. 2023, arXiv:2310.16763, read in its code; the direction that the paper
      prints was not read.
    Departs: both terms are means over tokens. The code sums the prior over the answers of a
      minibatch, so its beta counts times their number. Its mask of the prior is one token late.
    """
    check_range("[0, inf)", beta=beta)
    check_mask(mask=mask)
    chex.assert_equal_shape([logits, ref_logits])
    chex.assert_equal_shape([actions, mask])
    chex.assert_shape(logits, (*mask.shape, None))
    counted = mask[..., None]
    # Masked before the logarithms: NaN under the mask would reach the gradient through one after.
    logits = jnp.where(counted, logits, 0.0)
    ref_logits = jnp.where(counted, jax.lax.stop_gradient(ref_logits), 0.0)
    # Not `token_logps`: in float64 it would be less precise than the prior.
    wide = jnp.promote_types(logits.dtype, jnp.float32)
    logps = jax.nn.log_softmax(logits.astype(wide), axis=-1)
    likelihood = entries(logps, actions=jnp.where(mask, actions, 0))
    prior = divergence(logits, ref_logits)
    return jnp.where(mask, beta * prior - likelihood, 0.0)
