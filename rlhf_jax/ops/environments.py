"""Examples in environments: domains, annotators, groups, or cells of a label and a feature.

Shared arguments and results:
  environments: int, the environment of each example, from 0 to count - 1. Another number of an
    example that counts makes the result NaN.
  mask: True where an example counts; values under False never matter, NaN included.
  count: E, how many environments there are, >= 1.
Shapes are checked at trace time. An environment without examples is left out of every mean over
environments.
"""

from functools import partial

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.checks import check_ids, check_mask, check_range
from rlhf_jax.ops.masking import Mean
from rlhf_jax.types import Scalar


def members(
    environments: Int[Array, "*B N"], mask: Bool[Array, "*B N"], *, count: int
) -> Float[Array, "*B E N"]:
    """Which examples are in which environment.

    m_ei = 1 if example i counts and is in environment e, else 0.

    Needs: environments.
    """
    check_ids(environments=environments)
    check_mask(mask=mask)
    check_range("[1, inf)", count=count)
    chex.assert_equal_shape([environments, mask])
    among = environments[..., None, :] == jnp.arange(count)[:, None]
    outside = mask & ((environments < 0) | (environments >= count))
    found = jnp.where(mask[..., None, :] & among, 1.0, 0.0)
    return jnp.where(jnp.any(outside, axis=-1)[..., None, None], jnp.nan, found)


def environment_means(
    x: Float[Array, "*B N"],
    environments: Int[Array, "*B N"],
    mask: Bool[Array, "*B N"],
    *,
    count: int,
) -> Mean:
    """Mean of each environment, as a `Mean` of [*B, E] that shards may add up first.

    R_e = sum_{i in e} x_i / n_e;   weight 0 for an environment without examples.

    Needs: one number of each example, environments.
    Reduces to: the mean over examples at count = 1.
    """
    chex.assert_equal_shape([x, mask])
    found = members(environments, mask, count=count).astype(x.dtype)
    counted = jnp.where(mask, x, 0.0)
    return Mean(jnp.einsum("...en,...n->...e", found, counted), jnp.sum(found, axis=-1))


def balanced_weights(
    environments: Int[Array, "*B N"], mask: Bool[Array, "*B N"], *, count: int
) -> Float[Array, "*B N"]:
    """Weights under which all environments have the same share: a mean of 1, 0 under the mask.

    w_i = n / (E' n_e) of the environment e of example i, E' the number of those with examples.

    With cells of a label and the sign of a spurious feature as environments, label and sign are
    independent under these weights: inverse propensity for a feature that is a sign.

    Needs: environments.
    Reduces to: 1 where all environments are of one size.
    Reference: Liu et al. 2023, arXiv:2307.16851 (reweighting as an intervention).
    """
    found = members(environments, mask, count=count)
    sizes = jnp.sum(found, axis=-1, keepdims=True)
    used = jnp.sum(sizes > 0, axis=-2, keepdims=True)
    each = jnp.sum(sizes, axis=-2, keepdims=True) / jnp.maximum(used * sizes, 1.0)
    return jnp.sum(found * each, axis=-2)


@partial(jax.custom_vjp)
def _reversed(x: Float[Array, "*S"], scale: Scalar) -> Float[Array, "*S"]:
    """x, with the gradient of `reversed_gradient`."""
    del scale
    return x


def _forwards(x, scale):
    return x, scale


def _backwards(scale, slope):
    return -scale * slope, jnp.zeros_like(scale)


_reversed.defvjp(_forwards, _backwards)


def reversed_gradient(x: Float[Array, "*S"], *, scale: Scalar) -> Float[Array, "*S"]:
    """x itself, whose gradient is turned round: what stands before it works against what follows.

    y = x,   dL/dx = -scale dL/dy.

    A discriminator that reads y learns to tell environments apart, and the features x learn to hide
    them: min_{h, g} max_D R(g h) - scale L_D(D h) in one gradient step.

    Args:
      scale: lambda, >= 0.
    Needs: features that a discriminator reads.
    Reference: Ganin and Lempitsky 2015, arXiv:1409.7495; the first master equation of Liu et al.
      2023, arXiv:2307.16851.
    """
    check_range("[0, inf)", scale=scale)
    return _reversed(x, jnp.asarray(scale, x.dtype))
