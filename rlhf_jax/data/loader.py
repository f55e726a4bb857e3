"""Batches by global step: the position in the data is one number, so resuming needs no state."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import grain
import jax
import numpy as np


class Share(NamedTuple):
    """A host's part of each batch: the `index`-th of `count` equal parts.

    The parts of all hosts, one after the other, are the batch of a single host.
    """

    index: int = 0
    count: int = 1

    def part(self, size: int) -> slice:
        """Of a batch of `size` rows.

        Raises:
          ValueError: no such part, or the rows do not divide.
        """
        if not 0 <= self.index < self.count or size % self.count:
            raise ValueError(
                f"host {self.index} of {self.count} has no equal part of a batch of {size} rows; "
                "make batch_size a multiple of the number of hosts"
            )
        own = size // self.count
        return slice(self.index * own, (self.index + 1) * own)


WHOLE = Share()


def batches(
    source: grain.sources.RandomAccessDataSource[Any] | Sequence[Any] | int,
    *,
    batch_size: int,
    seed: int,
    batch_fn: Callable[[Sequence[Any]], Any] | None = None,
    share: Share = WHOLE,
) -> grain.sources.RandomAccessDataSource[Any]:
    """An endless grain `MapDataset` d with `d[i]` = the batch of global step i.

    The rows are shuffled in each epoch and the epochs are concatenated; batch i is the slice from
    i * batch_size to (i + 1) * batch_size. So each row comes once per epoch and none is dropped. If
    `batch_size` does not divide the number of rows, a batch can span two epochs and then contain a
    row twice. `d[i]` depends only on (number of rows, batch_size, seed, i), in any process and in
    any order of reading.

    Args:
      source: records, or a number N of rows to get row numbers 0..N-1, int64 [batch_size].
      batch_size: B >= 1.
      seed: 0 <= seed < 2^32.
      batch_fn: list of B records -> batch. None stacks the leaves along a new first axis; they must
        have equal shapes.
      share: the part of each batch that is read here, with several hosts.
    Raises:
      ValueError: no rows, batch_size < 1, seed out of range, or no equal parts.
    """
    total = source if isinstance(source, int) else len(source)
    if not 1 <= total < 2**32:
        raise ValueError(f"the source must have 1 to 2^32 - 1 rows, got {total}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in [0, 2^32), got {seed}")
    part = share.part(batch_size)

    def batch(numbers: Sequence[int]) -> Any:
        own = numbers[part]
        if isinstance(source, int):
            return np.array(own, np.int64) if batch_fn is None else batch_fn(own)
        return (batch_fn or _stacked)([source[i] for i in own])

    # Seeding the dataset rather than `shuffle`: the latter adds the epoch to its seed, which would
    # make epoch 1 of seed 0 the same as epoch 0 of seed 1.
    rows = grain.MapDataset.range(total).seed(seed).shuffle().repeat()
    return rows.batch(batch_size, batch_fn=batch)


def _stacked(records: Sequence[Any]) -> Any:
    """The leaves of all records along a new first axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *records)


def steps_in(epochs: float | int, *, rows: int, batch_size: int) -> int:
    """Number of batches that cover `epochs` passes over `rows` rows, rounded up, at least one."""
    if not 0 < epochs < math.inf or rows < 1 or batch_size < 1:
        raise ValueError(
            "epochs must be finite and > 0 and rows, batch_size >= 1, "
            f"got epochs={epochs}, rows={rows}, batch_size={batch_size}"
        )
    # Rounded before ceil: in floats 0.1 * 30 is 3.0000000000000004, and ceil would give 4.
    return max(1, math.ceil(round(epochs * rows / batch_size, 6)))
