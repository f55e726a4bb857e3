"""Checkpoints: a pytree and some JSON in one folder, written completely or not at all.

A folder is filled under a temporary name and renamed when it is complete, so a killed process
leaves no partial checkpoint. `checkpoint.json` has the size and SHA-256 of every file and the
SHA-256 of every array; both are compared when reading, so damage is an error, never a wrong number.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from rlhf_jax.training import trees
from rlhf_jax.training.errors import CheckpointError, ResultsError, naming_full_disk
from rlhf_jax.types import PyTree

FORMAT = 2
TEMPORARY = ".tmp-"
REMEDY = "delete this folder, then resume: its work is repeated"
# Array storage takes its folder for a glob pattern, splits it at backslashes and needs UTF-8.
UNSTORABLE = re.compile(r"[*?\[\\\x00-\x1f\x7f\ud800-\udfff]")
LONGEST_PATH = 3500  # bytes; the system allows 4096, and array storage adds its own file names


class Store(NamedTuple):
    """The checkpoints of one loop: folders `step_<n>` under root. Only the last `keep` are kept."""

    root: Path
    keep: int = 2


class Checkpoint(NamedTuple):
    """A checkpoint that was read: its step, the tree, and the metadata saved with it."""

    step: int
    tree: PyTree
    metadata: dict[str, Any]


def save(store: Store, step: int, tree: PyTree, metadata: dict[str, Any] | None = None) -> Path:
    """Saves a tree as the checkpoint of a step, then deletes all but the last `keep`.

    Args:
      step: number of updates done, >= 0. An existing checkpoint of this step is replaced.
      tree: any pytree of arrays (sharded or not), typed PRNG keys and Python numbers.
      metadata: JSON values to save with it.
    Raises:
      DiskFullError: the disk is full; earlier checkpoints are intact.
    """
    folder = folder_of(store, step)
    write(folder, tree, {"step": step, "metadata": metadata or {}})
    for old in steps(store)[: -store.keep]:
        _delete(folder_of(store, old))
    return folder


def steps(store: Store) -> list[int]:
    """The steps that have a checkpoint, ascending. Folders with other names are ignored."""
    if not store.root.is_dir():
        return []
    found = [re.fullmatch("step_([0-9]{10,})", path.name) for path in store.root.iterdir()]
    numbers = [int(match[1]) for match in found if match]
    return sorted(step for step in numbers if folder_of(store, step).is_dir())


def folder_of(store: Store, step: int) -> Path:
    """The folder of a step's checkpoint, whether or not it exists."""
    return store.root / f"step_{step:010d}"


def restore(store: Store, like: PyTree, *, step: int | None = None) -> Checkpoint | None:
    """Reads the newest checkpoint, or that of `step`; None if the store is empty.

    Args:
      like: a tree of arrays or `jax.ShapeDtypeStruct` with the same structure, dtypes and shapes.
        The arrays read get its shardings.
      step: None reads the newest. If that one is damaged it is an error; an older one is never read
        in its place.
    Raises:
      CheckpointError: the checkpoint is damaged, missing, or has another tree.
    """
    present = steps(store)
    if step is None and not present:
        return None
    chosen = present[-1] if step is None else step
    if chosen not in present:
        raise CheckpointError(f"{store.root} has no checkpoint of step {chosen}; it has {present}")
    tree, info = read_checkpoint(folder_of(store, chosen), like)
    return Checkpoint(chosen, tree, info["metadata"])


def check_path(folder: Path) -> None:
    """Raises ResultsError for a folder in which array storage cannot read its own files."""
    path = str(folder.absolute())
    if re.match(r"[a-zA-Z][\w+.-]*:/", str(folder)):  # Path makes one slash of two
        raise ResultsError(f"{folder} looks like a URL: choose a local folder")
    if found := UNSTORABLE.search(path):
        raise ResultsError(
            f"{path!r} holds {found[0]!r}, which array storage cannot have in a path: "
            "choose another folder"
        )
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise ResultsError(
            f"{path[:60]}... has more than {LONGEST_PATH} bytes: choose another folder"
        )


def write(folder: Path, tree: PyTree, info: dict[str, Any]) -> None:
    """Writes a tree and JSON info as one folder; an existing folder is replaced at the end."""
    check_path(folder)
    leaves = trees.describe(tree)
    arrays = [trees.storable(leaf) for leaf in jax.tree.leaves(tree)]
    record = {
        "format": FORMAT,
        **info,
        "skeleton": trees.skeleton(tree),
        "leaves": [
            leaf._asdict() | {"sha256": trees.digest(array)}
            for leaf, array in zip(leaves, arrays, strict=True)
        ],
    }
    temporary = folder.parent / f"{TEMPORARY}{folder.name}-{os.getpid()}"
    with naming_full_disk(folder), _removed_on_error(temporary):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        stored = {str(i): array for i, array in enumerate(arrays) if not _is_empty(leaves[i])}
        if stored:
            with _quiet():
                path = (temporary / "arrays").absolute()
                _orbax().save(path, args=ocp.args.PyTreeSave(stored))
        record["files"] = _fingerprints(temporary)
        write_json(temporary / "checkpoint.json", {**record, "sha256": json_digest(record)})
        _swap_in(temporary, folder)


def read_checkpoint(
    folder: Path,
    like: PyTree | None = None,
    *,
    check: Callable[[dict[str, Any]], None] = lambda record: None,
) -> tuple[PyTree, dict[str, Any]]:
    """Reads a folder made by `write`, verifying every file and every array.

    Args:
      like: as in `restore`. None rebuilds a tree of dicts, lists and tuples of NumPy arrays.
      check: called with the record before any array is read; it may raise.
    Returns:
      The tree, and the record: the JSON info given to `write`, with "leaves" and "files" added.
    Raises:
      CheckpointError: the checkpoint is damaged, or has another tree.
    """
    record = read_record(folder)
    check(record)
    leaves = [
        trees.Leaf(x["path"], x["kind"], x["dtype"], tuple(x["shape"])) for x in record["leaves"]
    ]
    if like is not None:
        difference = trees.first_difference(leaves, trees.describe(like))
        if difference:
            raise CheckpointError(f"{folder} was saved by other code ({difference}): {REMEDY}")
    elif record["skeleton"] is None:
        raise CheckpointError(f"{folder} can only be read with `like=`, a tree of its structure")
    examples = jax.tree.leaves(like) if like is not None else [None] * len(leaves)
    arrays = _read_arrays(folder, leaves, examples)
    for array, entry in zip(arrays, record["leaves"], strict=True):
        if trees.digest(array) != entry["sha256"]:
            raise CheckpointError(f"{folder} is damaged ({entry['path']} has changed): {REMEDY}")
    restored = [trees.restored_leaf(*parts) for parts in zip(arrays, leaves, examples, strict=True)]
    if like is None:
        return trees.from_skeleton(record["skeleton"], restored), record
    return jax.tree.unflatten(jax.tree.structure(like), restored), record


def remove(store: Store) -> None:
    """Deletes every checkpoint, and the root folder if it is then empty."""
    for step in steps(store):
        _delete(folder_of(store, step))
    if store.root.is_dir() and not any(store.root.iterdir()):
        store.root.rmdir()


def clean(root: Path) -> None:
    """Removes temporary folders and files of killed processes."""
    for path in root.glob(f"{TEMPORARY}*") if root.is_dir() else ():
        shutil.rmtree(path, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON through a temporary file and a rename, so the file is never incomplete."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _orbax() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler())


def _is_empty(leaf: trees.Leaf) -> bool:
    """Whether an array has no elements. Array storage refuses those; dtype and shape suffice."""
    return leaf.kind == "array" and 0 in leaf.shape


def _read_arrays(folder: Path, leaves: list[trees.Leaf], examples: list[Any]) -> list[Any]:
    """The raw arrays of a folder, with the shardings of the examples, else on the host."""
    how = {
        str(i): ocp.RestoreArgs(restore_type=np.ndarray)
        if leaf.kind != "array" or trees.on_default_device(getattr(example, "sharding", None))
        else ocp.ArrayRestoreArgs(sharding=example.sharding)
        for i, (leaf, example) in enumerate(zip(leaves, examples, strict=True))
        if not _is_empty(leaf)
    }
    found = {}
    if how:
        args = ocp.args.PyTreeRestore(item=dict.fromkeys(how, 0), restore_args=how)
        try:
            with _quiet():
                found = _orbax().restore((folder / "arrays").absolute(), args=args)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            message = f"{folder} is damaged (its arrays cannot be read): {REMEDY}"
            raise CheckpointError(message) from error
    return [
        np.zeros(leaf.shape, leaf.dtype) if _is_empty(leaf) else found[str(i)]
        for i, leaf in enumerate(leaves)
    ]


def read_record(folder: Path) -> dict[str, Any]:
    """The content of checkpoint.json, after checking its digest and those of all its files."""
    try:
        record = json.loads((folder / "checkpoint.json").read_text(encoding="utf-8"))
        stated = record.pop("sha256")
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is damaged (no checkpoint.json): {REMEDY}") from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        message = f"{folder} is damaged (checkpoint.json cannot be read): {REMEDY}"
        raise CheckpointError(message) from error
    if stated != json_digest(record):
        raise CheckpointError(f"{folder} is damaged (checkpoint.json has changed): {REMEDY}")
    if record["format"] != FORMAT:
        raise CheckpointError(
            f"{folder} has format {record['format']}, this version reads {FORMAT}: "
            "choose another --out"
        )
    found = _fingerprints(folder)
    for name, fingerprint in record["files"].items():
        if found.get(name) != fingerprint:
            fault = "has changed" if name in found else "is missing"
            raise CheckpointError(f"{folder} is damaged ({name} {fault}): {REMEDY}")
    return record


def json_digest(value: Any) -> str:
    """SHA-256 of JSON values, independent of the order of names."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _fingerprints(folder: Path) -> dict[str, list[Any]]:
    """Size and SHA-256 of every file under the folder but checkpoint.json, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): [path.stat().st_size, _file_digest(path)]
        for path in files
        if path != folder / "checkpoint.json"
    }


def _file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _swap_in(temporary: Path, folder: Path) -> None:
    """Gives a complete folder its final name; an existing one is moved aside and deleted last."""
    aside = folder.parent / f"{TEMPORARY}replaced-{folder.name}-{os.getpid()}"
    if folder.exists():
        os.rename(folder, aside)
    os.rename(temporary, folder)
    shutil.rmtree(aside, ignore_errors=True)
    descriptor = os.open(folder.parent, os.O_RDONLY)
    os.fsync(descriptor)  # the rename itself survives a power cut
    os.close(descriptor)


def _delete(folder: Path) -> None:
    """Renames a folder and deletes it, so an interrupted deletion leaves no partial checkpoint."""
    doomed = folder.parent / f"{TEMPORARY}deleted-{folder.name}-{os.getpid()}"
    os.rename(folder, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


@contextmanager
def _removed_on_error(folder: Path) -> Generator[None, None, None]:
    """Removes the folder if the block raises."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Silences the log of the storage library; its errors are raised as well."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
