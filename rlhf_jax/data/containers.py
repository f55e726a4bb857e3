"""Rows of the files that people have, as dicts, one at a time with their row numbers.

| file | rows | memory |
|---|---|---|
| JSON lines, plain, gzip or zst | one object a line | a row |
| one JSON array, indented or not | its items | the text of the file |
| Parquet, Arrow (`datasets.save_to_disk`) | as stored | a batch of rows |
| `.txt` | {"text": ...}, between <|endoftext|> marks or blank lines | a row |
| a folder, or a pattern such as `data/train-*` | of its files, in order of their names | |

Compression, Parquet and Arrow are detected from the content, not from the name. Pickles and files
of PyTorch are refused unread. Every error is a ValueError of one line with the file and the row.
"""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from rlhf_jax.data.fields import BadRow, Fields, type_name
from rlhf_jax.data.json_rows import Item, Line, decoded, json_items

Parsed = TypeVar("Parsed")

SUFFIXES = (".jsonl", ".json", ".ndjson", ".parquet", ".arrow", ".txt")
_COMPRESSED = (".gz", ".zst")
_DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json")
_SPLIT = re.compile(r"(?<![a-z])(train|test|validation|valid|val|dev|eval)(?![a-z])")
_GZIP, _ZST = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_PICKLES = (*(b"\x80" + bytes([protocol]) for protocol in range(2, 6)), b"PK\x03\x04")
_PICKLED = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".npy", ".npz", ".ckpt")
END = b"<|endoftext|>"
_FOREIGN = {  # the first bytes of files that are no data -> how to get it
    b"version https://git-lfs": "a pointer of Git LFS in place of the file; run git lfs pull",
    b"<!DOCTYP": "a web page in place of the file; download the file itself",
    b"<!doctyp": "a web page in place of the file; download the file itself",
    b"<html": "a web page in place of the file; download the file itself",
    b"BZh": "compressed by bzip2; use gzip or zst",
    b"\xfd7zXZ": "compressed by xz; use gzip or zst",
}
_BATCH = 256  # rows of Parquet and Arrow in memory
_BLOCK = 1 << 20


class RawRow(NamedTuple):
    """One object of a file; number: from 1. fields: of `raw_items`, they may be a BadRow."""

    path: Path
    number: int
    fields: Any


def raw_rows(path: Path | str) -> Iterator[RawRow]:
    """All rows of a file, of the files of a folder, or of those that match a pattern.

    Raises:
      ValueError: no such file, a damaged one, one of a kind that is not read, or a bad row.
    """
    for row in raw_items(path):
        with naming(row.path, row.number):
            if isinstance(row.fields, BadRow):
                raise row.fields
        yield row


def raw_items(path: Path | str) -> Iterator[RawRow]:
    """As `raw_rows`, with a BadRow in place of the fields of a bad row."""
    for file in data_files(Path(path)):
        for number, item in _items(file):
            if isinstance(item, dict | BadRow):
                yield RawRow(file, number, item)
                continue
            found = f"expected a JSON object, found {type_name(item)}; write one object a line"
            yield RawRow(file, number, BadRow(found))


def parse_rows(path: Path | str, parse: Callable[[Fields], Parsed]) -> Iterator[Parsed]:
    """`parse` of every row, in order; a BadRow that it raises gets the file and the row number."""
    for row in raw_rows(path):
        with naming(row.path, row.number):
            parsed = parse(row.fields)
        yield parsed


@contextmanager
def naming(path: Path, number: int) -> Generator[None]:
    """Adds file and row to a BadRow, in one line whatever the names of the columns are."""
    try:
        yield
    except BadRow as error:
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(error))
        raise ValueError(f"{path}, row {number}: {line}") from error


def data_files(path: Path) -> list[Path]:
    """The file, or the files of a folder or a pattern in order of their names.

    Raises:
      ValueError: there are none, or a folder has files of several splits.
    """
    if path.is_file():
        return [path]
    if path.is_dir():
        return _folder_files(path)
    if path.exists():
        raise ValueError(f"{path}: a pipe or a device, which cannot be read twice; write a file")
    found = sorted(path.parent.glob(path.name)) if "*" in path.name else []
    if not found:
        raise ValueError(
            f"{path}: no such file; give a file of JSON lines, JSON, Parquet or Arrow, or a folder "
            "of them"
        )
    return found


def split_of(path: Path) -> str | None:
    """The split that a file's name gives: "train", "test", "validation"; or None."""
    found = _SPLIT.search(path.name.lower())
    if found is None:
        return None
    word = found.group()
    return word if word in ("train", "test") else "validation"


def _folder_files(path: Path) -> list[Path]:
    """Data files of a folder; those of `save_to_disk` in their own order."""
    if (path / "dataset_dict.json").is_file():
        raise ValueError(f"{path}: a folder of several splits; name one, e.g. {path / 'train'}")
    if (path / "state.json").is_file():
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        return [path / entry["filename"] for entry in state["_data_files"]]
    entries = sorted(path.iterdir())
    files = [file for file in entries if file.is_file() and has_data_suffix(file)]
    if not files:
        found = ", ".join(entry.name for entry in entries[:8]) or "nothing"
        raise ValueError(f"{path}: no data file ({', '.join(SUFFIXES)}) in this folder: {found}")
    splits = sorted({split_of(file) or "no split" for file in files})
    if len(splits) > 1:
        raise ValueError(
            f"{path}: files of several splits ({', '.join(splits)}); name one file, or a pattern "
            f"such as {path / '*train*'}"
        )
    return files


def has_data_suffix(path: Path) -> bool:
    """Whether the name of a file is that of a file of rows."""
    hidden = path.name.startswith(".") or path.name in _DESCRIPTIONS
    return not hidden and _suffix(path) in SUFFIXES


def _suffix(path: Path) -> str:
    """The suffix below that of a compression, in small letters."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _items(path: Path) -> Iterator[Item]:
    """Row numbers and values of one file."""
    suffix, head = _suffix(path), _head(path)
    if head.startswith(_PICKLES) or suffix in _PICKLED:
        raise ValueError(
            f"{path}: a pickle, PyTorch, NumPy or zip file, which is never read because it can run "
            "code; write JSON lines or Parquet"
        )
    for start, what in _FOREIGN.items():
        if suffix != ".txt" and head.startswith(start):
            raise ValueError(f"{path}: {what}")
    if suffix in (".tar", ".tgz"):
        raise ValueError(f"{path}: an archive; unpack it")
    if suffix in (".csv", ".tsv"):
        raise ValueError(
            f"{path}: CSV has no lists and no messages; write JSON lines, e.g. by pandas: "
            "read_csv(...).to_json(..., orient='records', lines=True)"
        )
    if head.startswith(b"PAR1"):
        return _parquet_items(path)
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return _arrow_items(path)
    if head and suffix in (".parquet", ".arrow"):
        raise ValueError(f"{path}: not {suffix[1:].capitalize()} inside; fetch it again")
    return _documents(path) if suffix == ".txt" else json_items(_lines(path))


def _head(path: Path) -> bytes:
    """The first bytes of a file."""
    try:
        with path.open("rb") as file:
            return file.read(24)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error


def text_lines(path: Path) -> list[str]:
    """Lines of a text file, plain, gzip or zst, that are not blank, without their ends.

    Raises:
      ValueError: no such file, a damaged one, or a line that is not UTF-8.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a text file")
    found = []
    for number, line in _lines(path):
        with naming(path, number):
            found.append(decoded(line).rstrip("\r\n"))
    return [line for line in found if line.strip()]


def _documents(path: Path) -> Iterator[Item]:
    """Texts between END marks, or between blank lines if there is none; number: first line."""
    marked = any(END in line for _, line in _lines(path))
    start, held = 0, b""
    for number, line in chain(_lines(path), [(0, END if marked else b"")]):
        blank = [line] if line.strip() else [b"", b""]
        *ended, rest = line.split(END) if marked else blank
        for part in ended:
            document, held = held + part, b""
            if document.strip():
                try:
                    yield start or number, {"text": decoded(document).strip()}
                except BadRow as error:
                    yield start or number, error
            start = 0
        start = start or (number if rest.strip() else 0)
        held = held + rest if start else b""


def _lines(path: Path) -> Iterator[Line]:
    """(line number from 1, line)."""
    head, number = _head(path), 0
    kind = "gzip" if head.startswith(_GZIP) else "zst"
    try:
        for number, line in enumerate(_plain_lines(path, head), start=1):
            yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path}, row {number + 1}: the {kind} file is cut short or damaged; fetch it again"
        ) from error


def _plain_lines(path: Path, head: bytes) -> Iterator[bytes]:
    """Lines of a file, decompressed."""
    if head.startswith(_ZST):
        rest = b""
        for block in _zst_blocks(path):
            *whole, rest = (rest + block).split(b"\n")
            yield from (line + b"\n" for line in whole)
        if rest:
            yield rest
        return
    with gzip.open(path) if head.startswith(_GZIP) else path.open("rb") as file:
        yield from file


def _zst_blocks(path: Path) -> Iterator[bytes]:
    """Decompressed blocks; the library's own file object does not notice a file that is cut."""
    zstandard = _library("zstandard", path)
    make = zstandard.ZstdDecompressor().decompressobj
    frame = make()
    try:
        with path.open("rb") as file:
            while data := file.read(_BLOCK):
                while data:
                    frame = make() if frame.eof else frame
                    yield frame.decompress(data)
                    data = frame.unused_data if frame.eof else b""
    except zstandard.ZstdError as error:
        raise EOFError(str(error)) from error
    if not frame.eof:
        raise EOFError("no end of the last frame")


def _parquet_items(path: Path) -> Iterator[Item]:
    parquet = _library("pyarrow.parquet", path)
    return _numbered(path, lambda: parquet.ParquetFile(path).iter_batches(batch_size=_BATCH))


def _arrow_items(path: Path) -> Iterator[Item]:
    arrow = _library("pyarrow", path)

    def batches() -> Iterator[Any]:
        with arrow.memory_map(str(path)) as file:
            if _head(path).startswith(b"ARROW1"):
                reader = arrow.ipc.open_file(file)
                yield from map(reader.get_batch, range(reader.num_record_batches))
            else:
                yield from arrow.ipc.open_stream(file)

    return _numbered(path, batches)


def _numbered(path: Path, batches: Callable[[], Iterator[Any]]) -> Iterator[Item]:
    """Rows of Arrow batches, from 1."""
    arrow, number = _library("pyarrow", path), 0
    try:
        for batch in batches():
            for start in range(0, batch.num_rows, _BATCH):
                for fields in batch.slice(start, _BATCH).to_pylist():
                    number += 1
                    yield number, fields
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(
            f"{path}, row {number + 1}: the file is cut short or damaged; fetch it again"
        ) from error


def _library(name: str, path: Path) -> Any:
    """An optional library."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ValueError(
            f"{path}: reading it needs {name.split('.')[0]}: pip install 'rlhf-jax[hf]'"
        ) from error
