"""Links: the loss of one margin. A pairwise objective is a link applied to a gap of two scores.

A margin z is positive where the model agrees with the label. Everything else (the score, the
reference, length, weights) happens before the link.

Shared arguments and results, unless a function says otherwise:
  margins: [*B] z in nats, any real.
  label_smoothing: h, the probability that a label is wrong, in [0, 1/2).
Losses are [*B], unreduced, >= 0. Shapes are checked at trace time. Keyword numbers may be traced.
Needs: margins.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range, shares
from rlhf_jax.ops.logprobs import MAX_LOG_RATIO, above_underflow
from rlhf_jax.types import Scalar


def logistic(margins: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Logistic link, the negative log-likelihood of a comparison.

    L = -log sigmoid(z) = softplus(-z).

    Reference: Bradley and Terry 1952.
    """
    # Not log of a sigmoid, which is log 0 far below 0.
    return jax.nn.softplus(-margins)


def soft_logistic(margins: Float[Array, "*B"], prefs: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Soft-label cross-entropy.

    L = -p log sigmoid(z) - (1 - p) log sigmoid(-z); minimum at z = logit p, slope sigmoid(z) - p.

    Args:
      prefs: [*B] p in [0, 1], probability that the first answer is preferred; no gradient. Any
        other number, such as the label -1 of a tie, gives NaN.
    Needs: margins, soft labels.
    Reduces to: `logistic` at p = 1; `smoothed_logistic` at p = 1 - label_smoothing.
    """
    chex.assert_equal_shape([margins, prefs])
    prefs = shares(prefs)
    return prefs * logistic(margins) + (1.0 - prefs) * logistic(-margins)


def smoothed_logistic(
    margins: Float[Array, "*B"], *, label_smoothing: Scalar
) -> Float[Array, "*B"]:
    """Logistic link with label smoothing: the label is wrong with probability h.

    L = -(1 - h) log sigmoid(z) - h log sigmoid(-z); minimum at z = logit(1 - h).

    Reduces to: `logistic` at label_smoothing = 0.
    Reference: Mitchell 2023, "A note on DPO with noisy preferences and relationship to IPO".
    """
    check_range("[0, 1/2)", label_smoothing=label_smoothing)
    return (1.0 - label_smoothing) * logistic(margins) + label_smoothing * logistic(-margins)


def robust_logistic(margins: Float[Array, "*B"], *, label_smoothing: Scalar) -> Float[Array, "*B"]:
    """Noise-corrected logistic link, unbiased for clean labels when a share h of them is flipped.

    L = [-(1 - h) log sigmoid(z) + h log sigmoid(-z)] / (1 - 2 h); unbounded below as z grows.

    Reduces to: `logistic` at label_smoothing = 0; its mean over flips is `logistic` at any h.
    Reference: Chowdhury et al. 2024, arXiv:2403.00409; Natarajan et al. 2013 for the estimator.
    """
    check_range("[0, 1/2)", label_smoothing=label_smoothing)
    kept = (1.0 - label_smoothing) * logistic(margins) - label_smoothing * logistic(-margins)
    return kept / (1.0 - 2.0 * label_smoothing)


def hinge(margins: Float[Array, "*B"], *, target: Scalar = 1.0) -> Float[Array, "*B"]:
    """Hinge link.

    L = max(0, target - z).

    Args:
      target: the margin at which the loss ends, any real.
    """
    check_range("(-inf, inf)", target=target)
    return jax.nn.relu(target - margins)


def squared(margins: Float[Array, "*B"], targets: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Squared link: regression of the margin on a target.

    L = (z - z*)^2, with z* = `targets` as data.

    Needs: margins, targets.
    """
    chex.assert_equal_shape([margins, targets])
    return (margins - jax.lax.stop_gradient(targets)) ** 2


def exo(margins: Float[Array, "*B"], *, label_smoothing: Scalar) -> Float[Array, "*B"]:
    """Reverse cross-entropy link: KL from the model's probabilities to the smoothed label's.

    L = sigmoid(z) [log sigmoid(z) - log(1 - h)] + sigmoid(-z) [log sigmoid(-z) - log h]
    = KL((sigmoid(z), sigmoid(-z)) || (1 - h, h)); 0 at z = logit(1 - h).

    The loss is flat far from 0, between 0 and -log h.

    Args:
      label_smoothing: h in (0, 1/2); 0 has no finite loss.
    Reference: Ji et al. 2024, arXiv:2402.00856.
    """
    check_range("(0, 1/2)", label_smoothing=label_smoothing)
    # log sigmoid(z) = -logistic(z), finite where the sigmoid itself is 0.
    won, lost = jax.nn.sigmoid(margins), jax.nn.sigmoid(-margins)
    return won * (-logistic(margins) - jnp.log1p(-label_smoothing)) + lost * (
        -logistic(-margins) - jnp.log(label_smoothing)
    )


def discopop(margins: Float[Array, "*B"], *, temperature: Scalar = 0.05) -> Float[Array, "*B"]:
    """DiscoPOP link, the log-ratio modulated mix of a logistic and an exponential loss.

    L = (1 - g) softplus(-z) + g exp(-z),   g = sigmoid(z / temperature).

    Not convex: at temperature 0.05 a local minimum lies just below z = 0. Far below 0 the loss is
    linear for temperature < 1; for temperature > 1 it grows as exp(-(1 - 1 / temperature) z), with
    the exponent stopped at 40.

    Args:
      temperature: > 0; small values switch sharply at z = 0.
    Reduces to: the mean of `logistic` and exp(-z) as temperature grows.
    Reference: Lu et al. 2024, arXiv:2406.08414.
    """
    check_range("(0, inf)", temperature=temperature)
    sharp = margins / above_underflow(temperature, margins.dtype)
    # g exp(-z) in one exponent: as a product it would be 0 * inf = NaN far below 0.
    exponent = -jax.nn.softplus(-sharp) - margins
    exponential = jnp.exp(jnp.minimum(exponent, MAX_LOG_RATIO))
    return jax.nn.sigmoid(-sharp) * logistic(margins) + exponential
