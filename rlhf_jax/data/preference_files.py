r"""Human preference files in three layouts, as rows of JSON (`json_rows`).

The layout is read off the fields of the first row, and every row must follow it:

1. `prompt`, `chosen`, `rejected`: three texts.
2. `chosen`, `rejected`: two whole dialogues "\n\nHuman: ...\n\nAssistant: ..." (hh-rlhf). The
   prompt is what they share up to and with the last "\n\nAssistant:" of the shared part.
3. `question`, `passages`, `prediction 1` to `prediction 4`, `preference` (QA-feedback): six labels
   for the pairs (1,2) (1,3) (1,4) (2,3) (2,4) (3,4), where 1 says the first is better, 2 the
   second, 0 neither. One row gives up to six pairs with one prompt.

What is kept, dropped or refused:

- Texts are kept letter by letter, leading spaces included: prompt + answer is the dialogue.
- Answers that hold the prompt lose it, and are counted: whole dialogues beside a `prompt`; other
  texts if both answers begin with the prompt in more than half of the pairs. In fewer it may be
  chance ("Hi" and "Hi there"): they stay, and are counted as well.
- Dropped and counted: ties, pairs in which an answer is blank, and pairs whose two answers are
  equal once stripped. Blank answers are found in hh-rlhf (4 of the 2,000 rows of the harmless test
  set): the people preferred silence, but an answer without a word would only teach the model to
  stop, and a reward model nothing.
- Kept and counted: pairs that also stand in the file the other way round.
- Kept although odd: in a few rows of hh-rlhf an answer has a further "\n\nAssistant:" turn after
  the point where the dialogues part. All of it is the answer.
- Fields that no layout knows are left out and listed. One that says what is answered (`system`,
  `context`, another layout's prompt) is an error unless it is empty.
- Anything else is an error with the file name and the row number.
"""

import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from rlhf_jax.data.json_rows import BadRow, Fields, read_rows, type_name

ASSISTANT = "\n\nAssistant:"
LONGEST_WORD = 100_000  # characters, or spaces: a tokenizer reads them as one piece

# Fields that say what is answered. A layout that doesn't read one would change the question.
CONTEXT = (
    *("prompt", "system", "system_prompt", "context", "instruction", "input", "history"),
    *("messages", "conversation", "conversations", "dialogue", "document", "tools"),
    *("image", "images", "question", "passages"),
    *("chosen", "rejected"),
)


class Pair(NamedTuple):
    """One human judgement: `chosen` was preferred to `rejected` as an answer to `prompt`."""

    prompt: str
    chosen: str
    rejected: str


class FieldNames(NamedTuple):
    """Fields of a file."""

    read: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PreferencePairs:
    """Pairs of one file, in its order.

    pairs: at least one.
    ties_dropped: judgements "neither is better".
    identical_dropped: pairs with twice the same answer.
    blank_dropped: pairs with a blank answer.
    prompts_removed: pairs whose answers held the prompt, and lost it.
    prompts_repeated: pairs whose answers begin with the prompt, and keep it.
    contradicted: pairs that also stand in the file with chosen and rejected exchanged.
    fields: the names of those that were read and of those that were not.
    """

    pairs: tuple[Pair, ...]
    ties_dropped: int
    identical_dropped: int
    blank_dropped: int
    prompts_removed: int
    prompts_repeated: int
    contradicted: int
    fields: FieldNames


class _Row(NamedTuple):
    """What one row of the file holds: pairs to be looked at, ties, and prompts removed."""

    pairs: list[Pair]
    ties: int = 0
    removed: int = 0


class _Layout(NamedTuple):
    """How rows are read, and the fields that are."""

    parse: Callable[[Fields], _Row]
    fields: tuple[str, ...]


def read_preferences(path: Path | str) -> PreferencePairs:
    """Read a preference file; layouts and decisions are in the module's docstring.

    Args:
      path: JSON lines or one array of objects, in UTF-8, plain or gzip.
    Raises:
      ValueError: no such file, damaged gzip, no pairs, or a bad row (file and row number, what
        was expected, the fix). The message never quotes the texts.
    """
    layout: _Layout | None = None
    left_out: dict[str, None] = {}

    def parse(fields: Fields) -> _Row:
        nonlocal layout
        layout = layout or _layout(fields)
        others = [name for name in fields if name not in layout.fields]
        left_out.update(dict.fromkeys(others))
        _refuse_context(fields, others, layout)
        return layout.parse(fields)

    rows = list(read_rows(Path(path), parse))
    ties = sum(row.ties for row in rows)
    found = [pair for row in rows for pair in row.pairs]
    cut, removed = _without_prompts(found)
    worded = [pair for pair in cut if pair.chosen.strip() and pair.rejected.strip()]
    pairs = [pair for pair in worded if pair.chosen.strip() != pair.rejected.strip()]
    blank, identical = len(cut) - len(worded), len(worded) - len(pairs)
    if layout is None or not pairs:
        raise ValueError(
            f"{path}: no pairs ({ties} ties, {identical} identical, {blank} blank dropped); "
            "give a file with at least one preference"
        )
    return PreferencePairs(
        pairs=tuple(pairs),
        ties_dropped=ties,
        identical_dropped=identical,
        blank_dropped=blank,
        prompts_removed=removed + sum(row.removed for row in rows),
        prompts_repeated=0 if removed else sum(map(_repeats_prompt, pairs)),
        contradicted=_contradicted(pairs),
        fields=FieldNames(layout.fields, tuple(left_out)),
    )


def _layout(fields: Fields) -> _Layout:
    """The layout of the first row."""
    if "question" in fields and "preference" in fields:
        return _QA
    if "chosen" in fields and "rejected" in fields:
        return _PROMPT if "prompt" in fields else _DIALOGUE
    found = ", ".join(sorted(fields)) or "none"
    raise BadRow(
        "fields chosen and rejected (with or without prompt), or question, passages, prediction "
        f"1..4 and preference are expected, found {found}; rename the fields"
    )


def _refuse_context(fields: Fields, others: list[str], layout: _Layout) -> None:
    """No field that says what is answered may be lost."""
    for name in others:
        value = fields[name]
        empty = not (value.strip() if isinstance(value, str) else value)
        if name.lower() in CONTEXT and not empty:
            raise BadRow(
                f"field {name} says what is answered, and is not read beside the fields of the "
                f"first row ({', '.join(layout.fields)}); write it into the prompt, or remove it"
            )


def _without_prompts(pairs: list[Pair]) -> tuple[list[Pair], int]:
    """The answers without the prompt if most pairs repeat it, and how many did."""
    repeated = sum(map(_repeats_prompt, pairs))
    if 2 * repeated <= len(pairs):
        return pairs, 0
    return [_without_prompt(pair) if _repeats_prompt(pair) else pair for pair in pairs], repeated


def _repeats_prompt(pair: Pair) -> bool:
    """Whether both answers begin with the prompt."""
    prompt = pair.prompt.strip()
    return all(answer.lstrip().startswith(prompt) for answer in (pair.chosen, pair.rejected))


def _without_prompt(pair: Pair) -> Pair:
    prompt = pair.prompt.strip()
    return Pair(pair.prompt, *(text.lstrip()[len(prompt) :] for text in pair[1:]))


def _contradicted(pairs: list[Pair]) -> int:
    """Pairs that are also there the other way round."""
    stripped = [Pair(*(text.strip() for text in pair)) for pair in pairs]
    present = set(stripped)
    return sum(Pair(x.prompt, x.rejected, x.chosen) in present for x in stripped)


def _prompt_row(fields: Fields) -> _Row:
    """Layout 1."""
    answers = [_text(fields, name) for name in ("chosen", "rejected")]
    pair = Pair(_filled(fields, "prompt"), *answers)
    if not all(text.lstrip().startswith("Human:") and ASSISTANT in text for text in answers):
        return _Row([pair])
    if pair.prompt.rstrip().endswith(ASSISTANT.strip()) and _repeats_prompt(pair):
        return _Row([_without_prompt(pair)], removed=1)
    whole = _parted(*answers)
    if pair.prompt.strip() not in whole.prompt:
        raise BadRow(
            "chosen and rejected are whole dialogues, and the prompt is not in what they share; "
            "correct the prompt or remove the field from every row"
        )
    return _Row([whole], removed=1)


def _dialogue_row(fields: Fields) -> _Row:
    """Layout 2."""
    return _Row([_parted(*(_filled(fields, name) for name in ("chosen", "rejected")))])


def _parted(chosen: str, rejected: str) -> Pair:
    """Both dialogues cut after the last marker of their common prefix."""
    shared = chosen[: _shared_length(chosen, rejected)]
    cut = shared.rfind(ASSISTANT)
    if cut < 0:
        raise BadRow(
            'chosen and rejected share no prefix up to an "\\n\\nAssistant:" turn; give two '
            "answers to one dialogue, or rows with a prompt field"
        )
    if not shared[:cut].strip():
        raise BadRow("the dialogue has no turn before the answer; remove the row")
    cut += len(ASSISTANT)
    return Pair(chosen[:cut], chosen[cut:], rejected[cut:])


def _shared_length(a: str, b: str) -> int:
    """Length of the longest common prefix."""
    return bisect_left(range(1, min(len(a), len(b)) + 1), True, key=lambda n: a[:n] != b[:n])


def _qa_row(fields: Fields) -> _Row:
    """Layout 3: up to six pairs; ties are counted."""
    prompt = _qa_prompt(fields)
    predictions = [_text(fields, name) for name in _PREDICTIONS]
    labels = _field(fields, "preference", list)
    orders = list(combinations(predictions, 2))
    if len(labels) != len(orders) or any(type(x) is not int or x not in (0, 1, 2) for x in labels):
        raise BadRow("field preference: expected six labels out of 0, 1, 2; correct the row")
    pairs = [
        Pair(prompt, *(pair if label == 1 else reversed(pair)))
        for pair, label in zip(orders, labels, strict=True)
        if label
    ]
    return _Row(pairs, ties=labels.count(0))


def _qa_prompt(fields: Fields) -> str:
    """Passages first and the question last, as prompts that are too long keep their end."""
    passages = _field(fields, "passages", list)
    blocks = []
    for passage in passages:
        if not isinstance(passage, list) or not all(isinstance(part, str) for part in passage):
            raise BadRow("field passages: expected lists of texts (title, sentences); correct it")
        blocks.append("\n".join(part.strip() for part in passage))
    return "\n\n".join([*blocks, f"Question: {_filled(fields, 'question').strip()}", "Answer:\n"])


def _filled(fields: Fields, name: str) -> str:
    """A text that is not blank."""
    text = _text(fields, name)
    if not text.strip():
        raise BadRow(f"field {name} is empty; fill it in or remove the row")
    return text


def _text(fields: Fields, name: str) -> str:
    """A text that can be written as UTF-8, in words that a tokenizer can read."""
    text = _field(fields, name, str)
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
                f"{LONGEST_WORD} can be read; remove what is not text"
            )
    return text


def _field(fields: Fields, name: str, kind: type) -> Any:
    """A field that must be there and of that type."""
    if name not in fields:
        raise BadRow(f"field {name} is missing; every row needs the fields of the first one")
    value = fields[name]
    if not isinstance(value, kind):
        raise BadRow(
            f"field {name}: expected {type_name(kind())}, found {type_name(value)}; correct it"
        )
    return value


_PROMPT = _Layout(_prompt_row, ("prompt", "chosen", "rejected"))
_DIALOGUE = _Layout(_dialogue_row, ("chosen", "rejected"))
_PREDICTIONS = tuple(f"prediction {i}" for i in range(1, 5))
_QA = _Layout(_qa_row, ("question", "passages", *_PREDICTIONS, "preference"))
