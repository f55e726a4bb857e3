"""The file of judgements: JSON lines, each on disk before the page hears that it is saved."""

import fcntl
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from rlhf_jax.data.containers import raw_rows

FIRST = b'{"judgement": {"kind": "'  # every row begins so


@dataclass
class LabelFile:
    """The rows of the file, and the file open and locked; see `open_labels`.

    ends: byte after each row. torn: whether half a row was removed from its end.
    """

    path: Path
    number: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    torn: bool = False

    def append(self, row: dict[str, Any]) -> None:
        """Adds a row and waits until it is on disk; without space for all of it, none is added.

        Raises:
          OSError: the disk is full, or the file was moved, replaced or changed by others.
        """
        self._check()
        end = self._end()
        data = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        try:
            _write(self.number, data, end)
        except OSError:
            os.ftruncate(self.number, end)
            raise
        self.rows.append(row)
        self.ends.append(end + len(data))

    def remove(self, index: int) -> dict[str, Any]:
        """Takes a row out: the file without it is written beside the file, then takes its place."""
        self._check()
        start, end = self.ends[index - 1] if index else 0, self.ends[index]
        held = self.path.read_bytes()
        new = self.path.with_name(f".{self.path.name}.new")
        number = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            fcntl.flock(number, fcntl.LOCK_EX)
            _write(number, held[:start] + held[end:], 0)
            os.replace(new, self.path)
        except OSError:
            os.close(number)
            new.unlink(missing_ok=True)
            raise
        os.close(self.number)
        self.number = number
        _sync_folder(self.path)
        self.ends[index:] = [later - (end - start) for later in self.ends[index + 1 :]]
        return self.rows.pop(index)

    def _end(self) -> int:
        return self.ends[-1] if self.ends else 0

    def _check(self) -> None:
        """A row appended to a file that was moved away would be lost."""
        if not _is_here(self.path, self.number):
            raise OSError(None, f"{self.path} was moved or replaced; put it back, then go on")
        if os.fstat(self.number).st_size != self._end():
            raise OSError(None, f"{self.path} was changed by another program; start again")


@contextmanager
def open_labels(path: Path | str, kind: str) -> Generator[LabelFile]:
    """The file for one process at a time, created if it is not there.

    Half a row at the end, which a kill in the middle of writing leaves, is removed; the page was
    never told that it is saved.

    Raises:
      ValueError: another process has it open, it has other rows than judgements of this kind, or
        it cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({error.strerror}); choose another") from error
    labels = LabelFile(path, number)
    try:
        _lock(labels)
        _load(labels, kind)
        _sync_folder(path)
        yield labels
    finally:
        os.close(labels.number)  # which ends the lock


def _lock(labels: LabelFile) -> None:
    try:
        fcntl.flock(labels.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        here = False
    else:
        here = _is_here(labels.path, labels.number)
    if not here:
        raise ValueError(
            f"{labels.path} is in use by another rlhf label; open its page under another name, or "
            "stop it"
        )


def _load(labels: LabelFile, kind: str) -> None:
    """Reads the rows; half a row at the end is removed."""
    data = labels.path.read_bytes()
    whole = data.rfind(b"\n") + 1
    end = data[whole:]
    if not data.startswith(FIRST[: len(data)]) or not end.startswith(FIRST[: len(end)]):
        raise ValueError(f"{labels.path} is no file of labels; choose another --out")
    if _is_json(end):  # an editor may have taken the last line break away
        _write(labels.number, b"\n", len(data))
        data, whole = data + b"\n", len(data) + 1
    elif end:
        labels.torn = True
        os.ftruncate(labels.number, whole)
        os.fsync(labels.number)
    for row in raw_rows(labels.path) if whole else ():
        found = row.fields.get("judgement")
        if not isinstance(found, dict) or found.get("kind") != kind:
            raise ValueError(
                f"{labels.path}, row {row.number}: not a judgement of {kind}; choose another --out"
            )
        labels.rows.append(row.fields)
    labels.ends = list(accumulate(len(line) + 1 for line in data[:whole].split(b"\n")[:-1]))
    if len(labels.ends) != len(labels.rows):
        raise ValueError(f"{labels.path} has blank lines; remove them")


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def _is_here(path: Path, number: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(number))
    except FileNotFoundError:
        return False


def _write(number: int, data: bytes, start: int) -> None:
    """All of the data at a place, on disk."""
    while data:
        written = os.pwrite(number, data, start)
        data, start = data[written:], start + written
    os.fsync(number)


def _sync_folder(path: Path) -> None:
    """The name of the file on disk too."""
    number = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
