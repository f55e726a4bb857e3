"""Files as records of what a model reads, texts or messages, as the recipes take them."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from rlhf_jax.cli.options import Rows
from rlhf_jax.data.formats import read_rows
from rlhf_jax.data.templates import ChatTemplate
from rlhf_jax.recipes.process import joined_steps
from rlhf_jax.training import UserError, reading_input

Chat = ChatTemplate | None  # of the model's folder


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
        lines = path.read_text(encoding="utf-8").splitlines()
    return [{"prompt": line} for line in lines if line.strip()]


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

    Records with the same prompt stay on one side, unless all prompts are the same.

    Raises:
      UserError: one side would be empty.
    """
    if not options.heldout:
        return records, []
    keys: list[Any] = [json.dumps(row["prompt"]) for row in records]
    keys = keys if len(set(keys)) > 1 else list(range(len(records)))
    order, sizes = sorted(set(keys)), Counter(keys)
    random.Random(seed).shuffle(order)
    ends = list(accumulate(sizes[key] for key in order))
    wanted = max(1, round(options.heldout * len(records)))
    out = {key for key, end in zip(order, ends, strict=True) if end - sizes[key] < wanted}
    sides: tuple[list[dict], list[dict]] = ([], [])
    for key, row in zip(keys, records, strict=True):
        sides[key in out].append(row)
    if not all(sides):
        raise UserError(
            f"{options.data}: {len(records)} rows do not split into training and held-out rows; "
            "give more rows, --heldout 0 or --heldout-data FILE"
        )
    return sides
