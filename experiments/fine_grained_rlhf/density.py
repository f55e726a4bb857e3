"""Independent segments with a good or a bad token each, paid one by one or all at the end."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.fine_grained_rlhf.config import Config, Density
from experiments.fine_grained_rlhf.training import train_tables
from rlhf_jax.ops import SegmentRewards, paid_at_the_end, token_rewards
from rlhf_jax.types import Trajectory

ARMS = ("segments", "whole answer")


def train_density(config: Config) -> dict:
    """Share of good segments [arms, lengths, seeds, updates].

    Shorter answers are padded to the longest, so that there is one program.
    """
    size = config.density
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 0), config.num_seeds)
    train = partial(train_answers, size)
    train = jax.vmap(train, (None, None, 0))
    train = jax.vmap(jax.vmap(train, (None, 0, None)), (0, None, None))
    return {"good": jax.jit(train)(jnp.array([True, False]), jnp.array(size.lengths), keys)}


def train_answers(size: Density, dense: jax.Array, length: jax.Array, key: jax.Array) -> jax.Array:
    """One run: the share of good segments in each batch."""
    longest = size.lengths[-1]
    places = jnp.broadcast_to(jnp.arange(longest), (size.batch, longest))
    mask = places < length

    def draw(key, logits):
        actions = jax.random.categorical(key, logits, shape=(size.batch, longest))
        good = actions < size.tokens // 2
        segments = SegmentRewards(places, jnp.where(good, 1.0, -1.0) / length, mask)
        rewards = token_rewards({"good": segments}, {"good": 1.0}, length=longest)
        rewards = jnp.where(dense, rewards, paid_at_the_end(rewards, mask))
        return Trajectory(places, actions, mask), rewards, (good & mask).sum() / mask.sum()

    return train_tables(
        key,
        draw,
        states=longest,
        actions=size.tokens,
        beta=0.0,
        rate=size.rate,
        updates=size.updates,
    )


def updates_to(good: np.ndarray, *, goal: float, window: int) -> np.ndarray:
    """Updates until the mean over `window` batches reaches `goal`; NaN if it never does.

    Args:
      good: [..., updates].
    Returns:
      [...]: the number of batches seen by then, the last of the window included.
    """
    sums = np.cumsum(np.concatenate([np.zeros_like(good[..., :1]), good], -1), -1)
    means = (sums[..., window:] - sums[..., :-window]) / window
    reached = means >= goal
    return np.where(reached.any(-1), reached.argmax(-1) + window, np.nan)
