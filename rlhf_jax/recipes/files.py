"""Tasks and records from files, in any container of `data.containers`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_jax.data.containers import parse_rows
from rlhf_jax.data.fields import BadRow, Fields, filled_field
from rlhf_jax.data.messages import read_messages
from rlhf_jax.data.preference_files import read_preferences
from rlhf_jax.recipes.task import Task, Teacher, text_task
from rlhf_jax.training import UserError

SIDES = ("prompt", "chosen", "rejected")


def jsonl_task(
    path: Path | str,
    score: Callable[[list[Fields], Sequence[str]], Mapping[str, Sequence[Any]]],
    *,
    objective: str | Mapping[str, float],
    heldout: int | float,
    field: str = "prompt",
    teacher: Teacher | None = None,
) -> Task:
    """A file of prompts and a Python function.

    >>> import json, tempfile
    >>> rows = [{"prompt": f"{n} plus {n}", "sum": str(2 * n)} for n in range(4)]
    >>> with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
    ...     _ = file.write("\\n".join(map(json.dumps, rows)))
    ...     file.flush()
    ...     def exact(rows, answers):
    ...         return {"exact": [row["sum"] == a for row, a in zip(rows, answers)]}
    ...     task = jsonl_task(file.name, exact, objective="exact", heldout=0.25)
    >>> task.splits, task.texts(np.array([2]))
    ({'train': range(0, 3), 'heldout': range(3, 4)}, ['2 plus 2'])
    >>> task.score(np.array([1, 2]), ["2", "5"])
    {'exact': [True, False]}

    Args:
      score: `(rows of the prompts, answers) -> {name: one number per answer}`; a row is the whole
        object of its prompt.
      heldout: the last so many rows, or a share of them in (0, 1), are never trained on.
      field: name of the prompt in a row, a text or a list of messages.
    Raises:
      UserError: no such file, a bad row, which is named with its file, or no rows.
    """
    rows = _read(path, lambda fields: fields | {field: _prompt(fields, field)})
    count = max(1, round(heldout * len(rows))) if isinstance(heldout, float) else heldout
    prompts = [row[field] for row in rows]

    def score_rows(indices: np.ndarray, answers: Sequence[str]) -> Mapping[str, Any]:
        return score([rows[int(i)] for i in indices], answers)

    def unused(prompts: list[str], answers: Sequence[str]) -> Mapping[str, Sequence[Any]]:
        return {}

    task = text_task(prompts, unused, objective=objective, heldout=count, teacher=teacher)
    return task._replace(score=score_rows)


def _prompt(fields: Fields, name: str) -> Any:
    """A text that is not blank, or messages that end before an answer."""
    if not isinstance(fields.get(name), list):
        return filled_field(fields, name)
    messages = list(read_messages(fields, name))
    if messages[-1]["role"] == "assistant":
        raise BadRow(f"field {name}: the last message is the assistant's; end with another one")
    return messages


def answer_records(path: Path | str) -> list[Fields]:
    """Records {"prompt", "answer", ...} of a file, for `answer_rows` and `labelled_rows`.

    Raises:
      UserError: no such file, a bad row, which is named with its file, or no rows.
    """
    names = ("prompt", "answer")
    return _read(path, lambda fields: fields | {name: filled_field(fields, name) for name in names})


def pair_records(path: Path | str) -> list[Fields]:
    """Records {"prompt", "chosen", "rejected"} of a file in a layout of `data.preference_files`.

    Raises:
      UserError: no such file, a bad row, which is named with its file, or no pairs.
    """
    try:
        pairs = read_preferences(path).pairs
        return [{name: getattr(pair, name) for name in SIDES} for pair in pairs]
    except ValueError as error:
        raise UserError(str(error)) from error


def _read(path: Path | str, parse: Callable[[Fields], Fields]) -> list[Fields]:
    """All rows of a file."""
    try:
        rows = list(parse_rows(path, parse))
    except ValueError as error:
        raise UserError(str(error)) from error
    if not rows:
        raise UserError(f"{path}: no rows; write one JSON object a line")
    return rows
