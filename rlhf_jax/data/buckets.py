"""Batches of rows of similar length: less padding, and one compiled program per bucket.

A shape is the columns that a row is padded to, one number for each of its D parts, e.g. (32, 64)
for prompt and answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from rlhf_jax.data.loader import WHOLE, Share


class BucketBatch(NamedTuple):
    """One batch.

    bucket: of its rows. rows: [B] their numbers. kept: [B] False where a row fills the batch up.
    """

    bucket: int
    rows: Int[np.ndarray, " B"]
    kept: Bool[np.ndarray, " B"]


@dataclass(frozen=True)
class BucketBatches:
    """`b[i]` is the batch of global step i.

    epoch: number -> the batches of this epoch. batch_fn: `BucketBatch` -> batch.
    steps_per_epoch: batches in an epoch.
    """

    epoch: Callable[[int], Sequence[BucketBatch]]
    batch_fn: Callable[[BucketBatch], Any]
    steps_per_epoch: int

    def __getitem__(self, step: int, /) -> Any:
        epoch, place = divmod(step, self.steps_per_epoch)
        return self.batch_fn(self.epoch(epoch)[place])


def assign_buckets(
    lengths: Int[np.ndarray, "N D"], shapes: Sequence[tuple[int, ...]]
) -> Int[np.ndarray, " N"]:
    """The number of the first shape that holds all parts of a row; the last if none does."""
    holds = (lengths[:, None] <= np.array(shapes)).all(axis=-1)
    return np.where(np.any(holds, axis=1), np.argmax(holds, axis=1), len(shapes) - 1)


def choose_shapes(lengths: Int[np.ndarray, "N D"], count: int) -> list[tuple[int, ...]]:
    """At most `count` shapes for buckets of about equal size; the last holds every row.

    Rows are sorted by the sum of their parts and cut into groups; a shape holds its group and all
    before it.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    order = np.argsort(lengths.sum(axis=1), kind="stable")
    groups = [group for group in np.array_split(lengths[order], count) if len(group)]
    shapes = np.maximum.accumulate([group.max(axis=0) for group in groups])
    return list(dict.fromkeys(tuple(map(int, shape)) for shape in shapes))


def bucket_batches(
    assigned: Int[np.ndarray, " N"],
    *,
    batch_size: int,
    seed: int,
    batch_fn: Callable[[BucketBatch], Any],
    share: Share = WHOLE,
) -> BucketBatches:
    """An endless sequence of batches, each from one bucket; every row comes once per epoch.

    In each epoch the rows of a bucket are shuffled and cut into batches, and the batches of all
    buckets are shuffled. The last batch of a bucket is filled up with its own rows, `kept` False.
    `b[i]` depends only on (assigned, batch_size, seed, i), in any process and order of reading.

    Args:
      assigned: the bucket of each row, e.g. from `assign_buckets`; N >= 1.
      batch_size: B >= 1.
      seed: >= 0.
      share: the part of each batch that is read here, with several hosts.
    """
    if not len(assigned) or batch_size < 1 or seed < 0:
        raise ValueError(
            "bucket_batches needs at least one row, batch_size >= 1 and seed >= 0, "
            f"got {len(assigned)} rows, batch_size {batch_size} and seed {seed}"
        )
    part = share.part(batch_size)
    members = {int(k): np.flatnonzero(assigned == k) for k in np.unique(assigned)}

    @lru_cache(maxsize=2)
    def epoch(number: int) -> list[BucketBatch]:
        found = []
        for bucket, rows in members.items():
            shuffled = rows[_order(len(rows), seed, number, bucket + 1)]
            for start in range(0, len(rows), batch_size):
                here = shuffled[start : start + batch_size]
                kept = np.arange(batch_size) < len(here)
                found.append(BucketBatch(bucket, np.resize(here, batch_size)[part], kept[part]))
        return [found[i] for i in _order(len(found), seed, number, 0)]

    steps = sum(-(-len(rows) // batch_size) for rows in members.values())
    return BucketBatches(epoch, batch_fn, steps)


def padding_share(lengths: Int[np.ndarray, "N D"], shapes: Int[np.ndarray, "N D"]) -> float:
    """Share of the columns that hold no token; longer rows are cut to their shape."""
    return 1.0 - float(np.minimum(lengths, shapes).sum() / shapes.sum())


def _order(total: int, *key: int) -> Int[np.ndarray, " N"]:
    """A permutation of 0..total-1. NumPy keeps the raw Philox stream fixed between versions."""
    stream = np.random.Philox(np.random.SeedSequence(key))
    return np.argsort(stream.random_raw(total), kind="stable")
