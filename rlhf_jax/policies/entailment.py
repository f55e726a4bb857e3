"""A policy that writes yes or no, as a reward: the generative form of an entailment head."""

from collections.abc import Sequence
from dataclasses import replace

import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_mask
from rlhf_jax.ops.entailment import entailment_log_odds
from rlhf_jax.ops.returns import last_step
from rlhf_jax.types import Params, Policy, RewardFn, Trajectory


def entailment_logits(
    policy: Policy, params: Params, trajectory: Trajectory
) -> Float[Array, "*B A"]:
    """Logits of the last counted step of each row, where the verdict stands; NaN without one.

    The step's own action is not read: any token may stand there.
    """
    check_mask(mask=trajectory.mask)
    logits = policy.logits(params, trajectory.inputs)
    ends = last_step(trajectory.mask)[..., None]
    found = jnp.sum(jnp.where(ends, logits, 0.0), axis=-2)
    return jnp.where(jnp.any(ends, axis=-2), found, jnp.nan)


def at_verdict(
    trajectory: Trajectory, *, yes: Sequence[int], no: Sequence[int], stops: Sequence[int]
) -> Trajectory:
    """The rows with their mask where the verdict stands, for `entailment_reward`.

    A verdict is the last counted action before the stop, if it says yes or no. A row that ends
    otherwise, or without a stop, has none: its mask is False throughout.

    Args:
      yes, no: ids of the tokens that say so. stops: ids that end a row.
    """
    check_mask(mask=trajectory.mask)
    stopped = jnp.isin(trajectory.actions, jnp.asarray(stops)) & trajectory.mask
    said = jnp.isin(trajectory.actions, jnp.asarray((*yes, *no)))
    last = last_step(trajectory.mask & ~stopped) & said
    return replace(trajectory, mask=last & jnp.any(stopped, axis=-1, keepdims=True))


def entailment_reward(policy: Policy, *, yes: Sequence[int], no: Sequence[int]) -> RewardFn:
    """r = log P(yes) - log P(no) where a row writes its verdict; params are those of the policy.

    The inputs of a row are the question (prompt, answer and principle); its actions end with the
    verdict. What stands before is reasoning, sampled from the same policy or from none: the score
    is then conditional on it.

    Args:
      policy: any parametrisation with logits, e.g. `language_policy`.
      yes, no: ids of the tokens that say so, all spellings of each.
    Reference: Wang et al. 2025, arXiv:2509.21319.
    """

    def scores(params: Params, trajectory: Trajectory) -> Float[Array, "*B"]:
        return entailment_log_odds(entailment_logits(policy, params, trajectory), yes=yes, no=no)

    return RewardFn(policy.init, scores)
