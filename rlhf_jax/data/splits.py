"""Cross-validation folds in which related rows stay together.

Two pairs about one prompt, or two turns of one dialogue, say nearly the same; a model that
trained on one of them has seen the other. So rows are split by group.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int


class Fold(NamedTuple):
    """Row numbers, ascending: what to train on and what to test on."""

    train: Int[np.ndarray, " N"]
    test: Int[np.ndarray, " M"]


def dialogue_opening(prompt: str) -> str:
    """The first human turn of a dialogue, stripped: the group of a row of whole dialogues.

    Prompts of one dialogue are prefixes of one another and share their first turn. A prompt
    without an "Assistant:" marker is its own opening.
    """
    return prompt.split("\n\nAssistant:", 1)[0].strip()


def kfold(groups: Sequence[Hashable], *, folds: int, seed: int) -> list[Fold]:
    """K folds of nearly equal size; every group lies in one test fold only.

    Groups are shuffled, sorted by size (largest first, stable) and given one by one to the fold
    with the fewest rows, so test sizes differ by at most the largest group. The result depends on
    (groups in their order, folds, seed) alone: no use of Python's salted `hash`, and the raw
    Philox stream, which NumPy keeps fixed between versions.

    Args:
      groups: the group of each row, for example `dialogue_opening(prompt)`; N > 0 entries.
      folds: K >= 2, at most the number of groups.
      seed: any integer >= 0.
    Returns:
      K folds; the test parts divide the N rows.
    Raises:
      ValueError: folds out of range or seed negative.
    """
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    if not 2 <= folds <= len(members):
        raise ValueError(
            f"folds must be between 2 and the number of distinct prompts ({len(members)}), "
            f"got {folds}"
        )
    if seed < 0:
        raise ValueError(f"seed must be >= 0, got {seed}")
    rows_of = list(members.values())
    shuffled = np.argsort(np.random.Philox(seed).random_raw(len(rows_of)), kind="stable")
    order = sorted(shuffled, key=lambda g: -len(rows_of[g]))
    tests: list[list[int]] = [[] for _ in range(folds)]
    for g in order:
        min(tests, key=len).extend(rows_of[g])
    return [_fold(sorted(test), len(groups)) for test in tests]


def _fold(test: list[int], total: int) -> Fold:
    """Test rows and the rest."""
    rows = np.array(test, np.int64)
    return Fold(train=np.setdiff1d(np.arange(total), rows), test=rows)
