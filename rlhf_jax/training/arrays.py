"""Arrays in a folder, by Orbax: copied to the host first, written in the background, read anywhere.

An array that lies on devices of several processes is written by all of them, each its own parts.
Every other one, which each process holds whole, is written by process 0. `digests` are of the
numbers in memory: of a whole array, or of each part.
"""

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from rlhf_jax.training import trees
from rlhf_jax.training.trees import Leaf

WHOLE = ""  # the region of an array that is not in parts


class Held(NamedTuple):
    """A leaf that waits to be written, untouched by the steps that follow.

    array: what Orbax is given. parts: region -> a copy of this process's part there.
    """

    array: Any
    parts: dict[str, np.ndarray]


def copy_leaf(leaf: Any) -> Held:
    """A leaf of a tree, copied to the host. Orbax makes its own copies of arrays in parts."""
    array = trees.storable(leaf)
    if trees.is_whole_here(array):
        copy = np.array(array)  # always a copy: the next update reuses the memory
        return Held(copy, {WHOLE: copy})
    shards = [shard for shard in array.addressable_shards if shard.replica_id == 0]
    return Held(array, {_region(x.index, array.shape): np.array(x.data) for x in shards})


def digests(held: Sequence[Held], *, whole: bool) -> list[dict[str, str]]:
    """Region -> SHA-256 of the parts of each leaf; of whole arrays only where `whole` says so."""
    return [
        {
            region: trees.digest(part)
            for region, part in each.parts.items()
            if whole or region != WHOLE
        }
        for each in held
    ]


def changed(array: Any, saved: dict[str, str]) -> bool:
    """Whether a part of an array that this process holds differs from its digest."""
    for region, sha256 in saved.items():
        part = _part(array, region)
        if part is not None and trees.digest(part) != sha256:
            return True
    return False


def start_writing(folder: Path, held: Sequence[Held | None]) -> Callable[[], None]:
    """Starts to write arrays (None for those that need not be stored); the result waits for it."""
    stored = {str(i): each.array for i, each in enumerate(held) if each is not None}
    if not stored:
        return lambda: None
    path, args = folder.absolute(), ocp.args.PyTreeSave(stored)
    if jax.process_count() == 1:
        return lambda: _write(path, args)
    processes = set(range(jax.process_count()))
    # Barriers of the coordination service, not of the devices: those are busy with the next step.
    together = ocp.options.MultiprocessingOptions(active_processes=processes)
    directly = ocp.options.AsyncOptions(create_directories_asynchronously=False)
    with quiet():
        saver = ocp.AsyncCheckpointer(
            ocp.PyTreeCheckpointHandler(multiprocessing_options=together),
            async_options=directly,
            multiprocessing_options=together,
        )
        saver.save(path, args=args)

    def wait() -> None:
        with quiet():
            saver.wait_until_finished()
            saver.close()

    return wait


def read_arrays(folder: Path, leaves: Sequence[Leaf], examples: Sequence[Any]) -> list[Any]:
    """The arrays of a folder, with the shardings of the examples, else on the host.

    Raises:
      OSError, ValueError, KeyError, RuntimeError: they cannot be read.
    """
    how = {
        str(i): ocp.RestoreArgs(restore_type=np.ndarray)
        if leaf.kind != "array" or trees.on_default_device(getattr(example, "sharding", None))
        else ocp.ArrayRestoreArgs(sharding=example.sharding)
        for i, (leaf, example) in enumerate(zip(leaves, examples, strict=True))
        if not is_empty(leaf)
    }
    found = {}
    if how:
        args = ocp.args.PyTreeRestore(item=dict.fromkeys(how, 0), restore_args=how)
        with quiet():
            reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
            found = reader.restore(folder.absolute(), args=args)
    return [
        np.zeros(leaf.shape, leaf.dtype) if is_empty(leaf) else found[str(i)]
        for i, leaf in enumerate(leaves)
    ]


def is_empty(leaf: Leaf) -> bool:
    """Whether an array has no elements. Array storage refuses those; dtype and shape suffice."""
    return leaf.kind == "array" and 0 in leaf.shape


@contextmanager
def quiet() -> Generator[None, None, None]:
    """Silences the log of the storage library; its errors are raised as well."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _write(path: Path, args: Any) -> None:
    with quiet():
        ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).save(path, args=args)


def _region(index: tuple[slice, ...], shape: tuple[int, ...]) -> str:
    """`0:4,2:8`, the rows and columns of a part."""
    ranges = (part.indices(size) for part, size in zip(index, shape, strict=True))
    return ",".join(f"{start}:{stop}" for start, stop, _ in ranges)


def _part(array: Any, region: str) -> np.ndarray | None:
    """The part of an array in a region, if this process holds it."""
    if region == WHOLE:
        return np.asarray(array) if trees.is_whole_here(array) else None
    wanted = [tuple(map(int, each.split(":"))) for each in region.split(",")]
    shards = [((slice(None),) * len(wanted), array)]
    if not trees.is_whole_here(array):
        shards = [(shard.index, shard.data) for shard in array.addressable_shards]
    for index, data in shards:
        held = [part.indices(size) for part, size in zip(index, array.shape, strict=True)]
        pairs = list(zip(held, wanted, strict=True))
        if all(a <= start and stop <= b for (a, b, _), (start, stop) in pairs):
            place = tuple(slice(start - a, stop - a) for (a, _, _), (start, stop) in pairs)
            return np.asarray(data)[place]
    return None
