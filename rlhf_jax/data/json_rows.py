"""JSON objects of a file, plain or gzip: one per line, or the items of one array.

Every error names the file and the row: the number of the line (blank lines are skipped but counted)
or of the item in the array, from 1.
"""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

Fields = dict[str, Any]
Row = TypeVar("Row")

LONGEST_WORD = 100_000  # characters or spaces in one run, which a tokenizer reads as one piece

_GZIP_MAGIC = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_SPACE = re.compile(r"[ \t\r\n]*")


class BadRow(Exception):
    """A fault in a row; `read_rows` adds the file and the row number."""


def read_rows(path: Path, parse: Callable[[Fields], Row]) -> Iterator[Row]:
    """`parse` of every object, in order.

    Args:
      path: UTF-8; gzip is detected from the content, not from the name.
      parse: raises BadRow for an object that it cannot use.
    Raises:
      ValueError: no such file, damaged gzip, or a bad row. The message says what was expected and
        how to fix it, and never quotes a text.
    """
    for number, item in _items(path):
        with _named(path, number):
            if not isinstance(item, dict):
                raise BadRow(
                    f"expected a JSON object, found {type_name(item)}; write one object a line"
                )
            row = parse(item)
        yield row


def type_name(value: Any) -> str:
    """Name of a value's JSON type."""
    names = {str: "text", list: "a list", dict: "an object", bool: "true or false"}
    return names.get(type(value), "null" if value is None else "a number")


def filled_field(fields: Fields, name: str) -> str:
    """A text that is not blank; BadRow otherwise."""
    text = text_field(fields, name)
    if not text.strip():
        raise BadRow(f"field {name} is empty; fill it in or remove the row")
    return text


def text_field(fields: Fields, name: str) -> str:
    """A text that is valid UTF-8 and has no word too long for a tokenizer."""
    text = field_of(fields, name, str)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRow(
            f"field {name}: half a surrogate pair at character {error.start}; repair the text"
        ) from error
    if len(text) > LONGEST_WORD:
        longest = max(re.findall(r"\s+|\S+", text), key=len)
        if len(longest) > LONGEST_WORD:
            kind = "of" if longest.isspace() else "without"
            raise BadRow(
                f"field {name}: {len(longest)} characters {kind} white space, at most "
                f"{LONGEST_WORD} can be read; remove everything that is not text"
            )
    return text


def field_of(fields: Fields, name: str, kind: type) -> Any:
    """The value of a required field, which must have this type."""
    if name not in fields:
        raise BadRow(f"field {name} is missing; every row needs the fields of the first one")
    value = fields[name]
    if not isinstance(value, kind):
        raise BadRow(
            f"field {name}: expected {type_name(kind())}, found {type_name(value)}; correct it"
        )
    return value


@contextmanager
def _named(path: Path, number: int) -> Generator[None]:
    """Adds file and row to a BadRow."""
    try:
        yield
    except BadRow as error:
        raise ValueError(f"{path}, row {number}: {error}") from error


def _items(path: Path) -> Iterator[tuple[int, Any]]:
    """(row number, parsed value) of each row."""
    lines = _lines(path)
    first = next(((number, line) for number, line in lines if line.strip()), None)
    if first is None:
        return
    if first[1].removeprefix(_BOM).lstrip().startswith(b"["):
        with _named(path, first[0]):
            text = _decoded(b"".join(line for _, line in chain([first], lines)))
        yield from _array(path, text)
        return
    for number, line in chain([first], lines):
        if line.strip():
            with _named(path, number):
                item, end = _parsed(text := _decoded(line).rstrip(), _after_space(text, 0))
                if text[end:]:
                    raise BadRow(f"invalid JSON at column {end + 1} (more than one value)")
            yield number, item


def _array(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """The items of one array, parsed one by one so that an error has a number."""
    number, at = 1, _after_space(text, text.index("[") + 1)
    while text[at : at + 1] != "]":
        with _named(path, number):
            item, end = _parsed(text, at)
            at = _after_space(text, end)
            if text[at : at + 1] not in (",", "]"):
                raise BadRow("expected a comma or the end of the array after this item")
        yield number, item
        number, at = number + 1, _after_space(text, at + (text[at] == ","))
    with _named(path, number):
        if text[at + 1 :].strip():
            raise BadRow("text after the end of the array; write one array, or one object a line")


def _parsed(text: str, at: int) -> tuple[Any, int]:
    """The value that begins at `at`, and the position of its end."""
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise BadRow(
            f"invalid JSON at {line}column {error.colno} ({error.msg}); write one JSON object a "
            "line, or one array of objects"
        ) from error
    # Python refuses numbers of thousands of digits and very deep nesting.
    except (ValueError, RecursionError) as error:
        raise BadRow("unreadable JSON; write one JSON object of texts a line") from error


def _fields(pairs: list[tuple[str, Any]]) -> Fields:
    """One object. Python's reader would silently keep the last of two fields with the same name."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRow(f"field {twice} comes twice in one object; keep one")
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_fields)


def _after_space(text: str, at: int) -> int:
    """Position of the first character from `at` on that is not white space."""
    match = _SPACE.match(text, at)
    return at if match is None else match.end()


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRow(f"not UTF-8 at byte {error.start}; save the file as UTF-8") from error


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line)."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a JSONL or JSONL.gz file")
    with path.open("rb") as plain:
        is_gzip = plain.read(2) == _GZIP_MAGIC
    number = 0
    try:
        with gzip.open(path) if is_gzip else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path}, row {number + 1}: the gzip file is cut short or damaged; fetch it again"
        ) from error
