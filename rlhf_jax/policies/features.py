"""Reward models that see an answer through a few named features, and nothing else of it.

    reward = bottleneck_reward(given_features, make_mlp((7, 1)))   # linear in seven features
    batch = PreferenceBatch(vector_trajectory(chosen), vector_trajectory(rejected))
    update = reward_model.make_update(reward, optimizer)           # Bradley-Terry

Features v are [*B, d], best in [0, 1]. They come from a table (`given_features`), from frozen
reward models (`model_features`), or from a Python function over texts (`rewards.features`). No
gradient flows into them, so only the small network f is trained.

Reference: Nath et al. 2024, arXiv:2402.15473.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.models.mlp import MLP
from rlhf_jax.types import Params, RewardFn, Trajectory


@runtime_checkable
class FeatureFn(Protocol):
    """Features of answers; pure."""

    def __call__(self, trajectory: Trajectory, /) -> Float[Array, "*B d"]:
        """One row of d features for each answer."""
        ...


def bottleneck_reward(features: FeatureFn, network: MLP) -> RewardFn:
    """score = f(v(x, y)), v without gradient; params are those of f.

    With one layer, `make_mlp((d, 1))`, the Bradley-Terry loss is convex, the weight of a
    feature is the log-odds that it adds when it rises from 0 to 1, and the bias cancels in pairs.

    Args:
      features: v.
      network: f, d inputs and one output; the last layer must be linear, as `make_mlp` has it.
    Departs: the authors' code has no activation between the middle layers and a ReLU after the
      last one, under which all scores below 0 are 0 and have no gradient.
    """

    def scores(params: Params, trajectory: Trajectory) -> Float[Array, "*B"]:
        rows = jax.lax.stop_gradient(features(trajectory))
        outputs = network.apply(params, rows)
        if outputs.shape[-1] != 1:
            raise ValueError(f"the network must have one output, it has {outputs.shape[-1]}")
        return outputs[..., 0]

    return RewardFn(network.init, scores)


def bounded_reward(reward: RewardFn) -> RewardFn:
    """score = sigmoid(r(x, y)), in (0, 1): what the paper hands to PPO.

    Its order is that of r. It is for a policy, not for fitting: a pair then has at most sigmoid(1).
    """
    return RewardFn(
        reward.init,
        lambda params, trajectory: jax.nn.sigmoid(reward.scores(params, trajectory)),
    )


def mean_weights(num_features: int) -> Params:
    """Params of `make_mlp((d, 1))` that score an answer by the mean of its features.

    The baseline that needs no comparisons; all features must point the same way.
    """
    weight = jnp.full((num_features, 1), 1.0 / num_features, jnp.float32)
    return ({"weight": weight, "bias": jnp.zeros(1, jnp.float32)},)


def given_features(trajectory: Trajectory) -> Float[Array, "*B d"]:
    """The inputs [*B, 1, d] of `latent.vector_trajectory`.

    Raises:
      ValueError: more than one step.
    """
    if trajectory.mask.shape[-1] != 1:
        raise ValueError(
            f"features of a whole answer are one step, got {trajectory.mask.shape[-1]} steps"
        )
    return trajectory.inputs[..., 0, :]


def model_features(scorers: Mapping[str, tuple[RewardFn, Params]]) -> FeatureFn:
    """v_k = sigmoid(r_k(x, y)) of frozen reward models, in the order of the mapping.

    Scoring on the device, where asking a judge for every feature of every sampled answer would cost
    too much: each model is a judge's ratings distilled.

    Args:
      scorers: name of the feature -> the model and its params.
    Raises:
      ValueError: no scorers.
    """
    if not scorers:
        raise ValueError("scorers must have at least one feature")

    def features(trajectory: Trajectory) -> Float[Array, "*B d"]:
        scores = [reward.scores(params, trajectory) for reward, params in scorers.values()]
        return jax.nn.sigmoid(jnp.stack(scores, axis=-1))

    return features
