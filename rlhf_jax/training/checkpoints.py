"""Checkpoints: a pytree and some JSON in one folder, written completely or not at all.

A folder is filled under a temporary name and renamed when it is complete, so a killed process
leaves no partial checkpoint. `checkpoint.json` has the size and SHA-256 of every file and the
SHA-256 of every array; both are compared when reading, so damage is an error, never a wrong number.
With several processes all of them write and read, in one folder that they share: the SHA-256 of an
array is then of the parts that they hold, the files are compared by turns, and process 0 renames.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax

from rlhf_jax.training import arrays, trees
from rlhf_jax.training.errors import CheckpointError, ResultsError, naming_full_disk
from rlhf_jax.training.processes import divided, exchange, on_first, process, together
from rlhf_jax.types import PyTree

FORMAT = 2
TEMPORARY = ".tmp-"
SAVES = "saves"  # what processes exchange while they save, beside the training
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
    with saving(store) as saver:
        saver.start(step, tree, metadata)
    return folder_of(store, step)


@dataclass
class Saver:
    """Saves of one loop, of which at most one is under way. `check` and `wait` raise its errors."""

    store: Store
    thread: ThreadPoolExecutor
    under_way: Future[None]

    def start(self, step: int, tree: PyTree, metadata: dict[str, Any] | None = None) -> None:
        """As `save`, but returns when the tree is copied: it may then be changed or donated."""
        self.wait()
        info = {"step": step, "metadata": metadata or {}}
        finish = _start(folder_of(self.store, step), tree, info)
        self.under_way = self.thread.submit(self._finish, finish)

    def check(self) -> None:
        """Raises the error of a save that has failed."""
        if self.under_way.done():
            self.wait()

    def wait(self) -> None:
        """Until the save is on the disk."""
        under_way, self.under_way = self.under_way, _nothing()
        under_way.result()

    def _finish(self, finish: Callable[[], None]) -> None:
        finish()
        if process() == 0:
            for old in steps(self.store)[: -self.store.keep]:
                _delete(folder_of(self.store, old))


@contextmanager
def saving(store: Store) -> Generator[Saver, None, None]:
    """Saves in the background, all of which are on the disk at the end of the block."""
    with ThreadPoolExecutor(1, "checkpoints") as thread:
        saver = Saver(store, thread, _nothing())
        yield saver
        saver.wait()


def _nothing() -> Future[None]:
    done: Future[None] = Future()
    done.set_result(None)
    return done


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
    present = on_first(lambda: steps(store))
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
    _start(folder, tree, info)()


def _start(folder: Path, tree: PyTree, info: dict[str, Any]) -> Callable[[], None]:
    """Copies the tree; the result writes the folder, and may do so in a thread of its own."""
    check_path(folder)
    leaves = trees.describe(tree)
    held = [arrays.copy_leaf(leaf) for leaf in jax.tree.leaves(tree)]
    number = on_first(os.getpid)
    temporary = folder.parent / f"{TEMPORARY}{folder.name}-{number}"
    record = {"format": FORMAT, **info, "skeleton": trees.skeleton(tree)}
    stored = [None if arrays.is_empty(leaf) else x for leaf, x in zip(leaves, held, strict=True)]

    def make_room() -> None:
        shutil.rmtree(temporary, ignore_errors=True)
        with naming_full_disk(folder):
            temporary.mkdir(parents=True)

    on_first(make_room)
    wait = arrays.start_writing(temporary / "arrays", stored)

    def finish() -> None:
        with naming_full_disk(folder), _removed_on_error(temporary):
            own = arrays.digests(held, whole=process() == 0)
            wait()
            parts = exchange(own, channel=SAVES)
            entries = [
                leaf._asdict() | _digests(each) for leaf, *each in zip(leaves, *parts, strict=True)
            ]
            complete = record | {"leaves": entries}
            names = on_first(lambda: _files(temporary), channel=SAVES)
            prints = divided(
                lambda rows: _fingerprints(temporary, names[rows]), len(names), channel=SAVES
            )
            complete["files"] = {name: each for part in prints for name, each in part.items()}

            def publish() -> None:
                whole = complete | {"sha256": json_digest(complete)}
                write_json(temporary / "checkpoint.json", whole)
                _swap_in(temporary, folder)

            on_first(publish, channel=SAVES)

    return finish


def _digests(found: list[dict[str, str]]) -> dict[str, Any]:
    """Of one leaf, from the parts of all processes."""
    parts = {region: sha256 for each in found for region, sha256 in each.items()}
    if set(parts) == {arrays.WHOLE}:
        return {"sha256": parts[arrays.WHOLE]}
    return {"sha256": json_digest(parts), "parts": parts}


def read_checkpoint(
    folder: Path,
    like: PyTree | None = None,
    *,
    check: Callable[[dict[str, Any]], None] = lambda record: None,
) -> tuple[PyTree, dict[str, Any]]:
    """Reads a folder made by `write`, verifying every file and every array.

    It may have been written on another mesh, by another number of processes. An array of which this
    process holds no written part whole is verified by its files alone.

    Args:
      like: as in `restore`. None rebuilds a tree of dicts, lists and tuples of NumPy arrays.
      check: called with the record before any array is read; it may raise.
    Returns:
      The tree, and the record: the JSON info given to `write`, with "leaves" and "files" added.
    Raises:
      CheckpointError: the checkpoint is damaged, or has another tree.
    """
    record = on_first(lambda: read_record(folder, files=False))
    names = sorted(record["files"])
    divided(lambda rows: check_files(folder, record, names[rows]), len(names))
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
    try:
        found = arrays.read_arrays(folder / "arrays", leaves, examples)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        message = f"{folder} is damaged (its arrays cannot be read): {REMEDY}"
        raise CheckpointError(message) from error

    def verify() -> None:
        for array, entry in zip(found, record["leaves"], strict=True):
            saved = entry.get("parts", {arrays.WHOLE: entry["sha256"]})
            if arrays.changed(array, saved):
                fault = f"{entry['path']} has changed"
                raise CheckpointError(f"{folder} is damaged ({fault}): {REMEDY}")

    together(verify)
    restored = [trees.restored_leaf(*parts) for parts in zip(found, leaves, examples, strict=True)]
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


def read_record(folder: Path, *, files: bool = True) -> dict[str, Any]:
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
    if files:
        check_files(folder, record, record["files"])
    return record


def check_files(folder: Path, record: dict[str, Any], names: Iterable[str]) -> None:
    """CheckpointError unless these files are as they were written."""
    there = {*_files(folder)}
    for name in names:
        if name not in there:
            raise CheckpointError(f"{folder} is damaged ({name} is missing): {REMEDY}")
        if _fingerprints(folder, [name])[name] != record["files"][name]:
            raise CheckpointError(f"{folder} is damaged ({name} has changed): {REMEDY}")


def json_digest(value: Any) -> str:
    """SHA-256 of JSON values, independent of the order of names."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _files(folder: Path) -> list[str]:
    """Every file under the folder but checkpoint.json, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [str(path.relative_to(folder)) for path in files if path != folder / "checkpoint.json"]


def _fingerprints(folder: Path, names: Iterable[str]) -> dict[str, list[Any]]:
    """Size and SHA-256 of these files."""
    paths = {name: folder / name for name in names}
    return {name: [path.stat().st_size, _file_digest(path)] for name, path in paths.items()}


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
    """Removes the folder if the block raises, in process 0: others may still write into it."""
    try:
        yield
    except BaseException:
        if process() == 0:
            shutil.rmtree(folder, ignore_errors=True)
        raise
