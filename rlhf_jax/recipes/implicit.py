"""A policy trained on pairs, used as a reward model.

fitted = preference(stage, lab, rows, sft, fit, loss=partial(dpo_loss, beta=1.0))
judged = implicit_lab(lab, beta=1.0)
reward = model_reward(judged, {"policy": fitted, "reference": sft}, scale)
"""

import jax

from rlhf_jax.policies.implicit import implicit_reward
from rlhf_jax.recipes.lab import LanguageLab


def implicit_lab(lab: LanguageLab, *, beta: float) -> LanguageLab:
    """The lab with `implicit_reward` of its policy in place of a scalar head."""
    reward = implicit_reward(lab.policy, beta=beta)
    policy = lab.axes["policy"]
    axes = {**lab.axes, "reward": {"policy": policy, "reference": policy}}
    return lab._replace(reward=reward, scores=jax.jit(reward.scores), axes=axes)
