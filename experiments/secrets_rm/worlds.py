"""Gaussian answers with a gold score, labels of which a share is wrong, and the reward model."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from rlhf_jax.algos.contrastive_reward import whole_reward
from rlhf_jax.ops.features import drop_features
from rlhf_jax.ops.statistics import wins
from rlhf_jax.types import (
    FeatureReward,
    Params,
    PreferenceBatch,
    RewardFn,
    TrainState,
    Trajectory,
    Update,
)

FEATURES, UNITS = 20, 8


class Gold(NamedTuple):
    """g(x) = 2 w . x + tanh(2 A' x) . a."""

    slope: Float[Array, "d"]
    matrix: Float[Array, "d m"]
    weights: Float[Array, "m"]

    def scores(self, items: Float[Array, "*B d"]) -> Float[Array, "*B"]:
        """[*B] of items [*B, d]."""
        return 2.0 * items @ self.slope + jnp.tanh(2.0 * items @ self.matrix) @ self.weights


def make_gold(key: Key[Array, ""]) -> Gold:
    """Entries of w and A are N(0, 1 / d), those of a N(0, 1)."""
    keys = jax.random.split(key, 3)
    scale = FEATURES**-0.5
    return Gold(
        scale * jax.random.normal(keys[0], (FEATURES,)),
        scale * jax.random.normal(keys[1], (FEATURES, UNITS)),
        jax.random.normal(keys[2], (UNITS,)),
    )


def as_answers(items: Float[Array, "*B d"]) -> Trajectory:
    """Items as answers of one step."""
    mask = jnp.ones((*items.shape[:-1], 1), bool)
    return Trajectory(items, None, mask)  # ty: ignore[invalid-argument-type]


def gold_pairs(gold: Gold, items: Float[Array, "N 2 d"]) -> PreferenceBatch:
    """The item with the higher gold score is chosen."""
    scores = gold.scores(items)
    best = (scores[:, 1] > scores[:, 0]).astype(int)
    rows = jnp.arange(len(items))
    return PreferenceBatch(as_answers(items[rows, best]), as_answers(items[rows, 1 - best]))


def turned(pairs: PreferenceBatch, wrong: Bool[Array, "N"]) -> PreferenceBatch:
    """The pairs with chosen and rejected swapped where `wrong` is True."""

    def pick(one: Array, other: Array) -> Array:
        return jnp.where(wrong.reshape(-1, *[1] * (one.ndim - 1)), one, other)

    chosen = jax.tree.map(pick, pairs.rejected, pairs.chosen)
    return PreferenceBatch(chosen, jax.tree.map(pick, pairs.chosen, pairs.rejected))


def wrong_labels(key: Key[Array, ""], *, count: int, share: float) -> Bool[Array, "N"]:
    """round(share N) of the pairs, drawn at random."""
    return jax.random.permutation(key, count) < round(share * count)


def tanh_model(*, width: int, dropout: float = 0.0) -> FeatureReward:
    """One hidden layer of tanh units, with dropout on them, and a linear head."""

    def init(key: Key[Array, ""]) -> Params:
        keys = jax.random.split(key)
        return {
            "weight": FEATURES**-0.5 * jax.random.normal(keys[0], (FEATURES, width)),
            "bias": jnp.zeros(width),
            "head": width**-0.5 * jax.random.normal(keys[1], (width,)),
        }

    def features(params: Params, trajectory: Trajectory, key: Array | None) -> Array:
        hidden = jnp.tanh(trajectory.inputs @ params["weight"] + params["bias"])
        return drop_features(hidden, key, rate=dropout)

    return FeatureReward(init, features, lambda params, hidden: hidden @ params["head"])


def tanh_reward(width: int) -> RewardFn:
    """The same without dropout."""
    return whole_reward(tanh_model(width=width))


def accuracy(reward: RewardFn, params: Params, pairs: PreferenceBatch) -> Float[Array, ""]:
    """How often the chosen answer has the higher score; ties count one half."""
    scores = (reward.scores(params, side) for side in (pairs.chosen, pairs.rejected))
    return jnp.mean(wins(*scores))


def fit_epochs(
    key: Key[Array, ""],
    update: Update[TrainState, Any],
    state: TrainState,
    count: int,
    take: Callable[[Int[Array, "B"], Key[Array, ""]], Any],
    measure: Callable[[TrainState], Array],
    *,
    epochs: int,
    batch: int,
) -> tuple[TrainState, Array]:
    """Passes over `count` rows in a new order each; the rest of a pass that fills no batch is left.

    Args:
      take: `(rows [batch], key) -> ` what the update reads.
      measure: state -> numbers, after each pass.
    Returns:
      The last state, and the numbers [epochs, ...].
    """

    def step(state: TrainState, given: tuple[Array, Array]) -> tuple[TrainState, None]:
        return update(state, take(*given))[0], None

    def epoch(state: TrainState, number: Array) -> tuple[TrainState, Array]:
        order_key, view_key = jax.random.split(jax.random.fold_in(key, number))
        order = jax.random.permutation(order_key, count)
        rows = order[: count // batch * batch].reshape(-1, batch)
        state, _ = jax.lax.scan(step, state, (rows, jax.random.split(view_key, len(rows))))
        return state, measure(state)

    return jax.lax.scan(epoch, state, jnp.arange(epochs))


def adam(rate: float) -> optax.GradientTransformation:
    """The optimizer of every reward model here."""
    return optax.adam(rate)
