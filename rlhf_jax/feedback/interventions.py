"""Interventions: a teacher sees the action that a learner proposes and may take over.

    rejected = rejected_by_share(action_values, ref_actions, share=0.97)      # [S, A], once
    probs = intervention_probs(rejected, rate=0.95)
    takes_over = interventions(key, probs[state, proposal])

The teacher judges by its own action values (optimal ones, or those of the expert who acts during
the takeover), not by the learner's. Constant `probs` give a teacher who takes over at random.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from rlhf_jax.checks import check_mask, check_range, entries
from rlhf_jax.types import Scalar


def rejected_by_margin(
    action_values: Float[Array, "*B A"], ref_actions: Int[Array, "*B"], *, margin: Scalar
) -> Bool[Array, "*B A"]:
    """Q(s, a_ref) > Q(s, a) + margin: the proposal is worse by more than an absolute margin.

    Args:
      action_values: [*B, A] Q of the teacher.
      ref_actions: [*B] the action that proposals are compared with.
      margin: >= 0, in the unit of Q; delta in the paper. May be traced.
    Returns:
      [*B, A] bool; the reference action itself is never rejected.
    Reference: Luo et al. 2023 (RLIF), arXiv:2311.12996.
    """
    check_range("[0, inf)", margin=margin)
    return _at_reference(action_values, ref_actions) > action_values + margin


def rejected_by_share(
    action_values: Float[Array, "*B A"], ref_actions: Int[Array, "*B"], *, share: Scalar
) -> Bool[Array, "*B A"]:
    """Q(s, a) < Q(s, a_ref) - (1 - share) |Q(s, a_ref)|: the margin is a share of the value.

    Args:
      action_values: [*B, A] Q of the teacher.
      ref_actions: [*B] the action that proposals are compared with.
      share: in (0, 1]; the threshold in the official code. May be traced.
    Returns:
      [*B, A] bool; the reference action itself is never rejected.
    Reference: Luo et al. 2023 (RLIF), arXiv:2311.12996, the rule of the official code.
    Departs: the official rule is Q(s, a) < share Q(s, a_ref), which rejects the reference itself if
      Q is negative. For Q(s, a_ref) >= 0 the two rules are the same.
    """
    check_range("(0, 1]", share=share)
    value = _at_reference(action_values, ref_actions)
    return action_values < value - (1 - share) * jnp.abs(value)


def _at_reference(action_values: Array, ref_actions: Array) -> Array:
    """Q(s, a_ref), [*B, 1]."""
    chex.assert_shape(ref_actions, action_values.shape[:-1])
    return entries(action_values, ref_actions=ref_actions)[..., None]


def intervention_probs(rejected: Bool[Array, "*B"], *, rate: Scalar) -> Float[Array, "*B"]:
    """P(the teacher takes over): rate if the proposal is rejected, 1 - rate if not.

    Args:
      rejected: [*B].
      rate: in [0, 1]; beta in the paper. May be traced.
    """
    check_mask(rejected=rejected)
    check_range("[0, 1]", rate=rate)
    return jnp.where(rejected, rate, 1.0 - rate)


def interventions(key: Key[Array, ""], probs: Float[Array, "*B"]) -> Bool[Array, "*B"]:
    """Whether the teacher takes over: Bernoulli(probs), one key for the whole batch."""
    return jax.random.uniform(key, probs.shape, probs.dtype) < probs


def intervention_loglik(
    taken_over: Bool[Array, "*B"], probs: Float[Array, "*B"]
) -> Float[Array, "*B"]:
    """Log-likelihood of interventions in nats: log p for a takeover, log(1 - p) otherwise.

    Args:
      taken_over: [*B].
      probs: [*B] probability of a takeover.
    """
    check_mask(taken_over=taken_over)
    chex.assert_equal_shape([taken_over, probs])
    return jnp.log(jnp.where(taken_over, probs, 1.0 - probs))
