"""What data say about a policy: spectra, ratios of coverage, confidence sets, offline guarantees.

An offline method can promise no more than its data cover. For a table that is a ratio of
probabilities, for a reward linear in features x an elliptical norm (`ops.elliptical`), and for a
language model the same with last-layer features. Pairs cover the differences of their features.

Shared arguments, unless a function says otherwise:
  design: [d, d] sum_i x_i x_i^T of the data, without a ridge.
  ridge: > 0, added to its diagonal.
"""

from typing import NamedTuple

import jax.numpy as jnp
import jax.scipy.linalg
from jaxtyping import Array, Bool, Float

from rlhf_jax.checks import check_entries, check_range
from rlhf_jax.ops.elliptical import elliptical_norms
from rlhf_jax.ops.linear_systems import cholesky, einsum
from rlhf_jax.types import Scalar


def design_matrix(
    features: Float[Array, "*B N d"], weights: Float[Array, "*B N"] | None = None
) -> Float[Array, "*B d d"]:
    """sum_i w_i x_i x_i^T: [*B, d, d]; weights >= 0, None means 1."""
    if weights is None:
        weights = jnp.ones(features.shape[:-1], features.dtype)
    known = jnp.where(weights[..., None] > 0, features, 0.0)
    return einsum("...ni,...n,...nj->...ij", known, weights, known)


def spectrum(design: Float[Array, "*B d d"]) -> Float[Array, "*B d"]:
    """Eigenvalues from largest to smallest, none below 0."""
    return jnp.maximum(jnp.linalg.eigvalsh(design)[..., ::-1], 0.0)


def effective_dimension(design: Float[Array, "*B d d"], *, ridge: Scalar) -> Float[Array, "*B"]:
    """sum_k l_k / (l_k + ridge) in [0, d]: directions that the data say more about than the ridge.

    Reference: Zhang 2005, Neural Computation 17.
    """
    check_range("(0, inf)", ridge=ridge)
    values = spectrum(design)
    return jnp.sum(values / (values + ridge), axis=-1)


def concentrability(logps: Float[Array, "*B A"], data_logps: Float[Array, "*B A"]) -> Array:
    """max_a pi(a) / mu(a): [*B], >= 1; inf where pi plays what mu never does.

    Args:
      logps, data_logps: log pi of the policy, log mu of whoever drew the data.
    Reference: Rashidinejad et al. 2021, arXiv:2103.12021, Definition 1.
    """
    played = jnp.isfinite(logps)
    gaps = jnp.where(played, logps, 0.0) - jnp.where(played, data_logps, 0.0)
    return jnp.exp(jnp.max(jnp.where(played, gaps, -jnp.inf), axis=-1))


def relative_condition(
    target: Float[Array, "d d"], design: Float[Array, "d d"], *, ridge: Scalar
) -> Float[Array, ""]:
    """max_v v^T T v / v^T (D + ridge I) v: how much more a policy varies than the data, at worst.

    Args:
      target: [d, d] E[x x^T] under the policy.
      design: [d, d] E[x x^T], or the sum, over the data.
    Reference: Agarwal et al. 2021, arXiv:1908.00261, Section 6.
    """
    check_range("(0, inf)", ridge=ridge)
    factor = cholesky(design + ridge * jnp.eye(design.shape[-1], dtype=design.dtype))
    half = jax.scipy.linalg.solve_triangular(factor, target, lower=True)
    whole = jax.scipy.linalg.solve_triangular(factor, half.T, lower=True)
    return jnp.linalg.eigvalsh((whole + whole.T) / 2)[-1]


def logistic_radius(
    design: Float[Array, "d d"],
    *,
    ridge: Scalar,
    slope: Scalar,
    bound: Scalar,
    confidence: Scalar = 0.95,
) -> Float[Array, ""]:
    """c with P(||w_hat - w||_V <= c) >= confidence, for logistic regression on pairs.

    c = sqrt((log det V - log det l I) / 2 + log(1 / (1 - confidence))) / (sqrt(2) s) + sqrt(l) B,
    V = D + l I, l = ridge / s.

    w_hat minimises the Bradley-Terry loss sum_i -log sigmoid(y_i w . x_i) + ridge |w|^2 / 2. Pairs
    may depend on earlier labels.

    The gradient at w is a martingale of steps e_i x_i, with e_i in an interval of length 1 and so
    1/2-sub-Gaussian: Abbasi-Yadkori et al. 2011, Theorem 1, bounds its norm. The Hessian is at
    least s V between w and w_hat, and the ridge moves w_hat by at most sqrt(l) B.

    Args:
      design: D, of differences of features.
      slope: s > 0, the least sigmoid'(v . x_i) for v between w and w_hat; sigmoid'(m) if no
        margin is larger than m.
      bound: B >= 0, at least |w|.
    Reference: Zhu et al. 2023, arXiv:2301.11270, Lemma 3.1, which leaves the constant open.
    """
    check_range("(0, inf)", ridge=ridge, slope=slope)
    check_range("[0, inf)", bound=bound)
    check_range("(0, 1)", confidence=confidence)
    scaled = ridge / slope
    gain = jnp.sum(jnp.log1p(spectrum(design) / scaled), axis=-1)
    noise = jnp.sqrt(gain / 2 - jnp.log1p(-confidence)) / (jnp.sqrt(2.0) * slope)
    return noise + jnp.sqrt(scaled) * bound


def lower_rewards(
    features: Float[Array, "*B d"],
    params: Float[Array, " d"],
    inverse: Float[Array, "d d"],
    *,
    radius: Scalar,
    origin: Float[Array, " d"] | float = 0.0,
) -> Float[Array, "*B"]:
    """min over ||w - w_hat||_V <= radius of w . (x - origin): w_hat . (x - o) - c ||x - o||_{V^-1}.

    The least reward in the confidence set, for pessimism; the greatest is minus that of -w_hat.

    Args:
      features: [*B, d] x.
      params, inverse: w_hat and V^-1.
      origin: [d], as pairs know a reward up to a constant, e.g. mean features of the reference.
    Reference: Zhu et al. 2023, arXiv:2301.11270, Section 3.2.
    """
    check_range("[0, inf)", radius=radius)
    moved = features - origin
    return moved @ params - radius * elliptical_norms(moved, inverse)


class Guarantee(NamedTuple):
    """bound: of the loss in reward. vacuous: it is no less than the range of rewards."""

    bound: Float[Array, "*B"]
    vacuous: Bool[Array, "*B"]


def offline_guarantee(
    norms: Float[Array, "*B"], *, radius: Scalar, reward_range: Scalar | Float[Array, "*B"]
) -> Guarantee:
    """What pessimism promises against a policy pi: J(pi) - J(pi_hat) <= 2 c E_pi ||x - o||_{V^-1}.

    pi_hat maximises `lower_rewards`, less any KL penalty, which J then has too.

    Args:
      norms: [*B] E_pi ||x - o||_{V^-1}, with the origin of `lower_rewards`.
      radius: c of the confidence set.
      reward_range: > 0, largest less smallest reward: no policy loses more.
    Reference: Zhu et al. 2023, arXiv:2301.11270, Theorem 3.2, with the norm of the mean, for a
      policy that is pessimistic about its mean.
    """
    check_range("[0, inf)", radius=radius)
    check_entries("(0, inf)", reward_range=reward_range)
    bound = 2 * radius * norms
    return Guarantee(bound, bound >= reward_range)
