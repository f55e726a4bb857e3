"""Token lists of unequal length as rectangular arrays: padded left, padded right, or packed.

Masks are bool. They mark real tokens (`pad_*`) or the tokens that count in a loss (`pack_rows`).
A prompt is padded on the left and truncated at its start, because the answer follows its end; an
answer is padded on the right and truncated at its end.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32

TokenRow = Sequence[int]


class PaddedRows(NamedTuple):
    """ids: [B, L] int32, `pad_id` at padding; mask: [B, L] bool, True at real tokens."""

    ids: Int32[np.ndarray, "B L"]
    mask: Bool[np.ndarray, "B L"]


class PackedRows(NamedTuple):
    """Several documents per row.

    ids: [R, L] int32, `pad_id` at padding.
    positions: [R, L] int32, 0, 1, 2... within each document; 0 at padding.
    segments: [R, L] int32, 1, 2, 3... numbers the documents of a row; 0 at padding.
    mask: [R, L] bool, True where the token counts. Always False at the first token of a document,
      because nothing in its segment predicts it.
    """

    ids: Int32[np.ndarray, "R L"]
    positions: Int32[np.ndarray, "R L"]
    segments: Int32[np.ndarray, "R L"]
    mask: Bool[np.ndarray, "R L"]


def pad_left(rows: Sequence[TokenRow], length: int, *, pad_id: int = 0) -> PaddedRows:
    """Prompts: padding before the tokens; a prompt longer than `length` keeps its last tokens.

    Args:
      rows: B token lists, each with at least one token.
      length: L > 0, columns of the result.
      pad_id: id written at padding. Real tokens may have it too, so use the mask to tell them
        apart.
    Raises:
      ValueError: length < 1, or an empty prompt (row number from 0), which leaves the first token
        of the answer without a context.
    """
    _check_length(length)
    ids, mask = _blank(len(rows), length, pad_id)
    for b, row in enumerate(rows):
        if len(row) == 0:
            raise ValueError(f"row {b}: empty prompt; begin every prompt with <bos>")
        kept = row[-length:]
        ids[b, length - len(kept) :] = kept
        mask[b, length - len(kept) :] = True
    return PaddedRows(ids, mask)


def pad_right(rows: Sequence[TokenRow], length: int, *, pad_id: int = 0) -> PaddedRows:
    """Completions: padding after the tokens; a longer one keeps its first `length` tokens.

    A truncated completion has no end-of-sequence token, so the model does not learn to stop there.

    Args:
      rows: B token lists, each with at least one token, including the end of sequence.
      length: L > 0, columns of the result.
      pad_id: id written at padding.
    Raises:
      ValueError: length < 1, or an empty completion (row number from 0).
    """
    _check_length(length)
    ids, mask = _blank(len(rows), length, pad_id)
    for b, row in enumerate(rows):
        if len(row) == 0:
            raise ValueError(
                f"row {b}: zero supervised tokens (empty completion); drop the row or end it with "
                "<eos>"
            )
        kept = row[:length]
        ids[b, : len(kept)] = kept
        mask[b, : len(kept)] = True
    return PaddedRows(ids, mask)


def pack_rows(
    rows: Sequence[TokenRow],
    length: int,
    *,
    pad_id: int = 0,
    counted: Sequence[Sequence[bool]] | None = None,
    row_of: Sequence[int] | None = None,
) -> PackedRows:
    """Several documents in each row; none is truncated or split over two rows.

    Without `row_of`, each document goes to the first row with room, in the given order (first fit).

    Args:
      rows: token lists of 2 to `length` tokens.
      length: L > 0, columns of the result.
      pad_id: id written at padding.
      counted: one bool per token (False at prompt tokens); None counts every token but the first.
      row_of: the row of each document, e.g. of `packing.pack_lengths`.
    Returns:
      Arrays [R, L] with R <= len(rows).
    Raises:
      ValueError: a row is longer than `length`, has no counted token, or `counted` has another
        length; the message names the row, from 0. Or the documents of a row do not fit in it.
    """
    _check_length(length)
    flags = _counted_flags(rows, counted)
    for i, (row, flag) in enumerate(zip(rows, flags, strict=True)):
        if len(row) > length:
            raise ValueError(f"row {i}: {len(row)} tokens do not fit in {length}; cut it first")
        if not flag.any():
            raise ValueError(
                f"row {i}: zero supervised tokens (the first token of a document never counts)"
            )
    sizes = [len(row) for row in rows]
    row_of = _first_fit(sizes, length) if row_of is None else row_of
    ids, mask = _blank(max(row_of, default=-1) + 1, length, pad_id)
    positions, segments = np.zeros_like(ids), np.zeros_like(ids)
    places = _places(sizes, row_of, length)
    for row, flag, r, (start, segment) in zip(rows, flags, row_of, places, strict=True):
        span = slice(start, start + len(row))
        ids[r, span] = row
        positions[r, span] = np.arange(len(row))
        segments[r, span] = segment
        mask[r, span] = flag
    return PackedRows(ids, positions, segments, mask)


def _check_length(length: int) -> None:
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}")


def _blank(count: int, length: int, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """ids and mask of padding only, [count, length]."""
    return np.full((count, length), pad_id, np.int32), np.zeros((count, length), bool)


def _counted_flags(
    rows: Sequence[TokenRow], counted: Sequence[Sequence[bool]] | None
) -> list[np.ndarray]:
    """One bool array per row, False at the first token."""
    if counted is None:
        counted = [[True] * len(row) for row in rows]
    if len(counted) != len(rows):
        raise ValueError(f"counted has {len(counted)} rows for {len(rows)} rows of tokens")
    flags = []
    for i, (row, flag) in enumerate(zip(rows, counted, strict=True)):
        if len(flag) != len(row):
            raise ValueError(f"row {i}: {len(row)} tokens but {len(flag)} counted flags")
        array = np.array(flag, bool)
        array[:1] = False
        flags.append(array)
    return flags


def _first_fit(sizes: Sequence[int], capacity: int) -> list[int]:
    """The row of each document."""
    used = np.zeros(len(sizes), np.int64)
    rows, total = [], 0
    for size in sizes:
        # The row after the last used one is empty, so a fit always exists.
        r = int(np.argmax(used[: total + 1] + size <= capacity))
        total = max(total, r + 1)
        rows.append(r)
        used[r] += size
    return rows


def _places(sizes: Sequence[int], row_of: Sequence[int], capacity: int) -> list[tuple[int, int]]:
    """(start column, segment number) of each document in its row."""
    used, documents = Counter[int](), Counter[int]()
    places = []
    for size, r in zip(sizes, row_of, strict=True):
        documents[r] += 1
        places.append((used[r], documents[r]))
        used[r] += size
        if used[r] > capacity:
            raise ValueError(f"the documents of row {r} need more than its {capacity} columns")
    return places
