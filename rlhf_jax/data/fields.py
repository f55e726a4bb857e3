"""Fields of a row: checked values, and errors that say what was found in place of them."""

import math
import re
import sys
from typing import Any

Fields = dict[str, Any]

LONGEST_WORD = 100_000  # characters or spaces in one run, which a tokenizer reads as one piece
_MOST_NAMES, _LONGEST_NAME = 20, 60


class BadRow(Exception):
    """A fault in a row; the reader of the file adds its name and the row number."""


def type_name(value: Any) -> str:
    """Name of a value's JSON type."""
    if isinstance(value, list | tuple) and value:
        return {"text": "a list of texts", "an object": "a list of objects"}.get(
            type_name(value[0]), "a list"
        )
    names = {str: "text", list: "a list", dict: "an object", bool: "true or false"}
    number = "a number" if isinstance(value, int | float) else type(value).__name__
    return names.get(type(value), "null" if value is None else number)


def described(fields: Fields) -> str:
    """Names and types of the columns, never their content."""
    parts = [f"{name:.{_LONGEST_NAME}} ({type_name(value)})" for name, value in fields.items()]
    more = f" and {len(parts) - _MOST_NAMES} more" if len(parts) > _MOST_NAMES else ""
    return (", ".join(parts[:_MOST_NAMES]) or "no columns") + more


def present(fields: Fields, names: tuple[str, ...]) -> str | None:
    """The first of these names with a value in the row; null is no value."""
    return next((name for name in names if fields.get(name) is not None), None)


def filled_field(fields: Fields, name: str) -> str:
    """A text that is not blank; BadRow otherwise."""
    text = text_field(fields, name)
    if not text.strip():
        raise BadRow(f"field {name} is empty; fill it in or remove the row")
    return text


def text_field(fields: Fields, name: str) -> str:
    """A text that is valid UTF-8 and has no word too long for a tokenizer."""
    return checked_text(field_of(fields, name, str), f"field {name}")


def texts_field(fields: Fields, name: str) -> list[str]:
    """A list of texts, each checked."""
    values = field_of(fields, name, list)
    for value in values:
        if not isinstance(value, str):
            raise BadRow(f"field {name}: expected texts, found {type_name(value)} among them")
    return [checked_text(value, f"field {name}") for value in values]


def number_field(fields: Fields, name: str) -> float:
    """A finite number; true and false are none."""
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        found = type_name(value)
    elif isinstance(value, int) and abs(value) > sys.float_info.max:
        found = "a number of more than 300 digits"
    elif not math.isfinite(value):
        found = "NaN or infinity"
    else:
        return float(value)
    raise BadRow(f"field {name}: expected a finite number, found {found}; correct it")


def label_field(fields: Fields, name: str) -> bool:
    """True or false; 1 and 0 are read as such, any other number or text is an error."""
    value = fields.get(name)
    if not (isinstance(value, bool | int | float) and value in (0, 1)):
        raise BadRow(f"field {name}: expected true or false, found {shown(value)}; correct it")
    return bool(value)


def shown(value: Any) -> str:
    """A number as it is; of anything else the type only."""
    return f"{value!s:.20}" if isinstance(value, int | float) else type_name(value)


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


def checked_text(text: str, name: str) -> str:
    """The text; BadRow if it is not valid Unicode or has a word too long for a tokenizer."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRow(
            f"{name}: half a surrogate pair at character {error.start}; repair the text"
        ) from error
    if len(text) > LONGEST_WORD:
        longest = max(re.findall(r"\s+|\S+", text), key=len)
        if len(longest) > LONGEST_WORD:
            kind = "of" if longest.isspace() else "without"
            raise BadRow(
                f"{name}: {len(longest)} characters {kind} white space, at most "
                f"{LONGEST_WORD} can be read; remove everything that is not text"
            )
    return text
