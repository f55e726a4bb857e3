r"""Human preference files: JSON lines, plain or gzip, in three layouts.

The layout is read off the keys of the first row, and every row must follow it:

1. `prompt`, `chosen`, `rejected`: three texts.
2. `chosen`, `rejected`: two whole dialogues "\n\nHuman: ...\n\nAssistant: ..." (hh-rlhf). The
   prompt is what they share up to and with the last "\n\nAssistant:" of the shared part.
3. `question`, `passages`, `prediction 1` to `prediction 4`, `preference` (QA-feedback): six labels
   for the pairs (1,2) (1,3) (1,4) (2,3) (2,4) (3,4), where 1 says the first is better, 2 the
   second, 0 neither. One row gives up to six pairs with one prompt.

What is kept, dropped or refused:

- Texts are kept letter by letter, leading spaces included: prompt + answer is the dialogue.
- Dropped and counted: ties, pairs whose two answers are equal once stripped, and dialogues in
  which one of the two answers is blank. The last are found in hh-rlhf (4 of the 2,000 rows of the
  harmless test set): the people preferred silence, but an answer without a word would only teach
  the model to stop, and a reward model nothing.
- Kept although odd: in a few rows of hh-rlhf an answer has a further "\n\nAssistant:" turn after
  the point where the dialogues part. All of it is the answer.
- Anything else is an error with the file name and the row number (line number, from 1; blank lines
  are skipped but counted).
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

ASSISTANT = "\n\nAssistant:"
_GZIP_MAGIC = b"\x1f\x8b"


class Pair(NamedTuple):
    """One human judgement: `chosen` was preferred to `rejected` as an answer to `prompt`."""

    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True, kw_only=True)
class PreferencePairs:
    """Pairs of one file, in its order.

    pairs: at least one.
    ties_dropped: judgements "neither is better".
    identical_dropped: pairs with twice the same answer.
    blank_dropped: dialogues with a blank answer.
    """

    pairs: tuple[Pair, ...]
    ties_dropped: int
    identical_dropped: int
    blank_dropped: int


class _Row(NamedTuple):
    """What one row of the file holds: pairs to be looked at, and ties."""

    pairs: list[Pair]
    ties: int = 0


def read_preferences(path: Path | str) -> PreferencePairs:
    """Read a preference file; layouts and decisions are in the module's docstring.

    Args:
      path: JSON lines in UTF-8, plain or gzip (told by the content, not by the name).
    Raises:
      ValueError: no such file, damaged gzip, no pairs, or a bad row (file and row number, what
        was expected, the fix). The message never quotes the texts.
    """
    path = Path(path)
    pairs: list[Pair] = []
    ties = identical = blank = 0
    parse: Callable[[dict[str, Any]], _Row] | None = None
    for number, line in _lines(path):
        try:
            fields = _json_object(line)
            parse = parse or _layout(fields)
            row = parse(fields)
        except _BadRow as error:
            raise ValueError(f"{path}, row {number}: {error}") from error
        ties += row.ties
        for pair in row.pairs:
            chosen, rejected = pair.chosen.strip(), pair.rejected.strip()
            if chosen == rejected:
                identical += 1
            elif not chosen or not rejected:
                blank += 1
            else:
                pairs.append(pair)
    if not pairs:
        raise ValueError(
            f"{path}: no pairs ({ties} ties, {identical} identical, {blank} blank dropped); "
            "give a file with at least one preference"
        )
    return PreferencePairs(
        pairs=tuple(pairs),
        ties_dropped=ties,
        identical_dropped=identical,
        blank_dropped=blank,
    )


class _BadRow(Exception):
    """What is wrong with a row; the caller knows which."""


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line) of every line that is not blank."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a JSONL or JSONL.gz file")
    with path.open("rb") as plain:
        is_gzip = plain.read(2) == _GZIP_MAGIC
    number = 0
    try:
        with gzip.open(path) if is_gzip else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path}, row {number + 1}: the gzip file is cut short or damaged; fetch it again"
        ) from error


def _json_object(line: bytes) -> dict[str, Any]:
    """One line as a JSON object."""
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _BadRow(f"not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise _BadRow(
            f"invalid JSON at column {error.colno} ({error.msg}); write one JSON object a line"
        ) from error
    # Numbers of thousands of digits and very deep nesting.
    except (ValueError, RecursionError) as error:
        raise _BadRow("unreadable JSON; write one JSON object of texts a line") from error
    if not isinstance(row, dict):
        raise _BadRow(f"expected a JSON object, found {_type_name(row)}; write one object a line")
    return row


def _layout(fields: dict[str, Any]) -> Callable[[dict[str, Any]], _Row]:
    """The parser for the layout of the first row."""
    if "question" in fields and "preference" in fields:
        return _qa_row
    if "chosen" in fields and "rejected" in fields:
        return _prompt_row if "prompt" in fields else _dialogue_row
    found = ", ".join(sorted(fields)) or "none"
    raise _BadRow(
        "fields chosen and rejected (with or without prompt), or question, passages, prediction "
        f"1..4 and preference are expected, found {found}; rename the fields"
    )


def _prompt_row(fields: dict[str, Any]) -> _Row:
    """Layout 1."""
    return _Row([Pair(*(_text(fields, name) for name in ("prompt", "chosen", "rejected")))])


def _dialogue_row(fields: dict[str, Any]) -> _Row:
    """Layout 2: cut both dialogues after the last marker of their common prefix."""
    chosen, rejected = _text(fields, "chosen"), _text(fields, "rejected")
    shared = chosen[: _shared_length(chosen, rejected)]
    cut = shared.rfind(ASSISTANT)
    if cut < 0:
        raise _BadRow(
            'chosen and rejected share no prefix up to an "\\n\\nAssistant:" turn; give two '
            "answers to one dialogue, or rows with a prompt field"
        )
    if not shared[:cut].strip():
        raise _BadRow("the dialogue has no turn before the answer; remove the row")
    cut += len(ASSISTANT)
    return _Row([Pair(chosen[:cut], chosen[cut:], rejected[cut:])])


def _shared_length(a: str, b: str) -> int:
    """Length of the longest common prefix."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))


def _qa_row(fields: dict[str, Any]) -> _Row:
    """Layout 3: up to six pairs; ties are counted."""
    prompt = _qa_prompt(fields)
    predictions = [_text(fields, f"prediction {i}") for i in range(1, 5)]
    labels = _field(fields, "preference", list)
    orders = list(combinations(predictions, 2))
    if len(labels) != len(orders) or any(type(x) is not int or x not in (0, 1, 2) for x in labels):
        raise _BadRow("field preference: expected six labels out of 0, 1, 2; correct the row")
    pairs = [
        Pair(prompt, *(pair if label == 1 else reversed(pair)))
        for pair, label in zip(orders, labels, strict=True)
        if label
    ]
    return _Row(pairs, ties=labels.count(0))


def _qa_prompt(fields: dict[str, Any]) -> str:
    """Passages first and the question last, as prompts that are too long keep their end."""
    passages = _field(fields, "passages", list)
    blocks = []
    for passage in passages:
        if not isinstance(passage, list) or not all(isinstance(part, str) for part in passage):
            raise _BadRow("field passages: expected lists of texts (title, sentences); correct it")
        blocks.append("\n".join(part.strip() for part in passage))
    return "\n\n".join([*blocks, f"Question: {_text(fields, 'question').strip()}", "Answer:\n"])


def _text(fields: dict[str, Any], name: str) -> str:
    """A text that is not blank and can be written as UTF-8."""
    text = _field(fields, name, str)
    if not text.strip():
        raise _BadRow(f"field {name} is empty; fill it in or remove the row")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _BadRow(
            f"field {name}: half a surrogate pair at character {error.start}; repair the text"
        ) from error
    return text


def _field(fields: dict[str, Any], name: str, kind: type) -> Any:
    """A field that must be there and of that type."""
    if name not in fields:
        raise _BadRow(f"field {name} is missing; every row needs the fields of the first one")
    value = fields[name]
    if not isinstance(value, kind):
        raise _BadRow(
            f"field {name}: expected {_type_name(kind())}, found {_type_name(value)}; correct it"
        )
    return value


def _type_name(value: Any) -> str:
    """JSON's word for a value's type."""
    names = {str: "text", list: "a list", dict: "an object", bool: "true or false"}
    return names.get(type(value), "null" if value is None else "a number")
