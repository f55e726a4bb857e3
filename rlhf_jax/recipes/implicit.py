"""A policy trained on pairs, used as a reward model.

fitted = preference(stage, lab, rows, sft, fit, loss=partial(dpo_loss, beta=1.0))
judged = implicit_lab(lab, beta=1.0)
reward = model_reward(judged, {"policy": fitted, "reference": sft}, scale)
reward = implied_reward(judged, {"policy": fitted, "reference": sft}, scale, beta=1.0)
method = ppo(lab, PPOConfig(), critic, credit=gae_of_steps)     # each token paid its own part
"""

from typing import Any

import jax
import jax.numpy as jnp

from rlhf_jax.ops.returns import last_step
from rlhf_jax.policies.implicit import implicit_reward, implicit_token_rewards
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.recipes.offline import ScoreScale
from rlhf_jax.recipes.rewards import Reward, model_reward
from rlhf_jax.types import Params, Trajectory


def implicit_lab(lab: LanguageLab, *, beta: float, ref_weight: float = 1.0) -> LanguageLab:
    """The lab with `implicit_reward` of its policy in place of a scalar head."""
    reward = implicit_reward(lab.policy, beta=beta, ref_weight=ref_weight)
    policy = lab.axes["policy"]
    axes = {**lab.axes, "reward": {"policy": policy, "reference": policy}}
    return lab._replace(reward=reward, scores=jax.jit(reward.scores), axes=axes)


def implied_reward(
    judged: LanguageLab, params: Params, scale: ScoreScale, *, beta: float, ref_weight: float = 1.0
) -> Reward:
    """`model_reward` of an `implicit_lab` and, as rewards of steps, what each token adds to it.

    The mean of the scale is subtracted at the last token, so that the steps sum to the score.

    Args:
      beta, ref_weight: those of the lab.
    """
    tokens = implicit_token_rewards(judged.policy, beta=beta, ref_weight=ref_weight)

    def steps(params: Params, _: Any, trajectory: Trajectory) -> jax.Array:
        paid = jnp.where(last_step(trajectory.mask), params["mean"], 0.0)
        return (tokens(params["model"], trajectory) - paid) / params["std"]

    return model_reward(judged, params, scale)._replace(steps=steps)
