"""Rows of tokens that are longer than the model's columns: one policy, named and counted.

| policy | a row that is too long |
|---|---|
| "error" | is refused, with its number and length |
| "drop" | is left out |
| "truncate_left" | keeps its last tokens |
| "truncate_right" | keeps its first tokens |
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

LengthPolicy = Literal["error", "drop", "truncate_left", "truncate_right"]


class FittedRows(NamedTuple):
    """Rows of at most `length` tokens.

    kept: number of each row among those given. dropped, truncated: how many were.
    """

    rows: list[Sequence[int]]
    kept: list[int]
    dropped: int
    truncated: int


def fit_lengths(rows: Sequence[Sequence[int]], length: int, policy: str) -> FittedRows:
    """The rows, with those of more than `length` tokens treated by the policy.

    >>> fit_lengths([[1, 2], [3, 4, 5]], 2, "truncate_left")
    FittedRows(rows=[[1, 2], [4, 5]], kept=[0, 1], dropped=0, truncated=1)

    Raises:
      ValueError: length < 1, no such policy, or a row that is too long under "error".
    """
    check_policy(policy)
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}")
    long = [i for i, row in enumerate(rows) if len(row) > length]
    if long and policy == "error":
        i = long[0]
        raise ValueError(
            f"row {i}: {len(rows[i])} tokens, at most {length} fit; shorten it, raise the length, "
            "or choose another length policy"
        )
    if policy == "drop":
        kept = [i for i, row in enumerate(rows) if len(row) <= length]
        return FittedRows([rows[i] for i in kept], kept, len(long), 0)
    part = slice(-length, None) if policy == "truncate_left" else slice(length)
    return FittedRows([row[part] for row in rows], list(range(len(rows))), 0, len(long))


def check_policy(policy: str) -> None:
    """ValueError unless this is a length policy."""
    if policy not in get_args(LengthPolicy):
        raise ValueError(
            f"a length policy is one of {', '.join(get_args(LengthPolicy))}, got {policy!r}"
        )
