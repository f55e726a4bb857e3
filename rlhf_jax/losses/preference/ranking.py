"""Ranked lists of any length: K candidates of one prompt in, one loss per list out.

Shared arguments and results, unless a function says otherwise:
  logps, ref_logps: [*B, K] summed log pi(y_k | x) and log pi_ref(y_k | x), in nats.
  mean_logps: [*B, K] a, log pi(y_k | x) / |y_k|, in nats.
  scores: [*B, K] r, data. A candidate with a score that is not finite counts as missing.
  mask: [*B, K] True where the candidate is real; values under False never matter, NaN included.
  beta: KL weight, > 0.
Losses are [*B], unreduced, >= 0; 0 for an empty list. `pl_dpo_loss`, `pro_loss` and `lipo_loss`
are 0 for a list of one too. Gradient flows to the policy's log-probs only. Shapes are checked at
trace time. Keyword numbers may be traced.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.checks import check_mask, check_range
from rlhf_jax.losses.links import hinge, logistic
from rlhf_jax.losses.reward import plackett_luce_loss
from rlhf_jax.ops.logprobs import MAX_LOG_RATIO, tempered
from rlhf_jax.types import Scalar


def pl_dpo_loss(
    logps: Float[Array, "*B K"],
    ref_logps: Float[Array, "*B K"],
    mask: Bool[Array, "*B K"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """Plackett-Luce DPO, for candidates sorted best first.

    L = -sum_k [ s_k - logsumexp_{j >= k} s_j ],   s = beta (log pi - log pi_ref), best first.

    Needs: rankings, reference.
    Reduces to: `dpo_loss` at K = 2; `plackett_luce_loss` of s.
    Reference: Rafailov et al. 2023, arXiv:2305.18290, Appendix A.3.
    """
    check_range("(0, inf)", beta=beta)
    check_mask(mask=mask)
    chex.assert_equal_shape([logps, ref_logps, mask])
    # Masked before the loss, so that NaN under the mask reaches no gradient.
    log_ratios = jnp.where(mask, logps - jax.lax.stop_gradient(ref_logps), 0.0)
    return plackett_luce_loss(beta * log_ratios, mask)


def pro_loss(
    mean_logps: Float[Array, "*B K"], scores: Float[Array, "*B K"], mask: Bool[Array, "*B K"]
) -> Float[Array, "*B"]:
    """Preference ranking optimisation (PRO), for candidates sorted best first.

    L = sum_k [ logsumexp_{i >= k} W_k^i a_i - W_k^k a_k ],   a = log pi(y) / |y|,
    W_k^i = r_k - r_i for i > k,   W_k^k = max_{i > k} W_k^i; best first.

    The gap of two scores is the inverse temperature of their contrast, so near-ties weigh little.
    Without temperatures (W = 1) PRO is `plackett_luce_loss`(mean_logps, mask).

    Args:
      scores: [*B, K] r, falling along K; the paper's are in [0, 1]. Sort by these scores: in a list
        longer than two, a negative gap no longer favours the higher score.
    Needs: rankings with scores; no reference.
    Reduces to: `bradley_terry_loss` of (r_1 - r_2) a at K = 2; `simpo_loss` with beta = r_1 - r_2
      and gamma = 0 at K = 2.
    Reference: Song et al. 2023, arXiv:2306.17492.
    Departs: logsumexp instead of a log of a sum plus 1e-10. The paper adds `pro_sft_loss`.
    """
    check_mask(mask=mask)
    chex.assert_equal_shape([mean_logps, scores, mask])
    mask &= jnp.isfinite(scores)
    mean_logps = jnp.where(mask, mean_logps, 0.0)
    scores = jax.lax.stop_gradient(jnp.where(mask, scores, 0.0))
    size = mask.shape[-1]
    own = jnp.eye(size, dtype=bool)
    worse = mask[..., None, :] & jnp.triu(jnp.ones((size, size), bool), k=1)  # [*B, k, i]
    gaps = jnp.where(worse, scores[..., :, None] - scores[..., None, :], -jnp.inf)
    largest = jnp.max(gaps, axis=-1)
    # The last candidate has no worse one, so its maximum is -inf; 0 removes its contrast.
    largest = jnp.where(jnp.any(worse, axis=-1), largest, 0.0)
    weights = jnp.where(own, largest[..., :, None], jnp.where(worse, gaps, 0.0))
    contrasts = jax.nn.logsumexp(weights * mean_logps[..., None, :], axis=-1, where=worse | own)
    return jnp.sum(jnp.where(mask, contrasts - largest * mean_logps, 0.0), axis=-1)


def pro_sft_loss(
    logps: Float[Array, "*B K"], mask: Bool[Array, "*B K"], *, sft_weight: Scalar = 0.05
) -> Float[Array, "*B"]:
    """Supervised term of PRO, for candidates sorted best first.

    L = -h (n - 1)^2 log pi(y_1 | x),   n real candidates, log pi summed over tokens.

    The factor follows `pro_loss`, which has n - 1 contrasts of growing gaps. The sum over tokens
    makes this term the larger one for long answers. 0 for a list of one.

    Args:
      sft_weight: h >= 0. May be traced.
    Needs: rankings; no reference.
    Reduces to: h `sft_loss` of the summed log-prob at n = 2.
    Reference: Song et al. 2023, arXiv:2306.17492.
    """
    check_range("[0, inf)", sft_weight=sft_weight)
    check_mask(mask=mask)
    chex.assert_equal_shape([logps, mask])
    first = jnp.argmax(mask, axis=-1)[..., None]
    best = jnp.take_along_axis(jnp.where(mask, logps, 0.0), first, axis=-1)[..., 0]
    # An empty list has n - 1 = -1, and its log-prob is 0.
    contrasts = jnp.sum(mask, axis=-1, dtype=logps.dtype) - 1.0
    return -sft_weight * contrasts**2 * best


def rrhf_loss(
    mean_logps: Float[Array, "*B K"], scores: Float[Array, "*B K"], mask: Bool[Array, "*B K"]
) -> Float[Array, "*B"]:
    """Rank responses to align human feedback (RRHF), for candidates in any order.

    L = sum_{r_i > r_j} max(0, a_j - a_i) - a_best,   a = log pi(y) / |y|.

    Answers with equal scores are not compared; of several best answers the first is imitated.

    Needs: scored lists; no reference.
    Reduces to: the NLL of the best answer where the order of a is right.
    Reference: Yuan et al. 2023, arXiv:2304.05302.
    Departs: the NLL of the best answer is its mean over tokens, like a; the paper's is the sum.
    """
    check_mask(mask=mask)
    chex.assert_equal_shape([mean_logps, scores, mask])
    mask &= jnp.isfinite(scores)
    mean_logps = jnp.where(mask, mean_logps, 0.0)
    hinges = hinge(_gaps(mean_logps), target=0.0)  # max(0, a_j - a_i)
    ranking = jnp.sum(jnp.where(_better(scores, mask), hinges, 0.0), axis=(-2, -1))
    best = jnp.argmax(jnp.where(mask, scores, -jnp.inf), axis=-1)
    return ranking - jnp.take_along_axis(mean_logps, best[..., None], axis=-1)[..., 0]


def lipo_loss(
    logps: Float[Array, "*B K"],
    ref_logps: Float[Array, "*B K"],
    scores: Float[Array, "*B K"],
    mask: Bool[Array, "*B K"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """Listwise preference optimisation with lambda weights (LiPO-lambda), in any order.

    L = -sum_{r_i > r_j} |G_i - G_j| |1 / D_i - 1 / D_j| log sigmoid(s_i - s_j),
    s = beta (log pi - log pi_ref),   G = 2^r - 1,   D = log2(1 + rank of s), ranks from 1.

    The weight of a pair is the change of the list's DCG if the two exchanged places in the model's
    own order, so a pair has most weight at the top, and some even where s is already in order.
    Equal s are ranked in the order of the row.

    Args:
      scores: [*B, K] r, the paper's are in [0, 1]; above 40 they count as 40.
    Needs: scored lists, reference.
    Reduces to: |G_1 - G_2| (1 - 1 / log2 3) `dpo_loss` at K = 2.
    Reference: Liu et al. 2024, arXiv:2402.01878; the weights are LambdaLoss, Wang et al. 2018.
    Departs: the paper writes D = log(1 + rank); base 2, that of DCG, is a constant factor.
    """
    check_mask(mask=mask)
    check_range("(0, inf)", beta=beta)
    chex.assert_equal_shape([logps, ref_logps, scores, mask])
    mask &= jnp.isfinite(scores)
    log_ratios = jnp.where(mask, logps - jax.lax.stop_gradient(ref_logps), 0.0)
    model = beta * log_ratios
    order = jnp.argsort(-jnp.where(mask, model, -jnp.inf), axis=-1, stable=True)
    ranks = jnp.argsort(order, axis=-1) + 1  # the inverse permutation: place of each candidate
    scores = jax.lax.stop_gradient(jnp.where(mask, scores, 0.0))
    # 2^40 and products with it stay within float32.
    gains = jnp.exp2(jnp.minimum(scores, MAX_LOG_RATIO)) - 1.0
    discounts = 1.0 / jnp.log2(1.0 + ranks)
    weights = jnp.abs(_gaps(gains) * _gaps(discounts))
    pairs = jnp.where(_better(scores, mask), weights * logistic(_gaps(model)), 0.0)
    return jnp.sum(pairs, axis=(-2, -1))


def lire_loss(
    logps: Float[Array, "*B K"],
    scores: Float[Array, "*B K"],
    mask: Bool[Array, "*B K"],
    *,
    temperature: Scalar,
) -> Float[Array, "*B"]:
    """Listwise reward enhancement (LIRE), in any order.

    L = -sum_k q_k r_k,   q = softmax over the list of log pi(y_k | x) / T.

    The loss lies between -max r and -min r. Its gradient in log pi(y_k) is
    -q_k (r_k - sum_j q_j r_j) / T.

    Args:
      scores: [*B, K] r, comparable within a list.
      temperature: T > 0.
    Needs: scored lists; no reference.
    Reduces to: minus the expected score of pi at T = 1 if the list holds every answer; minus the
      mean of the scores as T grows.
    Reference: Zhu et al. 2024, arXiv:2405.13516.
    Departs: the authors' code puts the scores of a list through a softmax first.
    """
    check_range("(0, inf)", temperature=temperature)
    check_mask(mask=mask)
    chex.assert_equal_shape([logps, scores, mask])
    mask &= jnp.isfinite(scores)
    # Not -inf: the softmax of an empty list would be NaN. Set again after the division by T, which
    # may overflow it.
    lowest = jnp.finfo(logps.dtype).min
    logits = tempered(jnp.where(mask, logps, lowest), temperature=temperature)
    logits = jnp.where(mask, logits, lowest)
    scores = jax.lax.stop_gradient(jnp.where(mask, scores, 0.0))
    return -jnp.sum(jax.nn.softmax(logits, axis=-1) * scores, axis=-1)


def _gaps(x: Float[Array, "*B K"]) -> Float[Array, "*B K K"]:
    """x_i - x_j."""
    return x[..., :, None] - x[..., None, :]


def _better(scores: Float[Array, "*B K"], mask: Bool[Array, "*B K"]) -> Bool[Array, "*B K K"]:
    """[*B, i, j]: both are real and i has the higher score."""
    check_mask(mask=mask)
    return mask[..., :, None] & mask[..., None, :] & (_gaps(scores) > 0)
