"""Other layouts of the same batch: split, reordered, padded, packed, with rows of weight zero.

A layout is `batch -> parts`. The losses of the parts, added as (total, weight) and divided once,
must give the loss of the whole batch. A layout that does not apply to a batch raises
`NotApplicable` with the reason.

A batch is any pytree of NumPy arrays with the rows first. Its steps are found through its
`Trajectory` records: their actions, masks and inputs, and all other arrays with a shape that begins
with that of the mask (log-probs, advantages). Inputs are either arrays with an entry per step
(state ids, features) or rows of tokens, which have the fields ids, positions, segments and
completion_length of `policies.language`.

Layouts that move steps write junk into all padding, old and new: the largest or the smallest action
and input of the batch, and NaN in all other floats. (Inputs are not NaN, because the model computes
with them before the mask is applied.)
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax.tree_util import DictKey, GetAttrKey, keystr, tree_flatten_with_path, tree_map_with_path

from rlhf_jax.types import PyTree, Trajectory

Fill = bool | int | float | np.generic
Junk = Callable[[np.ndarray], Fill]  # all entries -> the value written into padding

EXTRA = 2  # number of padding steps, or of rows of weight zero, that are added
WIDE = 128  # smallest wide padding: real runs round lengths up to 8, to a power of 2 or to 128


class NotApplicable(ValueError):
    """A layout that does not apply to this batch; the message is the reason."""


class Cells(NamedTuple):
    """Source of each new cell: its flat index among the old cells, or -1 for padding.

    steps: [*R, T'] for arrays shaped like the mask; tokens: [*R, L'] for rows of tokens.
    """

    steps: np.ndarray
    tokens: np.ndarray


def count_rows(batch: PyTree) -> int:
    """Number of rows of a batch.

    Raises:
      ValueError: an array has no leading axis or another number of rows; the message has its path.
    """
    leaves = [(f"batch{keystr(path)}", np.shape(x)) for path, x in tree_flatten_with_path(batch)[0]]
    if not leaves:
        raise ValueError("the batch holds no array")
    for name, shape in leaves:
        if not shape:
            raise ValueError(
                f"{name} has no leading axis: every array of a batch has its rows first"
            )
        if shape[0] != leaves[0][1][0]:
            raise ValueError(
                f"{name} has {shape[0]} rows where {leaves[0][0]} has {leaves[0][1][0]}"
            )
    return leaves[0][1][0]


def equal_parts(batch: PyTree, *, parts: int) -> list[PyTree]:
    """Micro-batches with equal numbers of rows, up to one row."""
    return [_take(batch, rows) for rows in np.array_split(np.arange(count_rows(batch)), parts)]


def unequal_parts(batch: PyTree) -> list[PyTree]:
    """Two micro-batches: the first row, and the others."""
    rows = np.arange(count_rows(batch))
    if len(rows) < 3:
        raise NotApplicable(f"{len(rows)} rows have no unequal split")
    return [_take(batch, rows[:1]), _take(batch, rows[1:])]


def reordered(batch: PyTree) -> list[PyTree]:
    """The rows in another order, the same one in each call."""
    rows = count_rows(batch)
    if rows == 1:
        raise NotApplicable("one row has one order")
    order = np.random.default_rng(0).permutation(rows)
    return [_take(batch, np.roll(order, 1) if (order == np.arange(rows)).all() else order)]


def padded(batch: PyTree) -> list[PyTree]:
    """Two more padding steps at the end of each row; junk is the largest entry."""

    def cells(trajectory: Trajectory) -> Cells:
        steps, tokens = _places(trajectory)
        return Cells(_extended(steps), _extended(tokens))

    return [_moved(batch, cells, np.max)]


def padded_wide(batch: PyTree) -> list[PyTree]:
    """More padding at the end of each row: as many steps as there are, and at least 128.

    Junk is the smallest entry, so a loss that recognises padding by its ids is caught with either.
    """

    def cells(trajectory: Trajectory) -> Cells:
        steps, tokens = _places(trajectory)
        room = max(steps.shape[-1], WIDE)
        return Cells(_extended(steps, room), _extended(tokens, room))

    return [_moved(batch, cells, np.min)]


def padded_left(batch: PyTree) -> list[PyTree]:
    """Padding on the other side.

    Each row gets two more padding steps and is rolled until its padding is in front. A row of
    tokens rolls with its positions and segments if the actions span the row (T = L); a prompt with
    a completion (T < L) gets two more padding tokens before the prompt.
    """

    def cells(trajectory: Trajectory) -> Cells:
        steps, tokens = _places(trajectory)
        if not _has_tokens(trajectory):
            _require_steps(trajectory, "the padding of its inputs is not that of the steps")
        elif steps.shape != tokens.shape:
            return Cells(steps, _extended(tokens, front=True))
        rolled = _rolled(_extended(tokens))
        return Cells(rolled, rolled)

    return [_moved(batch, cells, np.max)]


def packed(batch: PyTree) -> list[PyTree]:
    """Neighbouring rows joined into one, for losses that are sums over steps.

    Each new row takes n old rows, where n > 1 is the smallest divisor of their number. Rows of
    tokens become documents as in `data.padding.pack_rows`: adjacent, each with positions from 0 and
    its own segment, with actions that span the row (T = L) and prompts that do not count.
    """
    batch, group = _packable(batch)

    def grouped(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x) // group, group * x.shape[1])

    def cells(trajectory: Trajectory) -> Cells:
        steps, tokens = _places(trajectory)
        if not _has_tokens(trajectory):
            return Cells(grouped(steps), grouped(steps))
        prompt = tokens.shape[1] - steps.shape[1]
        steps = np.pad(steps, ((0, 0), (prompt, 0)), constant_values=-1)
        padding = grouped(np.asarray(trajectory.inputs.segments)) == 0
        order = np.argsort(padding, axis=1, kind="stable")
        return Cells(*(np.take_along_axis(grouped(x), order, axis=1) for x in (steps, tokens)))

    return [_moved(batch, cells, np.max)]


def with_empty_rows(batch: PyTree) -> list[PyTree]:
    """Two more rows of weight zero, with NaN in all floats outside the trajectories.

    The weights are the array named "weights". The first row repeats a row of the batch; the second
    has an all-False mask, like the filler rows of a loader.
    """
    rows = count_rows(batch)
    nodes = tree_flatten_with_path(batch, is_leaf=_is_trajectory)[0]
    if not any(_is_weights(path) for path, _ in nodes):
        raise NotApplicable("the batch has no weights")
    copies = np.arange(EXTRA) % rows
    longer = _take(batch, np.concatenate([np.arange(rows), copies]))

    def spoil(path: tuple, x: PyTree) -> PyTree:
        if _is_trajectory(x):
            emptied = partial(_refilled, start=rows + 1, fill=False)
            return replace(x, mask=emptied(x.mask), valid=jax.tree.map(emptied, x.valid))
        if _is_weights(path):
            return _refilled(x, rows, 0.0)
        return _refilled(x, rows, np.nan) if _is_float(x) else x

    return [tree_map_with_path(spoil, longer, is_leaf=_is_trajectory)]


def _take(batch: PyTree, rows: np.ndarray) -> PyTree:
    return jax.tree.map(lambda x: np.asarray(x)[rows], batch)


def _refilled(x: np.ndarray, start: int, fill: Fill) -> np.ndarray:
    """A copy of x with `fill` in the rows from `start` on."""
    out = np.array(x)
    out[start:] = fill
    return out


def _is_trajectory(node: PyTree) -> bool:
    return isinstance(node, Trajectory)


def _is_float(x: PyTree) -> bool:
    return jax.numpy.issubdtype(np.asarray(x).dtype, np.floating)


def _is_weights(path: tuple) -> bool:
    """Whether this is the path of an array named "weights"."""
    return path[-1:] in ((GetAttrKey("weights"),), (DictKey("weights"),))


def _has_tokens(trajectory: Trajectory) -> bool:
    """Whether the inputs are rows of tokens."""
    fields = ("ids", "positions", "segments", "completion_length")
    return all(hasattr(trajectory.inputs, name) for name in fields)


def _has_steps(x: PyTree, trajectory: Trajectory) -> bool:
    """Whether x has an entry for every step."""
    shape = np.shape(trajectory.mask)
    return np.shape(x)[: len(shape)] == shape


def _require_steps(trajectory: Trajectory, reason: str) -> None:
    if not all(_has_steps(x, trajectory) for x in jax.tree.leaves(trajectory.inputs)):
        raise NotApplicable(f"inputs have an array without steps: {reason}")


def _places(trajectory: Trajectory) -> Cells:
    """Cells of the unchanged layout, with -1 at padding."""
    steps = _numbered(np.asarray(trajectory.mask if trajectory.valid is None else trajectory.valid))
    if not _has_tokens(trajectory):
        return Cells(steps, steps)
    tokens = _numbered(np.asarray(trajectory.inputs.segments) > 0)
    # The model reads a prompt, or a first token, although its step does not count: keep it.
    read = tokens[..., tokens.shape[-1] - steps.shape[-1] :] >= 0
    return Cells(np.where(read, _numbered(np.ones_like(read)), steps), tokens)


def _numbered(real: np.ndarray) -> np.ndarray:
    """Flat index of each cell; -1 where `real` is False."""
    return np.where(real, np.arange(np.size(real)).reshape(np.shape(real)), -1)


def _extended(x: np.ndarray, room: int = EXTRA, *, front: bool = False) -> np.ndarray:
    """x with `room` columns of padding after it, or in front of it."""
    columns = [(0, 0)] * (np.ndim(x) - 1) + [(room, 0) if front else (0, room)]
    return np.pad(x, columns, constant_values=-1)


def _rolled(cells: np.ndarray) -> np.ndarray:
    """Each row rolled until the padding after its last real column is in front."""
    after = np.argmax(cells[..., ::-1] >= 0, axis=-1)[..., None]
    columns = (np.arange(cells.shape[-1]) - after) % cells.shape[-1]
    return np.take_along_axis(cells, columns, axis=-1)


def _packable(batch: PyTree) -> tuple[PyTree, int]:
    """The batch with distinct segment numbers in the rows to be joined; and their number."""
    nodes = tree_flatten_with_path(batch, is_leaf=_is_trajectory)[0]
    trajectories = [x for _, x in nodes if _is_trajectory(x)]
    if len(trajectories) > 1:
        raise NotApplicable(f"a row has {len(trajectories)} trajectories, each with its own sum")
    for path, x in nodes:
        if trajectories and not (_is_trajectory(x) or _has_steps(x, trajectories[0])):
            raise NotApplicable(f"batch{keystr(path)} has one entry per row, not per step")
    rows = count_rows(batch)
    if rows == 1:
        raise NotApplicable("one row has nothing to share a row with")
    group = next(size for size in range(2, rows + 1) if rows % size == 0)

    def number(trajectory: PyTree) -> PyTree:
        if not _is_trajectory(trajectory):
            return trajectory
        if np.ndim(trajectory.mask) != 2:
            raise NotApplicable(f"rows are not single answers: mask {np.shape(trajectory.mask)}")
        if not _has_tokens(trajectory):
            _require_steps(trajectory, "a row's own input cannot be shared")
            return trajectory
        inputs = trajectory.inputs
        segments = np.asarray(inputs.segments)
        last = segments.max(axis=1).reshape(-1, group)
        before = (np.cumsum(last, axis=1) - last).reshape(-1, 1)
        segments = np.where(segments > 0, segments + before, 0)
        return replace(trajectory, inputs=replace(inputs, segments=segments))

    return jax.tree.map(number, batch, is_leaf=_is_trajectory), group


def _moved(batch: PyTree, cells: Callable[[Trajectory], Cells], junk: Junk) -> PyTree:
    """The batch with moved cells, in each trajectory and in the arrays that belong to it."""
    nodes = jax.tree.leaves(batch, is_leaf=_is_trajectory)
    trajectories = [x for x in nodes if _is_trajectory(x)]
    if not trajectories:
        raise NotApplicable("the batch holds no Trajectory: its steps are not known")

    def move(path: tuple, x: PyTree) -> PyTree:
        if _is_trajectory(x):
            return _moved_trajectory(x, cells(x), junk)
        if not any(_has_steps(x, trajectory) for trajectory in trajectories):
            return x
        if len(trajectories) > 1:
            raise NotApplicable(f"batch{keystr(path)} has the steps of no single trajectory")
        fill = np.nan if _is_float(x) else _entry(x, junk)
        return _gather(x, cells(trajectories[0]).steps, fill)

    return tree_map_with_path(move, batch, is_leaf=_is_trajectory)


def _moved_trajectory(trajectory: Trajectory, cells: Cells, junk: Junk) -> Trajectory:
    inputs, valid = trajectory.inputs, trajectory.valid
    if _has_tokens(trajectory):
        inputs = replace(
            inputs,
            ids=_gather(inputs.ids, cells.tokens, _entry(inputs.ids, junk)),
            positions=_gather(inputs.positions, cells.tokens, 0),
            segments=_gather(inputs.segments, cells.tokens, 0),
            completion_length=cells.steps.shape[-1],
        )
        if valid is not None:  # a packed prompt lies among the steps: valid, but not counted
            valid = inputs.segments[..., -cells.steps.shape[-1] :] > 0
    else:
        inputs = jax.tree.map(
            lambda x: _gather(x, cells.steps, _entry(x, junk)) if _has_steps(x, trajectory) else x,
            inputs,
        )
        if valid is not None:
            valid = _gather(valid, cells.steps, False)
    actions = _gather(trajectory.actions, cells.steps, _entry(trajectory.actions, junk))
    mask = _gather(trajectory.mask, cells.steps, False)
    return Trajectory(inputs, actions, mask, valid)  # ty: ignore[invalid-argument-type]  (NumPy)


def _entry(x: PyTree, junk: Junk) -> Fill:
    """The junk for padding of an input; False for a mask."""
    x = np.asarray(x)
    return False if x.dtype == bool else junk(x)


def _gather(x: PyTree, cells: np.ndarray, fill: Fill) -> np.ndarray:
    """[*R, T', ...] from x [*B, T, ...]."""
    x = np.asarray(x)
    out = x.reshape(-1, *x.shape[cells.ndim :])[np.maximum(cells, 0)]
    out[cells < 0] = fill
    return out
