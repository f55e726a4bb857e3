"""A file as its rows have it: records that `read_rows` would drop are kept, bad rows are listed."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rlhf_jax.data.containers import data_files
from rlhf_jax.data.fields import BadRow
from rlhf_jax.data.formats import Tally
from rlhf_jax.data.formats.cleaning import cleaned, text_key, without_prompts
from rlhf_jax.data.formats.reading import joined_rankings, parsed_rows
from rlhf_jax.data.records import Labelled, Marked, Pair, Ranking, Record, Steps, Text, pairs_of


class AuditEntry(NamedTuple):
    """A record and the row it comes from: "12", or "part-1.jsonl:12" in a folder of several."""

    place: str
    record: Any


class JudgedPair(NamedTuple):
    """A pair with two different answers. entry: its number; answers: which of its record's."""

    place: str
    pair: Pair
    entry: int
    answers: tuple[int, int]


@dataclass(frozen=True)
class AuditFile:
    """All records of a file, at least one.

    format, kind: of its first readable row. rows: of the file. faults: (place, reason) of rows that
    cannot be read. ties: place -> judgements without a winner. unused: columns that are not read.
    """

    path: Path
    format: str
    kind: str
    rows: int
    entries: tuple[AuditEntry, ...]
    faults: tuple[tuple[str, str], ...] = ()
    ties: tuple[tuple[str, int], ...] = ()
    unused: tuple[str, ...] = ()


def read_audit(path: Path | str, *, format: str | None = None) -> AuditFile:
    """All rows of a file, the bad ones as faults.

    Raises:
      ValueError: the file is damaged or of a kind that is not read, or has no record at all; the
        message names the first bad row.
    """
    path, tally = Path(path), Tally()
    several = len(data_files(path)) > 1
    entries: list[AuditEntry] = []
    faults: list[tuple[str, str]] = []
    ties: list[tuple[str, int]] = []
    for row, found in parsed_rows(path, tally, format=format):
        place = f"{row.path.name}:{row.number}" if several else str(row.number)
        if isinstance(found, BadRow):
            faults.append((place, str(found)))
            continue
        ties += [(place, found.ties)] if found.ties else []
        for record in found.records:
            _append(entries, AuditEntry(place, record), tally)
    if tally.format is None or not (entries or ties):
        first = f"; row {faults[0][0]}: {faults[0][1]}" if faults else ""
        raise ValueError(f"{path}: no record in {tally.rows} rows{first}")
    records, _ = without_prompts([entry.record for entry in entries])
    return AuditFile(
        path=path,
        format=tally.format.name,
        kind=tally.format.kind,
        rows=tally.rows,
        entries=tuple(AuditEntry(x.place, y) for x, y in zip(entries, records, strict=True)),
        faults=tuple(faults),
        ties=tuple(ties),
        unused=tuple(tally.unused),
    )


def _append(entries: list[AuditEntry], entry: AuditEntry, tally: Tally) -> None:
    """Adds an entry, or joins it to the last one where several rows are one ranking."""
    joined = joined_rankings(tally, entries[-1].record if entries else None, entry.record)
    if joined is None:
        entries.append(entry)
    else:
        entries[-1] = entries[-1]._replace(record=joined)


def answers_of(record: Record) -> tuple[Text, ...]:
    """The answers of a record, in its order; steps are one answer."""
    if isinstance(record, Pair):
        return record.chosen, record.rejected
    if isinstance(record, Ranking):
        return record.answers
    if isinstance(record, Steps):
        return ("\n".join(record.steps),)
    return (record.answer,) if hasattr(record, "answer") else ()


def label_of(record: Record) -> Any:
    """What a record says of its answers, besides their order."""
    if isinstance(record, Labelled):
        return record.label
    if isinstance(record, Steps):
        return record.labels
    if isinstance(record, Marked):
        return record.spans
    return record.scores if isinstance(record, Ranking) else None


def judged_pairs(file: AuditFile) -> list[JudgedPair]:
    """Pairs, or those of rankings, without blank and equal answers."""
    found = []
    for number, (place, record) in enumerate(file.entries):
        kept = cleaned(record, Counter())
        if isinstance(kept, Pair):
            found.append(JudgedPair(place, kept, number, (0, 1)))
        elif isinstance(kept, Ranking):
            keys = [text_key(answer) for answer in record.answers]
            for pair in pairs_of(kept):
                sides = (keys.index(text_key(pair.chosen)), keys.index(text_key(pair.rejected)))
                found.append(JudgedPair(place, pair, number, sides))
    return found


def prompt_groups(prompts: list[Text]) -> list[int]:
    """A number for each prompt, equal for equal prompts, from 0 in order of appearance."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(text_key(prompt), len(numbers)) for prompt in prompts]


def plain_text(text: Text) -> str:
    """A text, or the contents of messages."""
    return text if isinstance(text, str) else "\n".join(m["content"] for m in text)


def spaced(text: Text) -> str:
    """The words of a text in small letters, one space between them."""
    return " ".join(plain_text(text).lower().split())
