"""A reward that two policies imply, of an answer and of its tokens."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.types import AnswerLogps, Params, Policy, RewardFn, Trajectory


def implicit_reward(
    policy: Policy, *, beta: float, ref_weight: float = 1.0, logps: AnswerLogps = sequence_logps
) -> RewardFn:
    """r(x, y) = beta (log pi(y | x) - w log pi_ref(y | x)), with w = 1 the reward that DPO fits.

    Bradley-Terry on these scores is the DPO loss, so the parameters are those of a policy trained
    by DPO and of its reference: {"policy", "reference"}.

    Args:
      beta: of the DPO loss, in units of reward per nat.
      ref_weight: w in [0, 1]; below 1 an answer is worth more where the reference finds it likely,
        at 0 the reward is that of a loss without a reference.
      logps: of an answer; `mean_logps` for a loss of mean log-probs.
    """

    check_range("[0, 1]", ref_weight=ref_weight)

    def init(key: jax.Array) -> Params:
        params = policy.init(key)
        return {"policy": params, "reference": params}

    def scores(params: Params, trajectory: Trajectory) -> Float[Array, "*B"]:
        inputs, actions = trajectory.inputs, trajectory.actions
        trained, reference = (
            logps(policy.logps(params[part], inputs, actions), trajectory.mask)
            for part in ("policy", "reference")
        )
        return beta * (trained - ref_weight * reference)

    return RewardFn(init, scores)


def implicit_token_rewards(
    policy: Policy, *, beta: float, ref_weight: float = 1.0
) -> Callable[[Params, Trajectory], Float[Array, "*B T"]]:
    """r_t = beta (log pi(a_t | s_t) - w log pi_ref(a_t | s_t)), which sum to `implicit_reward`.

    Paid token by token it is the same return with the credit where it was earned: up to potential
    shaping and at w = 1 r_t is the advantage of a_t for the policy that is optimal for the answer's
    reward.

    Args:
      policy, beta, ref_weight, and the parameters: as in `implicit_reward`.
    Returns:
      `(params, trajectory) -> [*B, T]`, 0 where the mask is False.
    Reference: Rafailov et al. 2024, arXiv:2404.12358.
    """

    check_range("[0, 1]", ref_weight=ref_weight)

    def rewards(params: Params, trajectory: Trajectory) -> Float[Array, "*B T"]:
        inputs, actions = trajectory.inputs, trajectory.actions
        trained, reference = (
            policy.logps(params[part], inputs, actions) for part in ("policy", "reference")
        )
        return jnp.where(trajectory.mask, beta * (trained - ref_weight * reference), 0.0)

    return rewards
