"""A replay: rows of experience in arrays of a fixed size, the oldest overwritten.

    replay = init_replay(row, size=100_000)                     # a row without leading axes
    replay = add_rows(replay, rows)                             # [W, ...]
    batch = draw_rows(key, replay, batch=64)                    # [64, ...]

Pure and of one shape, so a scan carries it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from rlhf_jax.checks import check_range
from rlhf_jax.types import PyTree


class ReplayBuffer(NamedTuple):
    """rows: pytree of arrays [N, ...]; added: number of rows ever added, int32."""

    rows: PyTree
    added: Int[Array, ""]


def init_replay(row: PyTree, *, size: int) -> ReplayBuffer:
    """N empty rows like this one.

    Args:
      row: pytree of arrays, or of their shapes and dtypes (`jax.eval_shape`).
      size: N >= 1.
    """
    check_range("[1, inf)", size=size)
    rows = jax.tree.map(lambda x: jnp.zeros((size, *x.shape), x.dtype), row)
    return ReplayBuffer(rows, jnp.zeros((), jnp.int32))


def add_rows(replay: ReplayBuffer, new: PyTree) -> ReplayBuffer:
    """The replay with `new`, pytree of arrays [W, ...], in the place of its oldest rows.

    Raises:
      ValueError: W does not divide N, at trace time: a block of rows would not fit at the end.
    """
    size, block = replay_size(replay), jax.tree.leaves(new)[0].shape[0]
    if size % block:
        raise ValueError(f"{size} rows of a replay do not divide into blocks of {block}")
    place = replay.added % size

    def write(rows: Array, fresh: Array) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(rows, fresh, place, 0)

    return ReplayBuffer(jax.tree.map(write, replay.rows, new), replay.added + block)


def replay_size(replay: ReplayBuffer) -> int:
    """N, how many rows it can hold."""
    return jax.tree.leaves(replay.rows)[0].shape[0]


def draw_rows(key: Key[Array, ""], replay: ReplayBuffer, *, batch: int) -> PyTree:
    """`batch` rows, uniformly with replacement from those that were added.

    A learned reward changes while it is trained: compute it from the rows drawn.

    Args:
      replay: with at least one row added; an empty one gives its zeros.
      batch: >= 1.
    """
    check_range("[1, inf)", batch=batch)
    filled = jnp.clip(replay.added, 1, replay_size(replay))
    places = jax.random.randint(key, (batch,), 0, filled)
    return jax.tree.map(lambda x: x[places], replay.rows)
