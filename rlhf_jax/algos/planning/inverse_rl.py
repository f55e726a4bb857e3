"""Maximum-entropy inverse reinforcement learning with known dynamics: match an expert's features.

The reward is linear, r = <features, weights>. The planner and the occupancy of its policies are
functions given by the caller, exact or sampled. With a planner regularised towards a behaviour
clone, the plan is the KL-regularised policy of RLHF for the learned reward.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlhf_jax.checks import check_range
from rlhf_jax.types import Metrics, Scalar


class IRLState(NamedTuple):
    """weights: [d] of the reward; step: number of updates."""

    weights: Float[Array, " d"]
    step: Int[Array, ""]


class InverseRL(NamedTuple):
    """init: `() -> state`; plan: `state -> logps [H, S, A]`; update: `(state, expert_features [d])
    -> (state, metrics)`, all pure."""

    init: Callable[[], IRLState]
    plan: Callable[[IRLState], Array]
    update: Callable[[IRLState, Array], tuple[IRLState, Metrics]]


def mean_features(
    occupancy: Float[Array, "H S"],
    logps: Float[Array, "H S A"],
    features: Float[Array, "S A d"],
) -> Float[Array, " d"]:
    """Features per step of a policy: sum_h,s,a d_h(s) pi_h(a | s) features(s, a) / sum_h,s d_h(s).

    Args:
      occupancy: [H, S] d_h(s); rows of zeros do not count, so horizons can be padded.
      logps: [H, S, A] log pi, -inf allowed.
      features: [S, A, d].
    Returns:
      [d], in the hull of the features.
    """
    visits = jnp.einsum("hs,hsa->sa", occupancy, jnp.exp(logps))
    return jnp.einsum("sa,sad->d", visits, features) / jnp.sum(occupancy)


def max_ent_irl(
    features: Float[Array, "S A d"],
    plan: Callable[[Array], Array],
    occupancy: Callable[[Array], Array],
    *,
    eta: Scalar,
    clip: Scalar,
) -> InverseRL:
    """Gradient ascent on the likelihood of demonstrations, the dual of feature matching.

    weights <- clip(weights + eta (mu_expert - mu_pi)),   pi = plan(<features, weights>).

    Where transitions are deterministic, mu_expert - mu_pi is the gradient per step, times beta, of
    the mean log-likelihood under P(path) ~ ref(path) exp(return / beta); pi is its soft optimum.

    Args:
      features: [S, A, d]; one-hot states match state occupancies.
      plan: rewards [S, A] -> logps [H, S, A]; `exact.finite_mdp.soft_optimal` with a uniform
        reference is MaxEnt IRL, and with a behaviour clone as reference stays close to the clone.
      occupancy: logps [H, S, A] -> [H, S], the occupancy of that policy.
      eta: step size > 0. Features are means over steps, so eta does not depend on the horizon.
      clip: > 0, the weights stay within [-clip, clip]. A deterministic expert is matched only by
        infinite weights.
    Returns:
      InverseRL, starting at zero weights. Metrics: "irl/gap", the L1 distance between the mean
      features of the expert and of the policy, before the update.
    Reference: Ziebart et al. 2008, "Maximum entropy inverse reinforcement learning".
    Departs: clipped weights, a reference policy, and features as means over steps.
    """
    check_range("(0, inf)", eta=eta)

    def init() -> IRLState:
        return IRLState(jnp.zeros(features.shape[-1], features.dtype), jnp.zeros((), jnp.int32))

    def planned(state: IRLState) -> Array:
        return plan(features @ state.weights)

    def update(state: IRLState, expert_features: Array) -> tuple[IRLState, Metrics]:
        logps = planned(state)
        gaps = expert_features - mean_features(occupancy(logps), logps, features)
        weights = jnp.clip(state.weights + eta * gaps, -clip, clip)
        return IRLState(weights, state.step + 1), {"irl/gap": jnp.sum(jnp.abs(gaps))}

    return InverseRL(init, planned, update)
