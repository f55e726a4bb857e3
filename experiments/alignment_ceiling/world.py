"""A pool of answers with a gold score and a downstream metric, and reward models of it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from experiments.alignment_ceiling.config import Config
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.reward_model import make_update
from rlhf_jax.feedback.pairs import labels_to_pairs
from rlhf_jax.ops.mismatch import label_ceiling
from rlhf_jax.ops.statistics import wins
from rlhf_jax.policies.linear import linear_reward
from rlhf_jax.types import PreferenceBatch, Trajectory

LENGTH_SIGMA = 0.5  # of the logarithm
LIKED, DISLIKED, ENOUGH = 0.8, 0.12, 0.5  # length in gold: a slope, and a square beyond ENOUGH
VERBOSE = 0.4  # length downstream: a slope beyond 1


class Pool(NamedTuple):
    """features: [M, d + 1], the last one the length. ref_logits, gold, downstream: [M]."""

    features: Array
    ref_logits: Array
    gold: Array
    downstream: Array


class Labels(NamedTuple):
    """pairs: winners first. ceiling: the best accuracy that labels of these pairs allow."""

    pairs: PreferenceBatch
    ceiling: Array


def draw_pool(config: Config, key: Key[Array, ""], *, heavy: bool = True) -> Pool:
    """One world; with a Gaussian length if its tail is not to be heavy."""
    feature_key, length_key, weight_key = jax.random.split(key, 3)
    phi = jax.random.normal(feature_key, (config.answers, config.features))
    length = jax.random.normal(length_key, (config.answers,))
    length = standardise(jnp.exp(LENGTH_SIGMA * length) if heavy else length)
    weights = jax.random.normal(weight_key, (config.features,))
    quality = phi @ (weights / jnp.linalg.norm(weights))
    gold = quality + LIKED * length - DISLIKED * jnp.maximum(length - ENOUGH, 0.0) ** 2
    downstream = jax.nn.sigmoid(2.0 * (quality - VERBOSE * jnp.maximum(length - 1.0, 0.0)))
    features = jnp.concatenate([phi, length[:, None]], axis=-1)
    # Uniform. Not `zeros`: a constant reference would be worked out while compiling, for seconds.
    return Pool(features, 0.0 * gold, standardise(gold), downstream)


def standardise(x: Float[Array, "*B M"]) -> Float[Array, "*B M"]:
    """Mean 0 and deviation 1 over the pool, that is under the reference policy."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred / jnp.std(x, axis=-1, keepdims=True)


def draw_labels(
    config: Config, pool: Pool, key: Key[Array, ""], size: int, *, flip: Array | float = 0.0
) -> Labels:
    """Pairs of answers of the reference, with Bradley-Terry labels of which some are reversed."""
    pair_key, label_key, flip_key = jax.random.split(key, 3)
    rows = jax.random.randint(pair_key, (size, 2), 0, config.answers)
    gaps = pool.gold[rows[:, 1]] - pool.gold[rows[:, 0]]
    second = jax.random.bernoulli(label_key, jax.nn.sigmoid(config.sharpness * gaps))
    reversed_ = jax.random.bernoulli(flip_key, flip, (size,))
    pairs = labels_to_pairs(described(pool.features[rows]), (second ^ reversed_).astype(int))
    return Labels(pairs, jnp.mean(label_ceiling(gaps, temperature=config.sharpness)))


def described(features: Float[Array, "*B d"]) -> Trajectory:
    """Answers as one step that a linear reward model reads."""
    once = (*features.shape[:-1], 1)
    return Trajectory(features[..., None, :], jnp.zeros(once, int), jnp.ones(once, bool))


def fit(
    config: Config,
    pairs: PreferenceBatch,
    *,
    counts: Float[Array, "P"] | None = None,
    visible: Array | float = 1.0,
) -> Float[Array, "d"]:
    """Weights of a linear reward model on pairs.

    Args:
      counts: how often each pair counts; None for once.
      visible: 1 if the model sees the length, 0 if not.
    """
    shape = pairs.chosen.inputs.shape[-1]
    seen = jnp.ones(shape).at[-1].set(visible)
    reward, optimizer = linear_reward(shape), optax.sgd(config.rate)
    update = make_update(reward, optimizer)
    chosen, rejected = (
        described(x.inputs[..., 0, :] * seen) for x in (pairs.chosen, pairs.rejected)
    )
    batch = PreferenceBatch(chosen, rejected, weights=pairs.weights if counts is None else counts)
    state = init_state(reward.init(jax.random.key(0)), optimizer)
    state, _ = jax.lax.scan(
        lambda state, _: (update(state, batch)[0], None), state, None, length=config.steps
    )
    return state.params * seen


def accuracy(weights: Float[Array, "d"], pairs: PreferenceBatch) -> Float[Array, ""]:
    """On labelled pairs, as a reward model's accuracy is always measured."""
    scores = linear_reward(weights.shape[-1]).scores
    return jnp.mean(wins(scores(weights, pairs.chosen), scores(weights, pairs.rejected)))
