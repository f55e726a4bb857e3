"""Part C, what a step of the pendulum is worth: a weighted sum of factors, or HERON's network."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from experiments.heron.config import SwingUp
from experiments.heron.pairs import winners_first
from rlhf_jax.algos.control.ddpg import ControlTransitions
from rlhf_jax.algos.control.replay import ReplayBuffer, draw_rows
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.reward_model import make_update
from rlhf_jax.envs.pendulum import MAX_SPEED, pendulum_factors
from rlhf_jax.feedback.hierarchical import lexicographic_prefs
from rlhf_jax.models.mlp import make_mlp
from rlhf_jax.types import Params, PreferenceBatch, RewardFn, TrainState

ROWS = 1024  # of the replay, for the spread of the factors and the scale of the scores
OBSERVATION_SCALE = (1.0, 1.0, 1.0 / MAX_SPEED)


class Rewarder(NamedTuple):
    """refresh: `(key, state, replay) -> (state, info)`. rewards: `(state, steps) -> [*B]`, of
    transitions; their own rewards are not read."""

    refresh: Callable[..., tuple[Any, dict[str, Array]]]
    rewards: Callable[..., Array]


class Heron(NamedTuple):
    """train: of the reward network. spread: [3] of the factors. mean, std: of its scores."""

    train: TrainState
    spread: Float[Array, "3"]
    mean: Float[Array, ""]
    std: Float[Array, ""]


def fixed_sum() -> Rewarder:
    """State: the weights [3] of the factors, which stay."""

    def rewards(weights, steps):
        return pendulum_factors(steps.observations, steps.actions) @ weights

    return Rewarder(lambda key, weights, replay: (weights, {}), rewards)


class Standardised(NamedTuple):
    """weights, spread: [3] of the factors; the spread is that of the replay."""

    weights: Float[Array, "3"]
    spread: Float[Array, "3"]


def standardised_sum(config: SwingUp) -> Rewarder:
    """Weights times factors in the odd unit, each over its spread: no unit changes it.

    It sees what HERON sees: the spread comes from rows of the replay, once a round.
    """

    def refresh(key: Key[Array, ""], state: Standardised, replay: ReplayBuffer):
        sample = draw_rows(key, replay, batch=ROWS)
        return state._replace(spread=jnp.std(measured(config, sample), axis=0)), {}

    def rewards(state: Standardised, steps: ControlTransitions) -> Array:
        return measured(config, steps) / nonzero(state.spread) @ state.weights

    return Rewarder(refresh, rewards)


def heron(config: SwingUp) -> tuple[Callable[[Key[Array, ""]], Heron], Rewarder]:
    """`init(key) -> Heron`, and the Rewarder that learns from the tree's labels of its replay.

    The network reads the observation and the factors; margins and inputs are in units of each
    factor's spread over the replay, scores are standardised over it.
    """
    network = make_mlp((6, *config.reward_widths, 1))
    optimizer = optax.adam(config.reward_rate)

    def score(params: Params, x: Float[Array, "*B 6"]) -> Float[Array, "*B"]:
        return network.apply(params, x)[..., 0]

    scorer = RewardFn(network.init, lambda params, moved: score(params, moved.inputs))
    update = make_update(scorer, optimizer)

    def init(key: Key[Array, ""]) -> Heron:
        train = init_state(network.init(key), optimizer)
        return Heron(train, jnp.ones(3), jnp.zeros(()), jnp.ones(()))

    def fit(
        spread: Array, drawn: ControlTransitions, train: TrainState
    ) -> tuple[TrainState, tuple]:
        pairs = label_pairs(measured(config, drawn), inputs(config, drawn, spread), spread, config)
        train, metrics = update(train, pairs)
        decided = jnp.asarray(pairs.weights).mean()
        return train, (decided, metrics["scores/accuracy"].value())

    def refresh(key: Key[Array, ""], state: Heron, replay: ReplayBuffer):
        sample_key, fit_key = jax.random.split(key)
        sample = draw_rows(sample_key, replay, batch=ROWS)
        spread = jnp.std(measured(config, sample), axis=0)
        train, (decided, accuracy) = jax.lax.scan(
            lambda train, key: fit(
                spread, draw_rows(key, replay, batch=config.reward_batch), train
            ),
            state.train,
            jax.random.split(fit_key, config.reward_batches),
        )
        scores = score(train.params, inputs(config, sample, spread))
        state = Heron(train, spread, scores.mean(), scores.std())
        return state, {"decided": decided.mean(), "accuracy": accuracy.mean()}

    def rewards(state: Heron, steps: ControlTransitions) -> Array:
        scores = score(state.train.params, inputs(config, steps, state.spread))
        return (scores - state.mean) / nonzero(state.std)

    return init, Rewarder(refresh, rewards)


def measured(config: SwingUp, steps: ControlTransitions) -> Float[Array, "*B 3"]:
    """Factors as HERON gets them: u^2 in the odd unit."""
    units = jnp.asarray((1.0, 1.0, config.unit))
    return units * pendulum_factors(steps.observations, steps.actions)


def inputs(
    config: SwingUp, steps: ControlTransitions, spread: Float[Array, "3"]
) -> Float[Array, "*B 6"]:
    """What the reward network reads."""
    seen = steps.observations * jnp.asarray(OBSERVATION_SCALE)
    return jnp.concatenate([seen, measured(config, steps) / nonzero(spread)], axis=-1)


def nonzero(spread: Array) -> Array:
    """A deviation to divide by: 1 where nothing changes."""
    return jnp.where(spread > 0, spread, 1.0)


def label_pairs(
    factors: Float[Array, "N 3"], x: Float[Array, "N d"], spread: Float[Array, "3"], config: SwingUp
) -> PreferenceBatch:
    """All pairs of a batch, judged by the tree."""
    first, second = jnp.triu_indices(len(factors), 1)
    prefs = lexicographic_prefs(factors[first], factors[second], config.sigma * spread)
    return winners_first(prefs, x[first], x[second])
