"""Expectile regression: a value between the mean and the maximum of observed targets."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range
from rlhf_jax.types import Scalar


def expectile_loss(
    values: Float[Array, "*S"], targets: Float[Array, "*S"], *, expectile: Scalar
) -> Float[Array, "*S"]:
    """Expectile regression, one value per step.

    L = |e - 1[u < 0]| u^2,   u = G - V; minimum where e E[(u)^+] = (1 - e) E[(-u)^+].

    With targets Q(s, a) of the actions in a data set, V(s) goes from their mean (e = 1/2) to the
    value of the best of them (e -> 1); actions outside the data are never evaluated.

    Args:
      values: [*S] V being trained, in the unit of reward; the gradient flows to it only.
      targets: [*S] G; data.
      expectile: e in (0, 1); the paper's tau.
    Needs: values, targets.
    Reduces to: `value_loss` at expectile = 1/2.
    Reference: Kostrikov et al. 2021, arXiv:2110.06169, Eq. 5 (implicit Q-learning).
    """
    check_range("(0, 1)", expectile=expectile)
    chex.assert_equal_shape([values, targets])
    errors = jax.lax.stop_gradient(targets) - values
    return jnp.where(errors < 0, 1.0 - expectile, expectile) * errors**2
