"""Reward models that should not use a spurious feature: updates on risks of a whole batch.

    risk = partial(vrex_risk, count=2, penalty=10.0)
    update = robust_reward.make_update(reward, optimizer, risk=risk)     # columns["environments"]
    update = make_group_dro_update(reward, optimizer, count=2, eta=0.05) # the same, with a state
    update = make_copies_update(reward, optimizer, worst=True)           # pairs [B, N] of N copies

| method | what it knows | function |
|---|---|---|
| ERM | nothing | `reward_model.make_update`; reweighted with `ops.balanced_weights` as weights |
| V-REx, IRM, MMD | the environment of a pair | `vrex_risk`, `irm_risk`, `mmd_risk` |
| group DRO | the same | `make_group_dro_update` |
| decorrelation | the feature of a pair | `correlation_risk` |
| adversary of the features | the group of an answer | `make_adversarial_update` |
| augmentation, worst copy, consistency | copies that differ in the feature | `make_copies_update` |

No risk is a sum over pairs, so there are no micro-batches.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.algos.gradient import Diagnostics, gradient_step, init_state
from rlhf_jax.algos.reward_model import scored_objective
from rlhf_jax.checks import check_range
from rlhf_jax.losses.preference import group_weights
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.losses.robust_reward import (
    consistency_penalty,
    correlation_penalty,
    irm_loss,
    mmd_penalty,
    vrex_loss,
    worst_copy_loss,
)
from rlhf_jax.ops.aggregate import known_values, weighted_rewards
from rlhf_jax.ops.environments import environment_means, reversed_gradient
from rlhf_jax.ops.masking import Mean, keep_weighted, masked_mean, weighted_mean
from rlhf_jax.types import (
    Params,
    PreferenceBatch,
    RewardFn,
    Scalar,
    TrainState,
    Trajectory,
    Update,
)

# (chosen [N], rejected [N], mask [N], **columns [N]) -> [], the risk of a batch of pairs.
Risk = Callable[..., Float[Array, ""]]
AnswerFeatures = Callable[[Params, Trajectory], Float[Array, "*B d"]]
WEIGHTS = "weights"  # carries the new state out of the gradient


class GroupState(NamedTuple):
    """train: of the reward. weights: [E] >= 0, sum 1, of the environments."""

    train: TrainState
    weights: Array


class AdversarialParams(NamedTuple):
    """reward: of the model. discriminator: weights [d, E] and biases [E]."""

    reward: Params
    discriminator: tuple[Array, Array]


# ---- Risks of a batch.


def vrex_risk(
    chosen: Float[Array, "N"],
    rejected: Float[Array, "N"],
    mask: Bool[Array, "N"],
    *,
    environments: Int[Array, "N"],
    count: int,
    penalty: Scalar,
) -> Float[Array, ""]:
    """`vrex_loss` of Bradley-Terry."""
    losses = bradley_terry_loss(chosen, rejected)
    return vrex_loss(losses, environments, mask, count=count, penalty=penalty)


def irm_risk(
    chosen: Float[Array, "N"],
    rejected: Float[Array, "N"],
    mask: Bool[Array, "N"],
    *,
    environments: Int[Array, "N"],
    count: int,
    penalty: Scalar,
) -> Float[Array, ""]:
    """`irm_loss`."""
    return irm_loss(chosen - rejected, environments, mask, count=count, penalty=penalty)


def mmd_risk(
    chosen: Float[Array, "N"],
    rejected: Float[Array, "N"],
    mask: Bool[Array, "N"],
    *,
    environments: Int[Array, "N"],
    count: int,
    penalty: Scalar,
    bandwidth: Scalar = 1.0,
) -> Float[Array, ""]:
    """Mean of Bradley-Terry + penalty * `mmd_penalty`."""
    apart = mmd_penalty(chosen - rejected, environments, mask, count=count, bandwidth=bandwidth)
    return _mean_loss(chosen, rejected, mask) + penalty * apart


def correlation_risk(
    chosen: Float[Array, "N"],
    rejected: Float[Array, "N"],
    mask: Bool[Array, "N"],
    *,
    features: Float[Array, "N"],
    penalty: Scalar,
) -> Float[Array, ""]:
    """Mean of Bradley-Terry + penalty * `correlation_penalty`."""
    shared = correlation_penalty(chosen - rejected, features, mask)
    return _mean_loss(chosen, rejected, mask) + penalty * shared


def _mean_loss(chosen: Array, rejected: Array, mask: Array) -> Float[Array, ""]:
    """Mean Bradley-Terry loss of the pairs that count."""
    return masked_mean(bradley_terry_loss(chosen, rejected), mask)


# ---- Updates.


def make_update(
    reward: RewardFn, optimizer: optax.GradientTransformation, *, risk: Risk
) -> Update[TrainState, PreferenceBatch]:
    """Update on the risk of a batch [N] of pairs.

    Args:
      risk: such as `partial(vrex_risk, count=2, penalty=10.0)`; it reads columns of the batch by
        their names. A pair counts if its weight is above 0.
    Returns:
      Pure `update(state, batch) -> (state, metrics)` with the metrics of `reward_model`.
    """

    def update(state: TrainState, batch: PreferenceBatch) -> tuple[TrainState, Diagnostics]:
        def objective(params: Params) -> tuple[Mean, Diagnostics]:
            chosen, rejected, mask, seen = _scored(reward, params, batch)
            return _whole(risk(chosen, rejected, mask, **_columns(batch))), seen

        return gradient_step(state, objective, optimizer)

    return update


def init_group_dro(
    params: Params, optimizer: optax.GradientTransformation, *, count: int
) -> GroupState:
    """Equal weights of all environments."""
    check_range("[1, inf)", count=count)
    return GroupState(init_state(params, optimizer), jnp.full(count, 1.0 / count))


def make_group_dro_update(
    reward: RewardFn, optimizer: optax.GradientTransformation, *, count: int, eta: Scalar
) -> Update[GroupState, PreferenceBatch]:
    """Group DRO: the environment with the highest risk gains weight.

    q_e <- q_e exp(eta R_e) / Z,   then one step on sum_e q_e R_e.

    An environment without pairs in the batch keeps its weight and adds nothing.

    Args:
      count: E, environments. eta: step size of the weights, >= 0.
    Returns:
      Pure `update(state, batch) -> (state, metrics)` on `GroupState`, with the metrics of
      `reward_model`, "environments/worst" (the highest risk) and "environments/weight" (its q).
    Reference: Sagawa et al. 2019, arXiv:1911.08731, Algorithm 1.
    Departs: q moves by the risks of the whole batch and not of one environment a step.
    """

    def update(state: GroupState, batch: PreferenceBatch) -> tuple[GroupState, Diagnostics]:
        def objective(params: Params) -> tuple[Mean, Diagnostics]:
            chosen, rejected, mask, seen = _scored(reward, params, batch)
            losses, ids = bradley_terry_loss(chosen, rejected), _columns(batch)["environments"]
            found = environment_means(losses, ids, mask, count=count)
            risks = known_values(found)
            weights = group_weights(state.weights, jax.lax.stop_gradient(risks), eta=eta)
            worst = jnp.nanargmax(risks)
            seen |= {
                "environments/worst": _whole(risks[worst]),
                "environments/weight": _whole(weights[worst]),
                WEIGHTS: _whole(weights),
            }
            return _whole(weighted_rewards(found.value(), weights)), seen

        train, metrics = gradient_step(state.train, objective, optimizer)
        return GroupState(train, metrics.pop(WEIGHTS).total), metrics

    return update


def make_adversarial_update(
    reward: RewardFn,
    features: AnswerFeatures,
    optimizer: optax.GradientTransformation,
    *,
    scale: Scalar,
) -> Update[TrainState, PreferenceBatch]:
    """A linear discriminator reads its group off the features of an answer, which learn to hide it.

    min over the reward, max over the discriminator D, of R - scale E l_D(D(h(y)), group of y), by
    one step of `reversed_gradient`.

    The group is a domain, the same for both answers of a pair, or what an answer shows of its
    author. It is hidden marginally, not given the label: right where people's labels are unfair to
    a group, and too much where the group is better for a reason.

    Args:
      features: `(params, trajectory) -> [*B, d]` of the reward, e.g. its last hidden state.
      scale: lambda >= 0.
    Returns:
      Pure `update(state, batch) -> (state, metrics)` on `AdversarialParams`, with the metrics of
      `reward_model` and "discriminator" (its cross-entropy). The batch has the integer columns
      "chosen_groups" and "rejected_groups".
    Reference: Ganin and Lempitsky 2015, arXiv:1409.7495; Liu et al. 2023, arXiv:2307.16851.
    """

    def told(params: AdversarialParams, answers: Trajectory, groups: Array) -> Float[Array, "*B"]:
        weights, biases = params.discriminator
        hidden = reversed_gradient(features(params.reward, answers), scale=scale)
        logits = hidden @ weights + biases
        return optax.softmax_cross_entropy_with_integer_labels(logits, groups)

    def update(state: TrainState, batch: PreferenceBatch) -> tuple[TrainState, Diagnostics]:
        def objective(params: AdversarialParams) -> tuple[Mean, Diagnostics]:
            chosen, rejected, mask, seen = _scored(reward, params.reward, batch)
            groups = _columns(batch)
            sides = (
                told(params, batch.chosen, groups["chosen_groups"]),
                told(params, batch.rejected, groups["rejected_groups"]),
            )
            found = 0.5 * (masked_mean(sides[0], mask) + masked_mean(sides[1], mask))
            total = _whole(_mean_loss(chosen, rejected, mask) + found)
            return total, seen | {"discriminator": _whole(found)}

        return gradient_step(state, objective, optimizer)

    return update


def make_copies_update(
    reward: RewardFn,
    optimizer: optax.GradientTransformation,
    *,
    worst: bool = False,
    consistency: Scalar = 0.0,
) -> Update[TrainState, PreferenceBatch]:
    """Update on copies of each pair that differ in what should be ignored, the label kept.

    L = mean_i [mean_a l_ia or max_a l_ia + consistency Var_a z_ia].

    Args:
      worst: the highest loss of the copies in place of their mean.
      consistency: lambda >= 0 of `consistency_penalty`.
    Returns:
      Pure `update(state, batch) -> (state, metrics)` on pairs [B, N] of B pairs with N copies each,
      with the metrics of `reward_model`. Copies of weight 0 do not count, and so does a pair of
      nothing else.
    Reference: Liu et al. 2023, arXiv:2307.16851.
    """
    check_range("[0, inf)", consistency=consistency)

    def update(state: TrainState, batch: PreferenceBatch) -> tuple[TrainState, Diagnostics]:
        def objective(params: Params) -> tuple[Mean, Diagnostics]:
            chosen, rejected, mask, seen = _scored(reward, params, batch)
            losses = bradley_terry_loss(chosen, rejected)
            one = worst_copy_loss(losses, mask) if worst else masked_mean(losses, mask, axis=-1)
            one += consistency * consistency_penalty(chosen - rejected, mask)
            return weighted_mean(one, jnp.any(mask, axis=-1).astype(one.dtype)), seen

        return gradient_step(state, objective, optimizer)

    return update


def _scored(
    reward: RewardFn, params: Params, batch: PreferenceBatch
) -> tuple[Array, Array, Array, Diagnostics]:
    """Scores of both answers, 0 where the weight is; which pairs count; the metrics."""
    scores = (reward.scores(params, x) for x in (batch.chosen, batch.rejected))
    chosen, rejected = (keep_weighted(x, batch.weights) for x in scores)
    mask = jnp.ones(chosen.shape, bool) if batch.weights is None else batch.weights > 0
    _, metrics = scored_objective(chosen, rejected, replace(batch, columns=None))
    return chosen, rejected, mask, metrics


def _columns(batch: PreferenceBatch) -> dict[str, Array]:
    """The batch's columns by name, 0 where the weight is 0."""
    columns, weights = batch.columns or {}, batch.weights
    if weights is None:
        return columns
    return {name: jnp.where(weights > 0, x, jnp.zeros_like(x)) for name, x in columns.items()}


def _whole(value: Float[Array, "*B"]) -> Mean:
    """Numbers of the whole batch."""
    return Mean(value, jnp.ones_like(value))
