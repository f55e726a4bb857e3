"""Reward models that should not use a spurious feature: losses of a whole batch of pairs.

A feature (length, a greeting, flattery) that goes with the label in the training data is used by a
reward model, and a policy then finds it. What tells it from quality is one of: environments in
which it goes with the label more or less, the feature itself, or an editor that changes it alone.

    losses = bradley_terry_loss(chosen, rejected)                                   # [N]
    total = vrex_loss(losses, environments, mask, count=2, penalty=10.0)            # []

Shared arguments and results:
  losses: [*B, N] of each pair. margins: [*B, N] z, the chosen score minus the rejected one.
  environments: [*B, N] int from 0 to count - 1, of each pair, see `ops.environments`; an
    environment without pairs is left out.
  mask: [*B, N] True where a pair counts; values under False never matter, NaN included.
  count: E, how many environments there are, >= 1.
  penalty: lambda >= 0.
Losses are [*B], one for a batch of N pairs, and 0 for a batch in which nothing counts. They are no
sums over pairs: the mean over micro-batches differs from the value of the whole batch. Shapes are
checked at trace time. Keyword numbers may be traced.

Reference: the forms are listed by Liu et al. 2023, arXiv:2307.16851.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.checks import check_mask, check_range
from rlhf_jax.losses.links import logistic
from rlhf_jax.ops.environments import environment_means, members
from rlhf_jax.ops.masking import centred, masked_mean
from rlhf_jax.types import Scalar

TINY = 1e-12  # beside a product of two variances


def vrex_loss(
    losses: Float[Array, "*B N"],
    environments: Int[Array, "*B N"],
    mask: Bool[Array, "*B N"],
    *,
    count: int,
    penalty: Scalar,
) -> Float[Array, "*B"]:
    """Risk extrapolation (V-REx): environments should be equally easy.

    L = mean_e R_e + lambda Var_e(R_e),   R_e the mean loss of environment e.

    Needs: losses of a batch, environments.
    Reduces to: the mean over environments at penalty = 0, the mean loss with one environment.
    Reference: Krueger et al. 2020, arXiv:2003.00688, Eq. 8.
    Departs: the mean of the risks in place of their sum, so lambda is the paper's over E.
    """
    check_range("[0, inf)", penalty=penalty)
    risks = environment_means(losses, environments, mask, count=count)
    # Not > 0: a weight is NaN where an environment has another number than 0 to count - 1.
    known = risks.weight != 0
    return _mean(risks.value(), known) + penalty * _variance(risks.value(), known)


def irm_loss(
    margins: Float[Array, "*B N"],
    environments: Int[Array, "*B N"],
    mask: Bool[Array, "*B N"],
    *,
    count: int,
    penalty: Scalar,
) -> Float[Array, "*B"]:
    """Invariant risk minimisation (IRMv1) of Bradley-Terry: no environment wants another scale.

    L = mean_e R_e + lambda mean_e D_e^2,   D_e = d/dw R_e(w z) at w = 1 = mean_{i in e} -z_i
    sigmoid(-z_i).

    Scores that would gain in one environment by a larger scale and lose in another by it depend on
    a feature that goes with the label in one more than in the other. A large lambda needs a small
    step: divide the loss by lambda, or use Adam.

    Needs: margins of a batch, environments.
    Reduces to: the mean over environments of `bradley_terry_loss` at penalty = 0.
    Reference: Arjovsky et al. 2019, arXiv:1907.02893, Eq. (IRMv1).
    Departs: means over environments in place of sums; D_e^2 of a small batch is biased upwards by
      the variance of D_e, which the authors' code avoids by a product of two halves.
    """
    check_range("[0, inf)", penalty=penalty)
    kept = jnp.where(mask, margins, 0.0)
    risks = environment_means(logistic(kept), environments, mask, count=count)
    slopes = environment_means(-kept * jax.nn.sigmoid(-kept), environments, mask, count=count)
    known = risks.weight != 0
    return _mean(risks.value(), known) + penalty * _mean(slopes.value() ** 2, known)


def mmd_penalty(
    margins: Float[Array, "*B N"],
    environments: Int[Array, "*B N"],
    mask: Bool[Array, "*B N"],
    *,
    count: int,
    bandwidth: Scalar,
) -> Float[Array, "*B"]:
    """Maximum mean discrepancy between the margins of environments, to be added to a loss.

    P = mean over pairs e < f of MMD^2(e, f),   MMD^2 = k_ee + k_ff - 2 k_ef,   k_ef = mean_{i in e,
    j in f} exp(-(z_i - z_j)^2 / (2 h^2)).

    It vanishes if and only if margins have one distribution in all environments. With the sign of a
    spurious feature as the environment, z is independent of the sign given the label.

    Args:
      bandwidth: h > 0, in the unit of margins.
    Needs: margins of a batch, environments.
    Reduces to: 0 with one environment.
    Reference: Gretton et al. 2012, "A kernel two-sample test" (the biased statistic).
    """
    check_range("(0, inf)", bandwidth=bandwidth)
    chex.assert_equal_shape([margins, mask])
    found = members(environments, mask, count=count).astype(margins.dtype)
    sizes = jnp.sum(found, axis=-1)
    shares = found / jnp.maximum(sizes, 1.0)[..., None]
    kept = jnp.where(mask, margins, 0.0)
    gaps = (kept[..., :, None] - kept[..., None, :]) / bandwidth
    means = jnp.einsum("...en,...nm,...fm->...ef", shares, jnp.exp(-0.5 * gaps**2), shares)
    own = jnp.diagonal(means, axis1=-2, axis2=-1)
    distances = own[..., :, None] + own[..., None, :] - 2.0 * means
    known = sizes != 0
    both = known[..., :, None] & known[..., None, :] & ~jnp.eye(count, dtype=bool)
    return masked_mean(distances, both, axis=(-2, -1))


def correlation_penalty(
    margins: Float[Array, "*B N"], features: Float[Array, "*B N"], mask: Bool[Array, "*B N"]
) -> Float[Array, "*B"]:
    """Squared correlation of margins with a named feature, to be added to a loss.

    P = Cov(z, s)^2 / (Var z Var s),   in [0, 1]; 0 where one of them is constant.

    The chosen answer stands first in every pair, so this is a dependence given the label, and right
    if people or their choice cause the feature. Over both orders of each pair, (z, s) and (-z, -s),
    it is the marginal dependence: it drives the weight of s below 0, as quality goes with s too.

    Args:
      features: [*B, N] s, the feature of the chosen answer minus that of the rejected one; no
        gradient.
    Needs: margins of a batch, a feature.
    Reference: Liu et al. 2023, arXiv:2307.16851 (independence from what should be ignored).
    Departs: derived; standardised, since a squared covariance grows without bound with the scores.
    """
    chex.assert_equal_shape([margins, features, mask])
    check_mask(mask=mask)
    weights = mask.astype(margins.dtype)
    kept = (jnp.where(mask, x, 0.0) for x in (margins, jax.lax.stop_gradient(features)))
    z, s = (_centred(x, weights) for x in kept)
    total = jnp.maximum(jnp.sum(weights, axis=-1), 1.0)
    shared, own, other = (jnp.sum(x, axis=-1) / total for x in (z * s, z * z, s * s))
    return shared**2 / (own * other + TINY)


def worst_case_margins(
    margins: Float[Array, "*B"], slopes: Float[Array, "*B d"], *, radius: Scalar
) -> Float[Array, "*B"]:
    """Margins under the worst change of features that is at most `radius` in each.

    z' = min_{|x' - x| <= R} z(x') = z - R sum_j |dz / dx_j|   (the largest norm of x' - x).

    Exact where the score is linear in these features, as that of the head of a reward model is in
    its last hidden state; elsewhere to first order. Any loss of margins then reads z': with one
    feature s it is a penalty R |w_s| inside the link.

    Args:
      margins: [*B] z.
      slopes: [*B, d] of the margin in the features that may change; gradient flows to them.
      radius: R >= 0, in the unit of the features.
    Needs: margins, their slopes.
    Reduces to: the margins at radius = 0.
    Reference: Goodfellow et al. 2014, arXiv:1412.6572, Section 5; the second master equation of
      Liu et al. 2023, arXiv:2307.16851.
    """
    check_range("[0, inf)", radius=radius)
    chex.assert_equal_shape([margins, slopes[..., 0]])
    return margins - radius * jnp.sum(jnp.abs(slopes), axis=-1)


def worst_copy_loss(losses: Float[Array, "*B N"], mask: Bool[Array, "*B N"]) -> Float[Array, "*B"]:
    """The highest loss of the copies of one pair: adversarial training over edits.

    L = max_a l_a,   at least mean_a l_a, which is plain augmentation.

    Args:
      losses: [*B, N] of the copies of each pair, which differ in what should be ignored.
    Needs: losses of copies.
    Reduces to: the loss itself with one copy.
    Reference: the second master equation of Liu et al. 2023, arXiv:2307.16851.
    """
    chex.assert_equal_shape([losses, mask])
    check_mask(mask=mask)
    highest = jnp.max(jnp.where(mask, losses, -jnp.inf), axis=-1)
    return jnp.where(jnp.any(mask, axis=-1), highest, 0.0)


def consistency_penalty(
    margins: Float[Array, "*B N"], mask: Bool[Array, "*B N"]
) -> Float[Array, "*B"]:
    """Variance of the margin over the copies of one pair, to be added to a loss.

    P = Var_a z_a;   0 if and only if the margin is the same for all copies.

    Args:
      margins: [*B, N] of the copies of each pair, which differ in what should be ignored.
    Needs: margins of copies.
    Reduces to: 0 with one copy.
    Reference: Liu et al. 2023, arXiv:2307.16851 (alignment of an example with its copies).
    """
    chex.assert_equal_shape([margins, mask])
    check_mask(mask=mask)
    return _variance(jnp.where(mask, margins, 0.0), mask)


def _mean(x: Float[Array, "*B E"], known: Bool[Array, "*B E"]) -> Float[Array, "*B"]:
    """Over the last axis, where known."""
    return masked_mean(x, known, axis=-1)


def _variance(x: Float[Array, "*B E"], known: Bool[Array, "*B E"]) -> Float[Array, "*B"]:
    """Population variance over the last axis, where known."""
    return _mean(_centred(x, known.astype(x.dtype)) ** 2, known)


def _centred(x: Float[Array, "*B N"], weights: Float[Array, "*B N"]) -> Float[Array, "*B N"]:
    """x minus its mean over the last axis, 0 where the weight is."""
    return centred(x, weights, axis=-1)
