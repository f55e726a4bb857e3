"""Arithmetic on features of answers: dropout, and codes that use every prototype equally."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from rlhf_jax.checks import check_mask, check_range
from rlhf_jax.types import Scalar


def drop_features(
    features: Float[Array, "*S"], key: Key[Array, ""] | None, *, rate: Scalar
) -> Float[Array, "*S"]:
    """Dropout: each feature is 0 with probability `rate`, else divided by 1 - rate.

    Args:
      key: None leaves the features as they are.
      rate: in [0, 1). May be traced.
    """
    check_range("[0, 1)", rate=rate)
    if key is None:
        return features
    kept = jax.random.uniform(key, features.shape) >= rate
    return jnp.where(kept, features / (1.0 - rate), 0.0)


def balanced_codes(
    scores: Float[Array, "*B N K"],
    mask: Bool[Array, "*B N"] | None = None,
    *,
    eps: Scalar = 0.05,
    iterations: int = 3,
) -> Float[Array, "*B N K"]:
    """Codes of SwAV: a balanced assignment by Sinkhorn's iterations.

    Q = diag(u) exp(scores / eps) diag(v): every item's code sums to 1, and with enough iterations
    every prototype gets N / K of the items.

    Args:
      scores: [*B, N, K] similarity of each item to each prototype.
      mask: [*B, N] True where the item exists; values under False never matter. None for all.
      eps: entropy of the codes, > 0. May be traced.
      iterations: of both normalisations, >= 0; 0 is a softmax of scores / eps.
    Returns:
      [*B, N, K], 0 for missing items. Differentiable; SwAV stops the gradient.
    Needs: similarities of items to prototypes.
    Reduces to: a softmax of scores / eps at iterations = 0.
    Reference: Caron et al. 2020, arXiv:2006.09882, Eq. 3 to 5.
    """
    check_range("(0, inf)", eps=eps)
    check_range("[0, inf)", iterations=iterations)
    exists = jnp.ones(scores.shape[:-1], bool) if mask is None else mask
    check_mask(mask=exists)
    exists = exists[..., None]
    # In logarithms, since exp(1 / 0.05) is 5e8. Not -inf: its difference would be NaN.
    logs = jnp.where(exists, scores / eps, 0.0)
    for _ in range(iterations):
        seen = jnp.where(exists, logs, -1e30)
        logs = logs - jax.nn.logsumexp(seen, axis=-2, keepdims=True)
        logs = jax.nn.log_softmax(logs, axis=-1)
    return jnp.where(exists, jax.nn.softmax(logs, axis=-1), 0.0)
