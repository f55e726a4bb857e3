"""Cross-validation folds in which related rows stay together.

Two pairs with the same prompt, or two turns of one dialogue, are nearly the same: a model trained
on one has in effect seen the other. So rows are split by group.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from rlhf_jax.data.records import ASSISTANT


class Fold(NamedTuple):
    """Row numbers for training and for testing, ascending."""

    train: Int[np.ndarray, " N"]
    test: Int[np.ndarray, " M"]


def dialogue_opening(prompt: str, *, turns: int = 1) -> str:
    """The beginning of a dialogue up to the answer to its first human turn, stripped.

    Prompts from one dialogue are prefixes of one another, so they have the same opening. A prompt
    without an "Assistant:" marker is its own opening.

    Args:
      prompt: any number of turns. The assistant may begin.
      turns: human turns in the opening, >= 1.
    """
    parts = prompt.split(ASSISTANT)
    return ASSISTANT.join(parts[: turns + (not parts[0].strip())]).strip()


def dialogue_groups(prompts: Sequence[str], *, folds: int) -> list[str]:
    """The group of each row: the opening of its dialogue.

    If an opening, e.g. a greeting, is shared by more than N / K rows, it says little about the
    question: those dialogues are grouped by one more turn, repeatedly if necessary.

    Args:
      prompts: N prompts.
      folds: K.
    """
    turns, groups = 1, [dialogue_opening(prompt) for prompt in prompts]
    while True:
        sizes = Counter(groups)
        deeper = [
            dialogue_opening(prompt, turns=turns + 1) if sizes[g] * folds > len(prompts) else g
            for prompt, g in zip(prompts, groups, strict=True)
        ]
        if deeper == groups:
            return groups
        turns, groups = turns + 1, deeper


def kfold(groups: Sequence[Hashable], *, folds: int, seed: int) -> list[Fold]:
    """K folds of nearly equal size; every group lies in one test fold only.

    Groups are shuffled, sorted by size (largest first, stable) and assigned one by one to the fold
    with the fewest rows, so test sizes differ by at most the largest group. The result depends only
    on (groups in their order, folds, seed): Python's salted `hash` is not used, and NumPy keeps the
    raw Philox stream fixed between versions.

    Args:
      groups: the group of each row, for example from `dialogue_groups`; N > 0 entries.
      folds: K >= 2, at most the number of groups.
      seed: any integer >= 0.
    Returns:
      K folds; their test parts partition the N rows.
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
