"""Contrastive losses on the features of answers, to be added to the loss of a reward model.

Two views of each item, made e.g. by two dropout masks, should be alike, and different items not.

Shared arguments and results, unless a function says otherwise:
  features, views: [*B, N, d] h_s and h_t, the two views of N items of one batch. Only directions
    count: vectors are divided by their norms, and a vector of zeros is similar to nothing.
  chosen_features, rejected_features: [*B, N, d] of the answers of N pairs.
  mask: [*B, N] True where the item exists; values under False never matter. None for all.
  temperature: tau > 0. May be traced.
Losses are [*B, N], one for each item, unreduced, in nats, >= 0; 0 for missing items. Gradient flows
to both views and to prototypes. Shapes are checked at trace time.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.checks import check_mask, check_range
from rlhf_jax.ops.features import balanced_codes
from rlhf_jax.types import Scalar


def pair_items(
    chosen_features: Float[Array, "*B N d"], rejected_features: Float[Array, "*B N d"]
) -> Float[Array, "*B M d"]:
    """Both answers of each pair as items, M = 2 N: the chosen ones first.

    H = {f(y_w), f(y_l)}; the two answers to a prompt are then told apart like any other two.

    Needs: features of pairs.
    Reference: Wang et al. 2024, arXiv:2401.06080, items of Eq. 7 to 9.
    """
    chex.assert_equal_shape([chosen_features, rejected_features])
    return jnp.concatenate([chosen_features, rejected_features], axis=-2)


def difference_items(
    chosen_features: Float[Array, "*B N d"], rejected_features: Float[Array, "*B N d"]
) -> Float[Array, "*B M d"]:
    """Differences within pairs as items, in both directions, M = 2 N.

    H = {f(y_w) - f(y_l), f(y_l) - f(y_w)}; the two items of a pair have cosine -1.

    Needs: features of pairs.
    Reference: Wang et al. 2024, arXiv:2401.06080, items of Eq. 7 to 9.
    """
    chex.assert_equal_shape([chosen_features, rejected_features])
    gaps = chosen_features - rejected_features
    return pair_items(gaps, -gaps)


def simcse_loss(
    features: Float[Array, "*B N d"],
    views: Float[Array, "*B N d"],
    mask: Bool[Array, "*B N"] | None = None,
    *,
    temperature: Scalar,
) -> Float[Array, "*B N"]:
    """SimCSE: each item finds its other view among those of the batch.

    L_i = -log( exp(cos(h_s_i, h_t_i) / tau) / sum_j exp(cos(h_s_i, h_t_j) / tau) ), all items j.

    Needs: two views of features.
    Reference: Gao et al. 2021, arXiv:2104.08821; on reward models Wang et al. 2024,
      arXiv:2401.06080, Eq. 9.
    """
    check_range("(0, inf)", temperature=temperature)
    chex.assert_equal_shape([features, views])
    mask = _existing(features, mask)
    cosines = jnp.einsum("...id,...jd->...ij", _unit(features, mask), _unit(views, mask))
    logits = jnp.where(mask[..., None, :], cosines / temperature, -1e30)
    own = jnp.diagonal(logits, axis1=-2, axis2=-1)
    return jnp.where(mask, jax.nn.logsumexp(logits, axis=-1) - own, 0.0)


def swav_loss(
    features: Float[Array, "*B N d"],
    views: Float[Array, "*B N d"],
    prototypes: Float[Array, "*B K d"],
    mask: Bool[Array, "*B N"] | None = None,
    *,
    temperature: Scalar,
    eps: Scalar = 0.05,
    iterations: int = 3,
) -> Float[Array, "*B N"]:
    """SwAV: each view predicts the prototype that the other one is assigned to.

    L_i = l(h_t, q_s) + l(h_s, q_t),   l(h, q) = -sum_k q_k log softmax_k(cos(h, c_k) / tau).

    q are balanced codes, `ops.features.balanced_codes` of the cosines; they get no gradient.

    Args:
      prototypes: [*B, K, d] c, trained with the model.
      eps, iterations: as in `balanced_codes`.
    Needs: two views of features, prototypes.
    Reference: Caron et al. 2020, arXiv:2006.09882, Eq. 1 and 2; on reward models Wang et al. 2024,
      arXiv:2401.06080, Eq. 7 and 8.
    """
    check_range("(0, inf)", temperature=temperature)
    chex.assert_equal_shape([features, views])
    chex.assert_equal_shape([features[..., 0, :], prototypes[..., 0, :]])
    mask = _existing(features, mask)
    centres = _unit(prototypes, jnp.ones(prototypes.shape[:-1], bool))
    both = [jnp.einsum("...nd,...kd->...nk", _unit(x, mask), centres) for x in (features, views)]
    codes = [
        jax.lax.stop_gradient(balanced_codes(x, mask, eps=eps, iterations=iterations)) for x in both
    ]
    logps = [jax.nn.log_softmax(x / temperature, axis=-1) for x in both]
    return -jnp.sum(codes[0] * logps[1] + codes[1] * logps[0], axis=-1)


def _existing(features: Float[Array, "*B N d"], mask: Bool[Array, "*B N"] | None) -> Array:
    """[*B, N] the mask, all True for None."""
    mask = jnp.ones(features.shape[:-1], bool) if mask is None else mask
    check_mask(mask=mask)
    chex.assert_equal_shape([features[..., 0], mask])
    return mask


def _unit(x: Float[Array, "*B N d"], mask: Bool[Array, "*B N"]) -> Float[Array, "*B N d"]:
    """x / |x|, and 0 where x is 0 or missing."""
    x = jnp.where(mask[..., None], x, 0.0)
    square = jnp.sum(x**2, axis=-1, keepdims=True)
    # Two `where`s: the slope of sqrt is infinite at 0.
    zero = square == 0
    return jnp.where(zero, 0.0, x / jnp.sqrt(jnp.where(zero, 1.0, square)))
