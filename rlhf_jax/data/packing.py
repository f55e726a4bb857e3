"""Which documents share a row, from their lengths alone.

    packs = pack_lengths(lengths, 1024, seed=0)
    packs[0]          # numbers of the documents of row 0
    batches(packs, batch_size=8, seed=0, batch_fn=...)   # data.loader: rows are shuffled each epoch

The documents of a row stay together in all epochs, so an epoch always has the same number of rows.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

OPEN = 64  # rows with room at a time: more fill rows better, but every document looks at all


@dataclass(frozen=True)
class Packs:
    """Rows of documents: `len(packs)`, `packs[row]` -> their numbers, in order.

    order: every document once. starts: where each row begins in it, and N at the end. columns: of a
    row. tokens: of all documents.
    """

    order: Int[np.ndarray, " N"]
    starts: Int[np.ndarray, " starts"]
    columns: int
    tokens: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int, /) -> Int[np.ndarray, " n"]:
        return self.order[self.starts[row] : self.starts[row + 1]]

    @property
    def filled(self) -> float:
        """Share of the columns that hold a token."""
        return self.tokens / (len(self) * self.columns)


def pack_lengths(lengths: Int[np.ndarray, " N"], columns: int, *, seed: int) -> Packs:
    """Packs documents of these lengths in rows of `columns`.

    The documents come in a random order. Each goes to the row with the least room that holds it,
    among the OPEN rows with the most room; N documents take time and memory in proportion to N.

    Args:
      lengths: 1 to `columns`.
      seed: >= 0, of the order.
    Raises:
      ValueError: no document, or one that is empty or longer than a row.
    """
    if not len(lengths):
        raise ValueError("there are no documents to pack")
    wrong = np.flatnonzero((lengths < 1) | (lengths > columns))
    if len(wrong):
        raise ValueError(
            f"document {wrong[0]} has {lengths[wrong[0]]} tokens; a row of {columns} columns holds "
            f"1 to {columns}"
        )
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(lengths))
    row_of = np.empty(len(lengths), np.int64)
    room, rows, total = np.zeros(OPEN, np.int64), np.zeros(OPEN, np.int64), 0
    for document, size in zip(order, lengths[order], strict=True):
        slot = int(np.argmin(np.where(room >= size, room, columns + 1)))
        if room[slot] < size:
            slot = int(np.argmin(room))
            room[slot], rows[slot], total = columns, total, total + 1
        room[slot] -= size
        row_of[document] = rows[slot]
    order = order[np.argsort(row_of[order], kind="stable")]
    starts = np.searchsorted(row_of[order], np.arange(total + 1))
    return Packs(order, starts, columns, int(lengths.sum()))
