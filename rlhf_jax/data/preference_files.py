r"""Human preference files in three layouts, as rows of JSON (`json_rows`).

The fields of the first row determine the layout, and every row must have the same:

1. `prompt`, `chosen`, `rejected`: three texts.
2. `chosen`, `rejected`: two whole dialogues "\n\nHuman: ...\n\nAssistant: ..." (hh-rlhf). The
   prompt is their common beginning, up to and including its last "\n\nAssistant:".
3. `question`, `passages`, `prediction 1` to `prediction 4`, `preference` (QA-feedback): six labels
   for the pairs (1,2) (1,3) (1,4) (2,3) (2,4) (3,4): 1 if the first is better, 2 if the second is,
   0 if neither. One row gives up to six pairs with the same prompt.

Rules:

- Texts are kept exactly, including leading spaces: prompt + answer is the dialogue.
- A prompt repeated in the answers is removed and counted: always if the answers are whole dialogues
  beside a `prompt`; otherwise if both answers begin with the prompt in more than half of the pairs.
  If it is half or fewer, it may be chance ("Hi" and "Hi there"): the answers stay and are counted.
- Dropped and counted: ties, pairs with a blank answer, and pairs with equal answers (after
  stripping). hh-rlhf has blank answers (4 of the 2,000 rows of the harmless test set) where people
  preferred silence; they would only teach a policy to stop, and a reward model nothing.
- Kept and counted: pairs that also occur with chosen and rejected exchanged.
- Kept: in a few rows of hh-rlhf an answer has another "\n\nAssistant:" turn after the point where
  the dialogues diverge. All of it is the answer.
- Unknown fields are left out and listed. A field that belongs to the question (`system`, `context`,
  the prompt of another layout) is an error unless it is empty.
- Anything else is an error with the file name and the row number.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from rlhf_jax.data.json_rows import (
    BadRow,
    Fields,
    field_of,
    filled_field,
    read_rows,
    text_field,
)

ASSISTANT = "\n\nAssistant:"

# Fields that belong to the question. Leaving one out would change the question.
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
    """Names of the fields of a file: those that are read, and those that are left out."""

    read: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PreferencePairs:
    """Pairs of one file, in its order.

    pairs: at least one.
    ties_dropped: judgements "neither is better".
    identical_dropped: pairs of two equal answers.
    blank_dropped: pairs with a blank answer.
    prompts_removed: pairs in which the prompt was removed from the answers.
    prompts_repeated: pairs in which the answers begin with the prompt and keep it.
    contradicted: pairs that also occur with chosen and rejected exchanged.
    fields: names of the fields that were read, and of those that were not.
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
    """Content of one row: its pairs, and the numbers of ties and of removed prompts."""

    pairs: list[Pair]
    ties: int = 0
    removed: int = 0


class _Layout(NamedTuple):
    """The parser of a layout, and the fields it reads."""

    parse: Callable[[Fields], _Row]
    fields: tuple[str, ...]


def read_preferences(path: Path | str) -> PreferencePairs:
    """Reads a preference file; for layouts and rules see the docstring of the module.

    Args:
      path: JSON lines or one array of objects, in UTF-8, plain or gzip.
    Raises:
      ValueError: no such file, damaged gzip, no pairs, or a bad row. The message names file and
        row, says what was expected and how to fix it, and never quotes the texts.
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
    """BadRow if a field that belongs to the question would be left out."""
    for name in others:
        value = fields[name]
        empty = not (value.strip() if isinstance(value, str) else value)
        if name.lower() in CONTEXT and not empty:
            raise BadRow(
                f"field {name} belongs to the question, but is not one of the fields read "
                f"({', '.join(layout.fields)}); write it into the prompt, or remove it"
            )


def _without_prompts(pairs: list[Pair]) -> tuple[list[Pair], int]:
    """The pairs, without the prompt in the answers if most repeat it; and how many were changed."""
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
    """Number of pairs that also occur with chosen and rejected exchanged."""
    stripped = [Pair(*(text.strip() for text in pair)) for pair in pairs]
    present = set(stripped)
    return sum(Pair(x.prompt, x.rejected, x.chosen) in present for x in stripped)


def _prompt_row(fields: Fields) -> _Row:
    """Layout 1."""
    answers = [text_field(fields, name) for name in ("chosen", "rejected")]
    pair = Pair(filled_field(fields, "prompt"), *answers)
    if not all(text.lstrip().startswith("Human:") and ASSISTANT in text for text in answers):
        return _Row([pair])
    if pair.prompt.rstrip().endswith(ASSISTANT.strip()) and _repeats_prompt(pair):
        return _Row([_without_prompt(pair)], removed=1)
    whole = _parted(*answers)
    if pair.prompt.strip() not in whole.prompt:
        raise BadRow(
            "chosen and rejected are whole dialogues, but their common beginning does not contain "
            "the prompt; correct the prompt or remove the field from every row"
        )
    return _Row([whole], removed=1)


def _dialogue_row(fields: Fields) -> _Row:
    """Layout 2."""
    return _Row([_parted(*(filled_field(fields, name) for name in ("chosen", "rejected")))])


def _parted(chosen: str, rejected: str) -> Pair:
    """Both dialogues split after the last "Assistant:" of their common prefix."""
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
    """Layout 3: up to six pairs, and the number of ties."""
    prompt = _qa_prompt(fields)
    predictions = [text_field(fields, name) for name in _PREDICTIONS]
    labels = field_of(fields, "preference", list)
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
    """Passages first and the question last, because a prompt that is too long keeps its end."""
    passages = field_of(fields, "passages", list)
    blocks = []
    for passage in passages:
        if not isinstance(passage, list) or not all(isinstance(part, str) for part in passage):
            raise BadRow("field passages: expected lists of texts (title, sentences); correct it")
        blocks.append("\n".join(part.strip() for part in passage))
    question = filled_field(fields, "question").strip()
    return "\n\n".join([*blocks, f"Question: {question}", "Answer:\n"])


_PROMPT = _Layout(_prompt_row, ("prompt", "chosen", "rejected"))
_DIALOGUE = _Layout(_dialogue_row, ("chosen", "rejected"))
_PREDICTIONS = tuple(f"prediction {i}" for i in range(1, 5))
_QA = _Layout(_qa_row, ("question", "passages", *_PREDICTIONS, "preference"))
