"""JSON objects of a stream of lines: one per line, or the items of one array.

A row number is that of the line (blank lines are skipped but counted) or of the item in the array,
from 1. JSON lines are parsed one by one; an array is held in memory as text.
"""

import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any, NoReturn

from rlhf_jax.data.fields import BadRow, Fields

BOM = b"\xef\xbb\xbf"
_SPACE = re.compile(r"[ \t\r\n]*")

Line = tuple[int, bytes]
Item = tuple[int, Any]  # row number; the value, or the BadRow that stands in its place


def json_items(lines: Iterator[Line]) -> Iterator[Item]:
    """Every value with its row number, or a BadRow in its place.

    A bad line leaves the next ones readable; in an array the first fault is the last item.
    """
    first = next(((number, line) for number, line in lines if line.strip()), None)
    if first is None:
        return
    if first[1].removeprefix(BOM).lstrip().startswith(b"["):
        yield from _array_items(first, lines)
        return
    for number, line in chain([first], lines):
        if line.strip():
            try:
                yield number, _one_value(line)
            except BadRow as error:
                yield number, error


def decoded(data: bytes) -> str:
    """The text of UTF-8 bytes, with or without a byte order mark."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRow(f"not UTF-8 at byte {error.start}; save the file as UTF-8") from error


def _one_value(line: bytes) -> Any:
    """The only value of a line."""
    text = decoded(line).rstrip()
    if text.strip() == "{":
        raise BadRow("an object over several lines; write one object a line, or one array of them")
    item, end = _parsed(text, _after_space(text, 0))
    if text[end:]:
        raise BadRow(
            f"invalid JSON at column {end + 1} (more than one value); write one JSON object a line"
        )
    return item


def _array_items(first: Line, lines: Iterator[Line]) -> Iterator[Item]:
    """The items of one array, parsed one by one so that an error has a number."""
    number = first[0]
    try:
        text = decoded(b"".join(line for _, line in chain([first], lines)))
        number, at = 1, _after_space(text, text.index("[") + 1)
        while text[at : at + 1] != "]":
            item, end = _parsed(text, at)
            at = _after_space(text, end)
            if text[at : at + 1] not in (",", "]"):
                raise BadRow("expected a comma or the end of the array after this item")
            yield number, item
            number, at = number + 1, _after_space(text, at + (text[at] == ","))
        if text[at + 1 :].strip():
            raise BadRow("text after the end of the array; write one array, or one object a line")
    except BadRow as error:
        yield number, error


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


def _refuse_constant(name: str) -> NoReturn:
    """Python's reader would take NaN and Infinity, which JSON does not have."""
    raise BadRow(f"{name} is not JSON; write null or leave the field out")


_DECODER = json.JSONDecoder(object_pairs_hook=_fields, parse_constant=_refuse_constant)


def _after_space(text: str, at: int) -> int:
    """Position of the first character from `at` on that is not white space."""
    match = _SPACE.match(text, at)
    return at if match is None else match.end()
