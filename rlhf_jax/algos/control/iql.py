"""Implicit Q-learning (offline): values by expectile regression, the policy by weighted imitation.

With rewards from a model fitted to segment preferences (`algos.reward_model`) this is
preference-IQL, the usual baseline for direct preference learning.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rlhf_jax.algos.gradient import Diagnostics, Objective, gradient_step, init_state
from rlhf_jax.checks import check_range, entries
from rlhf_jax.losses.expectile import expectile_loss
from rlhf_jax.losses.policy_gradient import reinforce_loss, value_loss
from rlhf_jax.ops.masking import Mean, keep_weighted, token_weights, weighted_mean
from rlhf_jax.types import (
    ActionValueFn,
    Inputs,
    Params,
    Policy,
    Scalar,
    TrainState,
    Trajectory,
    Update,
    ValueFn,
)


@dataclass(frozen=True, kw_only=True)
class IQLConfig:
    """Hyper-parameters of implicit Q-learning, all static but beta, which may be traced.

    beta: temperature > 0 of the weights exp(advantage / beta): the KL weight towards the data.
    expectile: expectile of Q that V fits, in (0, 1).
    max_weight: upper limit of the weights, > 0.
    target_rate: share of the new Q in its moving average, in (0, 1].
    """

    beta: Scalar = 1 / 3
    expectile: float = 0.7
    max_weight: float = 100.0
    target_rate: float = 0.005

    def __post_init__(self):
        check_range("(0, inf)", beta=self.beta, max_weight=self.max_weight)
        check_range("(0, 1)", expectile=self.expectile)
        check_range("(0, 1]", target_rate=self.target_rate)


class IQLState(NamedTuple):
    """policy, values, action_values: the three trained models; target: moving average of the params
    of action_values."""

    policy: TrainState
    values: TrainState
    action_values: TrainState
    target: Params


class Transitions(NamedTuple):
    """Steps of a data set.

    trajectory: inputs are the states before each action, [*B, T].
    next_inputs: the states after each action.
    rewards: [*B, T], from a model or the true ones.
    discounts: [*B, T] gamma, or 0 where the step ended the episode.
    weights: [*B] >= 0, weight of each row in the means; None means 1.
    """

    trajectory: Trajectory
    next_inputs: Inputs
    rewards: Array
    discounts: Array
    weights: Array | None = None


def init_iql(
    policy: Params, values: Params, action_values: Params, optimizer: optax.GradientTransformation
) -> IQLState:
    """IQLState at step 0; the moving average starts at the params of action_values."""
    states = (init_state(params, optimizer) for params in (policy, values, action_values))
    return IQLState(*states, target=action_values)


def advantage_weights(advantages: Float[Array, "*S"], *, config: IQLConfig) -> Float[Array, "*S"]:
    """Imitation weights min(exp(A / beta), max_weight); finite for any finite A."""
    # The minimum is taken before the exponential, which could overflow.
    highest = jnp.log(config.max_weight)
    return jnp.exp(jnp.minimum(advantages / config.beta, highest))


def make_update(
    policy: Policy,
    values: ValueFn,
    action_values: Policy | ActionValueFn,
    optimizer: optax.GradientTransformation,
    config: IQLConfig,
) -> Update[IQLState, Transitions]:
    """One step for each of the three models, on the same transitions and from the same state.

    V: expectile of Qbar(s, a);   Q: squared error to r + d V(s');
    policy: -min(exp((Qbar - V) / beta), max_weight) log pi(a | s);   Qbar += rate (Q - Qbar).

    Args:
      policy: any parametrisation, of continuous actions too.
      values: V(s).
      action_values: Q(s, a), or a `Policy` with logits Q(s, .).
      optimizer: used for each of the three.
    Returns:
      Pure `update(state, transitions) -> (state, metrics)`; means run over the counted steps, with
      the weights of the rows. Metrics: "loss" and "grad_norm" under "policy/", "values/" and
      "action_values/", and "policy/weight", the mean imitation weight.
    Reference: Kostrikov et al. 2021, arXiv:2110.06169, Eq. 5 to 7; as a baseline with learned
      rewards, Hejna et al. 2023, arXiv:2310.13639.
    Departs: one Q; the authors take the smaller of two, against the overestimates of a network.
    """

    models = policy, values, _of_actions(action_values)

    def update(state: IQLState, batch: Transitions) -> tuple[IQLState, Diagnostics]:
        objectives = _objectives(models, state, batch, config)
        done = {
            name: gradient_step(getattr(state, name), objective, optimizer)
            for name, objective in objectives.items()
        }
        metrics = {f"{name}/{key}": x for name in done for key, x in done[name][1].items()}
        trained = {name: new for name, (new, _) in done.items()}
        target = optax.incremental_update(
            trained["action_values"].params, state.target, config.target_rate
        )
        return IQLState(**trained, target=target), metrics

    return update


def _of_actions(action_values: Policy | ActionValueFn) -> ActionValueFn:
    """Q(s, a), of the logits Q(s, .) too."""
    if isinstance(action_values, ActionValueFn):
        return action_values

    def values(params: Params, inputs: Inputs, actions: Array) -> Array:
        return entries(action_values.logits(params, inputs), actions=actions)

    return ActionValueFn(action_values.init, values)


def _objectives(
    models: tuple[Policy, ValueFn, ActionValueFn],
    state: IQLState,
    batch: Transitions,
    config: IQLConfig,
) -> dict[str, Objective]:
    """The objective of each field of the state; all targets come from the state before the step."""
    policy, values, action_values = models
    trajectory = batch.trajectory
    states, actions = trajectory.inputs, trajectory.actions
    weights = token_weights(trajectory.mask, batch.weights)

    def kept(x: Array) -> Array:  # 0 where the weight is 0: a NaN times 0 would stay NaN
        return keep_weighted(x, weights)

    def acted(params: Params) -> Array:
        return kept(action_values.values(params, states, actions))

    bar = acted(state.target)
    after = values.values(state.values.params, batch.next_inputs)
    backed_up = kept(batch.rewards + batch.discounts * after)
    gaps = kept(bar - values.values(state.values.params, states))
    imitation = advantage_weights(gaps, config=config)

    def policy_objective(params: Params) -> tuple[Mean, Diagnostics]:
        losses = reinforce_loss(kept(policy.logps(params, states, actions)), imitation)
        return weighted_mean(losses, weights), {"weight": weighted_mean(imitation, weights)}

    def value_objective(params: Params) -> tuple[Mean, Diagnostics]:
        now = kept(values.values(params, states))
        return weighted_mean(expectile_loss(now, bar, expectile=config.expectile), weights), {}

    def action_value_objective(params: Params) -> tuple[Mean, Diagnostics]:
        return weighted_mean(value_loss(acted(params), backed_up), weights), {}

    return {
        "policy": policy_objective,
        "values": value_objective,
        "action_values": action_value_objective,
    }
