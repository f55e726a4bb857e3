"""Comparisons by user: which of them tell who a user is, and which are to be explained.

sets = user_sets(users, context=8, targets=4, seed=0)
rows[sets.context]          # [U, 8, ...], real where sets.context_mask
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from rlhf_jax.checks import check_range


class TooFewComparisons(ValueError):
    """A user has a single comparison: nothing is left to explain once it is encoded."""


class UserSets(NamedTuple):
    """Row numbers by user; no row is in both sets of its user.

    users: U names, in the order of their first row.
    context, context_mask: [U, N] rows to encode, True where there is one; others are 0.
    targets, targets_mask: [U, M] rows to explain.
    dropped: users that were left out because they have one comparison.
    """

    users: tuple[Hashable, ...]
    context: Int[np.ndarray, "U N"]
    context_mask: Bool[np.ndarray, "U N"]
    targets: Int[np.ndarray, "U M"]
    targets_mask: Bool[np.ndarray, "U M"]
    dropped: int


def user_sets(
    users: Sequence[Hashable],
    *,
    context: int,
    targets: int,
    seed: int,
    single: Literal["error", "drop"] = "error",
) -> UserSets:
    """Splits the comparisons of each user at random into a context and targets.

    A user with n comparisons has min(N, n - 1) in its context, and min(M, the rest) as targets: one
    at least. What is encoded must not be what is explained, or its label leaks.

    Args:
      users: the user of each row, e.g. a column of a file of pairs.
      context, targets: N and M, each >= 1.
      seed: >= 0; the sets depend only on (users, N, M, seed).
      single: what becomes of a user with one comparison, "error" or "drop" (counted in the result).
    Raises:
      TooFewComparisons: names the users with one comparison, unless they are dropped.
      ValueError: no rows, or nobody left.
    """
    check_range("[1, inf)", context=context, targets=targets)
    check_range("[0, inf)", seed=seed)
    rows: dict[Hashable, list[int]] = {}
    for row, user in enumerate(users):
        rows.setdefault(user, []).append(row)
    alone = [user for user, own in rows.items() if len(own) < 2]
    if alone and single == "error":
        raise TooFewComparisons(
            f"{len(alone)} of {len(rows)} users have a single comparison ({_names(alone)}); a user "
            "needs one to be recognised by and another to be explained: give them more, or leave "
            'them out with single="drop"'
        )
    kept = {user: own for user, own in rows.items() if len(own) >= 2}
    if not kept:
        raise ValueError(f"no user has two comparisons: {len(rows)} users, {len(users)} rows")
    found = UserSets(
        tuple(kept), *_empty(len(kept), context), *_empty(len(kept), targets), len(alone)
    )
    rng = np.random.default_rng(seed)
    for i, own in enumerate(kept.values()):
        order = rng.permutation(own)
        size = min(context, len(own) - 1)
        rest = order[size : size + targets]
        found.context[i, :size], found.context_mask[i, :size] = order[:size], True
        found.targets[i, : len(rest)], found.targets_mask[i, : len(rest)] = rest, True
    return found


def user_groups(users: Sequence[Hashable], groups: Sequence[Hashable]) -> dict[Hashable, Hashable]:
    """The group of each user, from rows that name both, in the order of first rows.

    Raises:
      ValueError: columns of unequal length, a user in two groups, or a group of one user, which
        cannot be told from that user.
    """
    if len(users) != len(groups):
        raise ValueError(f"{len(users)} rows name a user and {len(groups)} a group")
    found: dict[Hashable, Hashable] = {}
    for user, group in zip(users, groups, strict=True):
        if found.setdefault(user, group) != group:
            raise ValueError(f"user {user!r} is in two groups, {found[user]!r} and {group!r}")
    alone = [group for group, count in Counter(found.values()).items() if count < 2]
    if alone:
        raise ValueError(f"{len(alone)} groups have one user ({_names(alone)}): give them more")
    return found


def comparisons_per_user(users: Sequence[Hashable]) -> dict[int, int]:
    """How many users have each number of comparisons, ascending."""
    return dict(sorted(Counter(Counter(users).values()).items()))


def _empty(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers 0 that do not count."""
    return np.zeros((rows, columns), np.int64), np.zeros((rows, columns), bool)


def _names(users: list[Hashable]) -> str:
    """The first three of them."""
    shown = ", ".join(repr(user) for user in users[:3])
    return f"{shown}, ..." if len(users) > 3 else shown
