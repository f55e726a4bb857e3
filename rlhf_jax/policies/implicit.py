"""A reward that two policies imply."""

import jax
from jaxtyping import Array, Float

from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.types import AnswerLogps, Params, Policy, RewardFn, Trajectory


def implicit_reward(
    policy: Policy, *, beta: float, logps: AnswerLogps = sequence_logps
) -> RewardFn:
    """r(x, y) = beta (log pi(y | x) - log pi_ref(y | x)), the reward that DPO fits.

    Bradley-Terry on these scores is the DPO loss, so the parameters are those of a policy trained
    by DPO and of its reference: {"policy", "reference"}.

    Args:
      beta: of the DPO loss, in units of reward per nat.
      logps: of an answer; `mean_logps` for a loss of mean log-probs.
    """

    def init(key: jax.Array) -> Params:
        params = policy.init(key)
        return {"policy": params, "reference": params}

    def scores(params: Params, trajectory: Trajectory) -> Float[Array, "*B"]:
        inputs, actions = trajectory.inputs, trajectory.actions
        trained, reference = (
            logps(policy.logps(params[part], inputs, actions), trajectory.mask)
            for part in ("policy", "reference")
        )
        return beta * (trained - reference)

    return RewardFn(init, scores)
