"""Linear MDPs, exactly: action values as weights on the features, and what data cover of them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range
from rlhf_jax.envs.linear_mdp import LinearMDP, to_finite_mdp
from rlhf_jax.exact import finite_mdp
from rlhf_jax.ops.coverage import relative_condition
from rlhf_jax.ops.linear_systems import einsum
from rlhf_jax.types import Scalar


def weights_of_values(mdp: LinearMDP, values: Float[Array, "G S"]) -> Float[Array, "H d"]:
    """w_h = theta_h + sum_s' mu_h(s') V_{h+1}(s'), so that r_h + P_h V_{h+1} = <phi, w_h>.

    Args:
      values: [H + 1, S] any values; row 0 is not used.
    Reference: Jin et al. 2019, arXiv:1907.05388, Proposition 2.3.
    """
    return mdp.reward_weights + einsum("hdk,hk->hd", mdp.measures, values[1:])


def linear_weights(mdp: LinearMDP, logps: Float[Array, "H S A"]) -> Float[Array, "H d"]:
    """Weights w_h of Q^pi_h = <phi, w_h>, which exist for every policy.

    Args:
      logps: [H, S, A] log pi.
    Reference: Jin et al. 2019, arXiv:1907.05388, Proposition 2.3.
    """
    return weights_of_values(mdp, finite_mdp.evaluate(to_finite_mdp(mdp), logps).values)


def feature_covariance(mdp: LinearMDP, logps: Float[Array, "H S A"]) -> Float[Array, "H d d"]:
    """E_pi[phi_h phi_h^T] = sum_{s,a} d_h(s) pi_h(a | s) phi(s, a) phi(s, a)^T, for each step.

    Args:
      logps: [H, S, A] log pi.
    """
    states = finite_mdp.occupancy(to_finite_mdp(mdp), logps)
    visits = states[..., None] * jnp.exp(logps)
    return einsum("hij,ijd,ije->hde", visits, mdp.features, mdp.features)


def feature_coverage(
    mdp: LinearMDP,
    logps: Float[Array, "H S A"],
    data_logps: Float[Array, "H S A"],
    *,
    episodes: Scalar,
    ridge: Scalar,
) -> Float[Array, "H"]:
    """max_v v^T E_pi[phi phi^T] v / v^T (n E_mu[phi phi^T] + ridge I) v, for each step.

    A table, `one_hot_features`, has max_{s,a} d_pi(s, a) / (n d_mu(s, a) + ridge).

    Args:
      logps, data_logps: [H, S, A] log pi of the policy, log mu of whoever drew the data.
      episodes: n > 0, of the data. ridge: > 0.
    Reference: Jin et al. 2021, arXiv:2012.15085, "sufficient coverage".
    """
    check_range("(0, inf)", episodes=episodes)
    target, data = (feature_covariance(mdp, each) for each in (logps, data_logps))
    return jax.vmap(lambda x, y: relative_condition(x, y, ridge=ridge))(target, episodes * data)
