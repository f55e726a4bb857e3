"""Reinforcement learning from human feedback in JAX, from tables to TPU pods.

This page is the library's light surface: types, arithmetic and losses, none of which knows a
model. Update rules live in `rlhf_jax.algos`, policies in `rlhf_jax.policies`, worlds in
`rlhf_jax.envs`; each is imported by its own name. So are `rlhf_jax.ops.statistics`, for tables of
results, and what only the author of an update needs, such as `rlhf_jax.ops.masking.keep_weighted`.
"""

from rlhf_jax.losses.policy_gradient import clipped_value_loss, ppo_clip_loss, reinforce_loss
from rlhf_jax.losses.preference import dpo_loss, ipo_loss
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.kl import exact_kl, k1, k2, k3
from rlhf_jax.ops.logprobs import entropy, mean_logps, ratios, sequence_logps, token_logps
from rlhf_jax.ops.masking import Mean, masked_mean, masked_sum, weighted_mean, whiten
from rlhf_jax.ops.returns import answer_discounts, answer_rewards, gae, last_step
from rlhf_jax.types import Policy, PreferenceBatch, RewardFn, TrainState, Trajectory, ValueFn

__version__ = "0.1.0"

__all__ = [
    "Mean",
    "Policy",
    "PreferenceBatch",
    "RewardFn",
    "TrainState",
    "Trajectory",
    "ValueFn",
    "answer_discounts",
    "answer_rewards",
    "bradley_terry_loss",
    "clipped_value_loss",
    "dpo_loss",
    "entropy",
    "exact_kl",
    "gae",
    "ipo_loss",
    "k1",
    "k2",
    "k3",
    "last_step",
    "masked_mean",
    "masked_sum",
    "mean_logps",
    "ppo_clip_loss",
    "ratios",
    "reinforce_loss",
    "sequence_logps",
    "token_logps",
    "weighted_mean",
    "whiten",
]
