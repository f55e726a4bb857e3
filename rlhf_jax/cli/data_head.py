"""rlhf data head and stats: what is in a file."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from rlhf_jax.checks import check_fields
from rlhf_jax.data.audit import AuditFile, read_audit
from rlhf_jax.data.audit.answers import Sizes, distinct_prompts, word_sizes
from rlhf_jax.data.audit.rows import answers_of, plain_text
from rlhf_jax.data.chat import with_turn_end
from rlhf_jax.data.fields import BadRow
from rlhf_jax.data.formats import Tally
from rlhf_jax.data.formats.reading import parsed_rows
from rlhf_jax.data.records import Labelled, Marked, Pair, Ranking, Record, Steps
from rlhf_jax.hf.vocabulary import read_chat_template, read_vocabulary
from rlhf_jax.recipes.tokens import Case, prompt_tokens, token_rows
from rlhf_jax.reports.claims import Table, print_table
from rlhf_jax.reports.text import visible
from rlhf_jax.training import UserError, reading_input

File = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.99, 1.0)


@dataclass(frozen=True, kw_only=True)
class Head:
    """The first rows of a file, as the commands read them."""

    file: File
    """JSON lines, an array, gz, zst, Parquet, Arrow or a folder."""
    rows: int = 3
    """How many."""
    first: int = 1
    """Number of the first one, as audits name it."""
    chars: int = 400
    """Characters of each text, at most."""

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "rows", "first", "chars")


def head(command: str, options: Head) -> None:
    """Prints rows."""
    tally, shown = Tally(), 0
    with reading_input():
        rows = islice(parsed_rows(options.file, tally), options.first - 1, None)
        for row, found in islice(rows, options.rows):
            if not shown and tally.format is not None:
                print(f"{tally.format.name}: {tally.format.kind}")
            shown += 1
            print(f"\nrow {row.number}")
            if isinstance(found, BadRow):
                print(f"  cannot be read: {visible(str(found))}")
                continue
            lines = [line for record in found.records for line in _lines(record)]
            lines += [("ties", str(found.ties))] if found.ties else []
            for name, text in lines:
                print(f"  {name}: {_clipped(text, options.chars)}")
    if not shown:
        raise UserError(f"{options.file}: {tally.rows} rows, none from number {options.first} on")
    if tally.unused:
        print(f"\nunused columns: {', '.join(map(visible, tally.unused))}")


def _lines(record: Record) -> Iterable[tuple[str, str]]:
    """Name and text of each field that a record has."""
    for name, value in record._asdict().items():
        if name == "fields" or value in (None, ()):
            continue
        if name == "prompt" or not isinstance(value, tuple):
            yield name, _whole(value)
            continue
        messages = isinstance(value[0], dict) and name != "tools"
        parts = [value] if messages else value
        numbered = len(parts) > 1
        for number, part in enumerate(parts, start=1):
            yield f"{name} {number}" if numbered else name, _whole(part)


def _whole(value: Any) -> str:
    """A text, a number, or messages with their roles."""
    if isinstance(value, tuple) and value and isinstance(value[0], dict):
        return " | ".join(f"{m['role']}: {m['content']}" for m in value)
    return str(value)


def _clipped(text: str, most: int) -> str:
    line = visible(" ⏎ ".join(text.strip().splitlines()))
    return line if len(line) <= most else f"{line[:most]}… ({len(line)} characters)"


@dataclass(frozen=True, kw_only=True)
class Stats:
    """Numbers of a file: records, lengths, labels."""

    file: File
    """JSON lines, an array, gz, zst, Parquet, Arrow or a folder."""
    model: Path | None = None
    """Folder of a model; lengths are then in tokens of its tokenizer, not in words."""


def stats(command: str, options: Stats) -> None:
    """Prints numbers."""
    file = open_audit(options.file)
    print(noted(file))
    sizes, unit, _ = answer_sizes(options.model, file)
    answers = [size for each in sizes for size in each]
    columns = ("", "number", *(f"{q:.0%}" for q in QUANTILES))
    rows = [_spread("prompts", _prompt_sizes(options.model, file)), _spread("answers", answers)]
    print_table(Table(f"Lengths in {unit}", columns, [row for row in rows if row]))
    counts = [("distinct prompts", distinct_prompts(file)), *_counts(file)]
    print_table(Table("Records", ("", "number"), counts))


def open_audit(path: Path) -> AuditFile:
    """The rows of a file.

    Raises:
      UserError: none can be read.
    """
    with reading_input():
        return read_audit(path)


def noted(file: AuditFile) -> str:
    """One line about a file: format, numbers, columns that are not read."""
    unused = f"; unused columns: {', '.join(map(visible, file.unused))}" if file.unused else ""
    records = len(file.entries)
    return f"{file.path}: {file.format}, {records} {file.kind} of {file.rows} rows{unused}"


def answer_sizes(
    model: Path | None, file: AuditFile
) -> tuple[Sizes, str, list[tuple[str, str]] | None]:
    """Lengths of all answers, their unit, and (place, reason) of records without a token to learn.

    Words and None without a model.
    """
    if model is None:
        return word_sizes(file), "words", None
    vocabulary, chat = _reader(model)
    sizes: list[tuple[int, ...]] = []
    faults: list[tuple[str, str]] = []
    for place, record in file.entries:
        try:
            rows = token_rows(vocabulary, chat, _cases(record))
            sizes.append(tuple(sum(row.counted) for row in rows))
        except ValueError as error:
            faults.append((place, str(error)))
            sizes.append(tuple(0 for _ in _cases(record)))
    return sizes, "tokens", faults


def _cases(record: Record) -> list[Case]:
    """Each answer with its prompt."""
    tools = getattr(record, "tools", ()) or None
    return [Case(record.prompt, answer, tools) for answer in answers_of(record)]


def _reader(model: Path) -> tuple[Any, Any]:
    """Vocabulary and chat template of a folder."""
    with reading_input():
        vocabulary, chat = read_vocabulary(model), read_chat_template(model)
        return (vocabulary if chat is None else with_turn_end(vocabulary, chat)), chat


def _prompt_sizes(model: Path | None, file: AuditFile) -> list[int]:
    """Lengths of prompts that are not blank."""
    prompts = [entry.record.prompt for entry in file.entries if plain_text(entry.record.prompt)]
    if model is None:
        return [len(plain_text(prompt).split()) for prompt in prompts]
    with reading_input():
        return [len(ids) for ids in prompt_tokens(*_reader(model), prompts)]


def _spread(name: str, sizes: Sequence[int]) -> tuple[Any, ...]:
    """A row of the table of lengths; () of nothing."""
    if not sizes:
        return ()
    return name, len(sizes), *(round(float(x)) for x in np.quantile(np.array(sizes), QUANTILES))


def _counts(file: AuditFile) -> list[tuple[str, Any]]:
    """Numbers that the kind of record has."""
    records = [entry.record for entry in file.entries]
    found: Counter[str] = Counter()
    for record in records:
        found.update(_traits(record))
    if file.ties:
        found["ties, not records"] += sum(number for _, number in file.ties)
    if file.faults:
        found["rows that cannot be read"] += len(file.faults)
    return sorted(found.items())


def _traits(record: Record) -> Iterable[str]:
    """What is counted of one record."""
    if not isinstance(record.prompt, str):
        roles = [message["role"] for message in record.prompt]
        yield f"prompts of {roles.count('user')} user messages"
        yield from (
            f"prompts with a {role} message" for role in ("system", "tool") if role in roles
        )
    if getattr(record, "tools", ()):
        yield "records with tools"
    if isinstance(record, Labelled):
        yield "answers marked good" if record.label else "answers marked bad"
    elif isinstance(record, Ranking):
        yield f"rankings of {len(record.answers)} answers"
    elif isinstance(record, Steps):
        yield from (
            "steps marked right" if x > 0.5 else "steps marked wrong" for x in record.labels
        )
    elif isinstance(record, Marked):
        yield from (f"spans of {span.kind}" for span in record.spans)
    elif isinstance(record, Pair) and record.margin is not None:
        yield "pairs with scores"
