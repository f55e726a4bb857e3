"""Exact action values of linear MDPs, as weights on their features."""

from jaxtyping import Array, Float

from rlhf_jax.envs.linear_mdp import LinearMDP, to_finite_mdp
from rlhf_jax.exact import finite_mdp
from rlhf_jax.ops.linear_systems import einsum


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
