"""Files as records of what a model reads, texts or messages, as the recipes take them."""

import hashlib
import json
import random
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_jax.cli.options import Rows
from rlhf_jax.data.containers import data_files, text_lines
from rlhf_jax.data.formats import read_rows
from rlhf_jax.data.records import ASSISTANT, HUMAN
from rlhf_jax.data.splits import dialogue_groups, dialogue_opening
from rlhf_jax.data.stream import stored_records
from rlhf_jax.data.templates import ChatTemplate
from rlhf_jax.recipes.buckets import SizedRecords
from rlhf_jax.recipes.process import joined_steps
from rlhf_jax.recipes.rankings import ranked_records, tied_answers
from rlhf_jax.recipes.rows import Records
from rlhf_jax.training import UserError, reading_input
from rlhf_jax.training.processes import on_first

Chat = ChatTemplate | None  # of the model's folder
PARTS = 10  # an opening of more than one in so many rows, a greeting, is no dialogue of its own
IN_MEMORY = 16 << 20  # bytes of a file with records that are kept in memory
MANY = 50_000  # records with prompts that are not kept in memory while they are split


def read_answers(path: Path, chat: Chat, scratch: Path | None = None) -> Records:
    """Records of "prompt" and "answer"; a document of a text file answers the empty prompt."""
    return _rows(path, "answers", chat, scratch)


def read_pairs(path: Path, chat: Chat, scratch: Path | None = None) -> Records:
    """Records of "prompt", "chosen" and "rejected"."""
    return _rows(path, "pairs", chat, scratch)


def read_labelled(path: Path, chat: Chat, scratch: Path | None = None) -> Records:
    """Records of "prompt", "answer" and "label"."""
    return _rows(path, "labelled", chat, scratch)


def _rows(path: Path, kind: str, chat: Chat, scratch: Path | None) -> Records:
    """The records of a file, in memory; those of a large file on disk, next to `scratch`."""
    with reading_input():
        size = sum(file.stat().st_size for file in data_files(path))
    if scratch is None or size <= IN_MEMORY:
        return [
            {name: value for name, value in row._asdict().items() if value is not None}
            for row in _records(path, kind, chat)
        ]
    kept: list[Records] = []

    def store() -> str:
        scratch.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{scratch.name}.rows-", dir=scratch.parent))
        # At the latest when the program ends.
        remove = partial(shutil.rmtree, folder, ignore_errors=True)
        try:
            with reading_input():
                kept.append(stored_records(path, folder / kind, kind=kind))
            _check_chat(path, kept[0][0]["prompt"], chat)
        except BaseException:
            remove()
            raise
        weakref.finalize(kept[0], remove)
        return str(folder)

    folder = on_first(store)  # the others read what process 0 has written
    found = kept[0] if kept else stored_records(path, Path(folder) / kind, kind=kind)
    counts = [f"{number} {reason}" for reason, number in found.counts.items()]
    print(f"{path}: {', '.join([f'{len(found)} {kind}', *counts])}; read from disk as needed")
    return found


def read_rankings(
    path: Path, chat: Chat, scratch: Path | None = None, *, most: int | None = None
) -> list[dict]:
    """Records of "prompt", "answers", "scores" and "kept", as `ranked_records` makes them.

    most: answers of a row that stay; None for all.
    """
    rows = [row._asdict() for row in _records(path, "rankings", chat)]
    found = ranked_records(rows, most=most)
    lengths = Counter(sum(row["kept"]) for row in found)
    told = ", ".join(f"{count} of {length} answers" for length, count in sorted(lengths.items()))
    print(f"{path}: {told}; {tied_answers(found)} answers tie with a better one")
    return found


def read_steps(path: Path, chat: Chat, scratch: Path | None = None) -> list[dict]:
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


def read_marked(path: Path, chat: Chat, scratch: Path | None = None) -> list[dict]:
    """Records of "prompt", "answer" and "spans"."""
    return [row._asdict() for row in _records(path, "spans", chat)]


def read_prompts(
    path: Path, chat: Chat, *, used: Sequence[str] = (), format: str | None = None
) -> list[dict]:
    """Records with a "prompt", and the other fields of their rows; lines of a text file.

    used: fields that an option reads, which the note does not call unused. format: of the rows,
    None to detect it.
    """
    if path.suffix != ".txt":
        rows = _records(path, "prompts", chat, used=used, format=format)
        return [{**row.fields, "prompt": row.prompt} for row in rows]
    with reading_input():
        lines = text_lines(path)
    if not lines:
        raise UserError(f"{path}: no prompts; expected one a line")
    return [{"prompt": line} for line in lines]


def _records(
    path: Path, kind: str, chat: Chat, *, used: Sequence[str] = (), format: str | None = None
) -> Sequence[Any]:
    """The records of a file; a note says what was dropped, and which columns but `used` are unread.

    Raises:
      UserError: a file that cannot be read, or messages without a template to write them.
    """
    with reading_input():
        found = read_rows(path, kind=kind, format=format)
    _check_chat(path, found.records[0].prompt, chat)
    unused = tuple(name for name in found.unused if name not in used)
    print(f"{path}: {replace(found, unused=unused).note()}")
    return found.records


def _check_chat(path: Path, prompt: Any, chat: Chat) -> None:
    if chat is None and not isinstance(prompt, str):
        raise UserError(f"{path}: messages need a chat template, and the model's folder has none")


def split_rows(
    options: Rows, records: SizedRecords, *, seed: int
) -> tuple[SizedRecords, SizedRecords]:
    """(training records, held-out records): a share of the records.

    Raises:
      UserError: as `held_out`.
    """
    if not options.heldout:
        return records, records.take(np.arange(0))
    held = held_out(records, options.heldout, seed, str(options.data))
    return records.take(np.flatnonzero(~held)), records.take(np.flatnonzero(held))


def split_records(
    records: Sequence[dict], share: float, seed: int, name: str
) -> tuple[list[dict], list[dict]]:
    """The same of records in memory; see `held_out`."""
    held = held_out(records, share, seed, name)
    pairs = list(zip(records, held, strict=True))
    return [row for row, out in pairs if not out], [row for row, out in pairs if out]


def held_out(records: Records, share: float, seed: int, name: str) -> np.ndarray:
    """[N] whether each record is held out; those of one dialogue are on one side.

    Args:
      share: of the records that are held out, about. name: of their file, for the error.
    Raises:
      UserError: no record would be left to train on.
    """
    groups = _digest_groups(records) if len(records) > MANY else _sorted_groups(records)
    order = list(range(groups.max() + 1))
    random.Random(seed).shuffle(order)
    sizes = np.bincount(groups)[order]
    out = np.empty(len(order), bool)
    out[order] = np.cumsum(sizes) - sizes < max(1, round(share * len(records)))
    held = out[groups]
    if held.all():
        raise UserError(
            f"{name}: {len(records)} rows do not split into training and held-out rows; "
            "give more rows, --heldout 0 or --heldout-data FILE"
        )
    return held


def _sorted_groups(records: Records) -> np.ndarray:
    """[N] number of the dialogue of each record, in order of their beginnings."""
    names = _dialogues(records)
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names])


def _digest_groups(records: Records) -> np.ndarray:
    """The same groups in another order, by digests: without the texts of all prompts in memory."""

    def openings(turns: int) -> np.ndarray:
        prompts = (_as_text(records[i]["prompt"]) for i in range(len(records)))
        texts = (dialogue_opening(prompt, turns=turns) for prompt in prompts)
        digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
        return np.fromiter((int.from_bytes(each) for each in digests), np.uint64, len(records))

    turns, groups = 1, openings(1)
    while True:
        _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        large = sizes[numbers] * PARTS > len(groups)
        deeper = np.where(large, openings(turns + 1), groups) if large.any() else groups
        if (deeper == groups).all():
            return numbers if len(sizes) > 1 else np.arange(len(groups))
        turns, groups = turns + 1, deeper


def dialogue_numbers(records: Sequence[dict]) -> np.ndarray:
    """[N] number of the dialogue that each record is about; rows of one prompt are one."""
    names = _dialogues(records)
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names])


def _dialogues(records: Records) -> list[Any]:
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


def pair_key(row: Mapping[str, Any]) -> str:
    """Of the prompt and both answers of a pair, whichever was chosen."""
    return answers_key(row["prompt"], (row["chosen"], row["rejected"]))


def answers_key(prompt: Any, answers: Sequence[Any]) -> str:
    """Of a prompt and its answers in any order."""
    return json.dumps([prompt, sorted(map(json.dumps, answers))])


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
