"""Files as records of what a model reads, texts or messages, as the recipes take them."""

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_jax.cli.options import Rows
from rlhf_jax.data.containers import text_lines
from rlhf_jax.data.formats import read_rows
from rlhf_jax.data.records import ASSISTANT, HUMAN
from rlhf_jax.data.splits import dialogue_groups
from rlhf_jax.data.templates import ChatTemplate
from rlhf_jax.recipes.process import joined_steps
from rlhf_jax.training import UserError, reading_input

Chat = ChatTemplate | None  # of the model's folder
PARTS = 10  # an opening of more than one in so many rows, a greeting, is no dialogue of its own


def read_answers(path: Path, chat: Chat) -> list[dict]:
    """Records of "prompt" and "answer"; a document of a text file answers the empty prompt."""
    return [
        {"prompt": row.prompt, "answer": row.answer, "tools": row.tools}
        for row in _records(path, "answers", chat)
    ]


def read_pairs(path: Path, chat: Chat) -> list[dict]:
    """Records of "prompt", "chosen" and "rejected"."""
    return [
        {"prompt": row.prompt, "chosen": row.chosen, "rejected": row.rejected, "tools": row.tools}
        for row in _records(path, "pairs", chat)
    ]


def read_labelled(path: Path, chat: Chat) -> list[dict]:
    """Records of "prompt", "answer" and "label"."""
    return [
        {"prompt": row.prompt, "answer": row.answer, "label": bool(row.label), "tools": row.tools}
        for row in _records(path, "labelled", chat)
    ]


def read_steps(path: Path, chat: Chat) -> list[dict]:
    """Records of "prompt", "steps" and "labels", and the "answer" that the steps make."""
    return [
        {
            "prompt": row.prompt,
            "steps": list(row.steps),
            "labels": list(row.labels),
            "answer": joined_steps(row.steps),
        }
        for row in _records(path, "steps", chat)
    ]


def read_prompts(path: Path, chat: Chat) -> list[dict]:
    """Records with a "prompt", and the other fields of their rows; lines of a text file."""
    if path.suffix != ".txt":
        return [{**row.fields, "prompt": row.prompt} for row in _records(path, "prompts", chat)]
    with reading_input():
        return [{"prompt": line} for line in text_lines(path)]


def _records(path: Path, kind: str, chat: Chat) -> Sequence[Any]:
    """The records of a file; a note says what was dropped.

    Raises:
      UserError: a file that cannot be read, or messages without a template to write them.
    """
    with reading_input():
        found = read_rows(path, kind=kind)
    if chat is None and not isinstance(found.records[0].prompt, str):
        raise UserError(f"{path}: messages need a chat template, and the model's folder has none")
    print(f"{path}: {found.note()}")
    return found.records


def split_rows(options: Rows, records: list[dict], *, seed: int) -> tuple[list[dict], list[dict]]:
    """(training records, held-out records): a share of the records.

    Raises:
      UserError: as `split_records`.
    """
    if not options.heldout:
        return records, []
    return split_records(records, options.heldout, seed, str(options.data))


def split_records(
    records: Sequence[dict], share: float, seed: int, name: str
) -> tuple[list[dict], list[dict]]:
    """(training records, held-out records), of one dialogue on one side.

    Args:
      share: of the records that are held out, about. name: of their file, for the error.
    Raises:
      UserError: one side would be empty.
    """
    keys = _dialogues(records)
    order, sizes = sorted(set(keys)), Counter(keys)
    random.Random(seed).shuffle(order)
    ends = list(accumulate(sizes[key] for key in order))
    wanted = max(1, round(share * len(records)))
    out = {key for key, end in zip(order, ends, strict=True) if end - sizes[key] < wanted}
    sides: tuple[list[dict], list[dict]] = ([], [])
    for key, row in zip(keys, records, strict=True):
        sides[key in out].append(row)
    if not all(sides):
        raise UserError(
            f"{name}: {len(records)} rows do not split into training and held-out rows; "
            "give more rows, --heldout 0 or --heldout-data FILE"
        )
    return sides


def dialogue_numbers(records: Sequence[dict]) -> np.ndarray:
    """[N] number of the dialogue that each record is about; rows of one prompt are one."""
    names = _dialogues(records)
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names])


def _dialogues(records: Sequence[dict]) -> list[Any]:
    """The beginning of each record's dialogue, or its number if all prompts are the same."""
    prompts = [_as_text(row["prompt"]) for row in records]
    if len(set(prompts)) == 1:
        return list(range(len(records)))
    return [json.dumps(opening) for opening in dialogue_groups(prompts, folds=PARTS)]


def _as_text(prompt: Any) -> str:
    """A prompt of messages as a dialogue of text."""
    if isinstance(prompt, str):
        return prompt
    names = {"user": HUMAN, "assistant": ASSISTANT}
    turns = [names.get(row["role"], "\n\n") + f" {row.get('content') or ''}" for row in prompt]
    return "".join([*turns, ASSISTANT])


def text_of(answer: Any) -> str:
    """An answer as text: itself, or the contents of its messages."""
    return answer if isinstance(answer, str) else "\n".join(texts_in(answer))


def texts_in(value: Any) -> Iterator[str]:
    """Every text of records: strings, and the contents of messages."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from texts_in(value.get("content"))
    elif isinstance(value, tuple | list):
        for part in value:
            yield from texts_in(part)
