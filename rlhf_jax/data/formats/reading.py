"""From a file to records: the format of its first row, then row by row."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any

from rlhf_jax.data.containers import RawRow, naming, raw_items
from rlhf_jax.data.fields import BadRow, Fields, described, type_name
from rlhf_jax.data.formats.cleaning import cleaned, contradicted, repeats, without_prompts
from rlhf_jax.data.formats.prompts import Parsed
from rlhf_jax.data.formats.table import FORMATS, Format
from rlhf_jax.data.records import CONVERSIONS, KINDS, Ranking, Record, in_one_form, with_messages

# Columns that belong to the question. Leaving one out would change the question.
CONTEXT = (
    *("prompt", "system", "system_prompt", "context", "instruction", "input", "history"),
    *("messages", "conversation", "conversations", "dialogue", "document", "tools"),
    *("image", "images", "question", "passages"),
    *("chosen", "rejected"),
)


@dataclass
class Tally:
    """What has been seen of a file so far.

    format: that of the first row, None before it. rows: read. counts: reason -> number of records
    dropped or changed. unused: columns that are not read, in order of appearance.
    """

    format: Format | None = None
    rows: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    unused: dict[str, None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FileRecords:
    """Records of one file, in its order; at least one.

    format: its name. kind: of the records, which are all `KINDS[kind]`. rows: of the file. counts:
    reason -> number of records dropped, or kept as it says. unused: columns that are not read.
    """

    format: str
    kind: str
    records: tuple[Any, ...]
    rows: int
    counts: dict[str, int]
    unused: tuple[str, ...]

    def note(self) -> str:
        """One line: format, numbers, what was dropped and which columns are not used."""
        parts = [f"{self.format}: {len(self.records)} {self.kind} of {self.rows} rows"]
        parts += [f"{number} {reason}" for reason, number in self.counts.items()]
        unused = f"; unused columns: {', '.join(self.unused)}" if self.unused else ""
        return ", ".join(parts) + unused


def read_rows(
    path: Path | str,
    *,
    kind: str | None = None,
    format: str | None = None,
    formats: Sequence[Format] = FORMATS,
) -> FileRecords:
    """All records of a file; `cleaning` says which are dropped.

    If both answers of most pairs of texts begin with the prompt, it is removed from them. If some
    records have messages (a system text, earlier turns), all have them.

    Args:
      path: any container of `data.containers`.
      kind: of the records, e.g. "pairs"; rankings become pairs, pairs labelled answers, and so on
        (`records.CONVERSIONS`). None: the kind of the file.
      format: a name in `formats`; None detects it.
      formats: to choose from.
    Raises:
      ValueError: an unreadable file, a row that fits no format, a bad row, or no records. The
        message names file and row, the columns found and an example, and never quotes a text.
    """
    tally = Tally()
    raw = list(_parsed(path, tally, kind, format, formats))
    cut, removed = without_prompts(raw)
    records = in_one_form(list(_finished(cut, tally, kind)))
    counts = tally.counts
    counts["prompts removed from the answers"] += removed
    if not removed:
        counts["answers that begin with their prompt, kept"] = sum(map(repeats, records))
    counts["contradicted, kept"] = contradicted(records)
    found = kind or (tally.format.kind if tally.format else "records")
    if tally.format is None or not records:
        raise ValueError(f"{path}: no {found} ({_counted(tally)}); give a file with at least one")
    return FileRecords(
        format=tally.format.name,
        kind=found,
        records=tuple(records),
        rows=tally.rows,
        counts={reason: number for reason, number in counts.items() if number},
        unused=tuple(tally.unused),
    )


def stream_records(
    path: Path | str, tally: Tally, *, kind: str | None = None, format: str | None = None
) -> Iterator[Any]:
    """The records of `read_rows` one by one, in constant memory; `tally` counts along.

    The file is read twice: first to see whether most answers repeat their prompts, and whether any
    record has messages. Contradictions are not counted. Arguments and errors are those of
    `read_rows`.
    """
    total, repeated, messages = 0, 0, False
    for record in _parsed(path, Tally(), kind, format, FORMATS):
        total, repeated = total + 1, repeated + repeats(record)
        messages = messages or not isinstance(record.prompt, str)
    records = _parsed(path, tally, kind, format, FORMATS)
    if removed := 2 * repeated > total:
        records = chain.from_iterable(without_prompts([x])[0] for x in records)
    for record in _finished(records, tally, kind):
        yield with_messages(record) if messages and isinstance(record.prompt, str) else record
    if repeated:
        removing, kept = "prompts removed from the answers", "answers that begin with their prompt"
        tally.counts[removing if removed else f"{kept}, kept"] += repeated


def _finished(records: Iterable[Record], tally: Tally, kind: str | None) -> Iterator[Record]:
    """Grouped, cleaned, and as the kind that is asked for."""
    for record in _grouped(records, tally):
        kept = cleaned(record, tally.counts)
        if kept is None or tally.format is None:
            continue
        if kind in (None, tally.format.kind):
            yield kept
        else:
            yield from CONVERSIONS[tally.format.kind, kind](kept)


def _parsed(
    path: Path | str,
    tally: Tally,
    kind: str | None,
    name: str | None,
    formats: Sequence[Format],
) -> Iterator[Record]:
    """Records of each row, as they are."""
    for row, found in parsed_rows(path, tally, kind=kind, format=name, formats=formats):
        with naming(row.path, row.number):
            if isinstance(found, BadRow):
                raise found
        tally.counts["ties"] += found.ties
        tally.counts["prompts removed from the answers"] += found.removed
        yield from found.records


def parsed_rows(
    path: Path | str,
    tally: Tally,
    *,
    kind: str | None = None,
    format: str | None = None,
    formats: Sequence[Format] = FORMATS,
) -> Iterator[tuple[RawRow, Parsed | BadRow]]:
    """Every row with its records as they are, or with what is wrong with it."""
    candidates = _candidates(formats, kind, format)
    for row in raw_items(path):
        tally.rows += 1
        try:
            if isinstance(row.fields, BadRow):
                raise row.fields
            tally.format = tally.format or _detected(row.fields, candidates, formats, kind)
            found = _parse_row(row.fields, tally.format, tally.unused, formats)
        except BadRow as error:
            yield row, error
            continue
        yield row, found


def _parse_row(
    fields: Fields, format: Format, unused: dict[str, None], formats: Sequence[Format]
) -> Parsed:
    """The records of a row; BadRow with what was found and an example of the format."""
    try:
        _check_columns(fields, format, formats)
        _refuse_context(fields, format, unused)
        return format.parse(fields)
    except BadRow as error:
        raise BadRow(
            f"{error}; found {described(fields)}; a row of format {format.name} is "
            f"{json.dumps(format.example, ensure_ascii=False)}"
        ) from error


def _grouped(records: Iterable[Record], tally: Tally) -> Iterator[Record]:
    """Consecutive rankings of one prompt joined, if the format has one answer a row."""
    held: Record | None = None
    for record in records:
        if tally.format is None or not tally.format.grouped:
            yield record
            continue
        joined = joined_rankings(tally, held, record)
        if joined is None and held is not None:
            yield held
        held = joined or record
    if held is not None:
        yield held


def joined_rankings(tally: Tally, first: Any, second: Any) -> Ranking | None:
    """Two consecutive rankings of one prompt as one, where the format has one answer a row."""
    grouped = tally.format is not None and tally.format.grouped and isinstance(first, Ranking)
    if not grouped or first.prompt != second.prompt:
        return None
    return Ranking(first.prompt, first.answers + second.answers, first.scores + second.scores)


def _candidates(formats: Sequence[Format], kind: str | None, name: str | None) -> list[Format]:
    """Formats to detect among: the named one, or those of the kind or that become it.

    Raises:
      ValueError: no such kind or format, or one that does not become the other.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    named = [x for x in formats if name in (None, x.name)]
    if not named:
        raise ValueError(f"format must be one of {', '.join(x.name for x in formats)}, got {name}")
    if kind is None:
        return named
    found = [x for x in named if x.kind == kind or (x.kind, kind) in CONVERSIONS]
    if not found:
        raise ValueError(f"format {name} has {named[0].kind}, which cannot become {kind}")
    return found


def fits(format: Format, fields: Fields) -> bool:
    """Whether a row has the columns of a format."""
    return not _missing(format, fields) and format.when(fields)


def _missing(format: Format, fields: Fields) -> list[str]:
    """Columns of the format that the row does not have."""
    return [x for x in format.columns if not any(name in fields for name in x.split("|"))]


def _detected(
    fields: Fields, candidates: Sequence[Format], formats: Sequence[Format], kind: str | None
) -> Format:
    """The first candidate that fits the first row; the only one, if the format was named."""
    if len(candidates) == 1:
        return candidates[0]
    found = next((format for format in candidates if fits(format, fields)), None)
    if found is not None:
        return found
    other = next((format for format in formats if fits(format, fields)), None)
    if other is None and [type_name(x) for x in fields.values()] == ["a list of objects"]:
        raise BadRow(f"the rows are in field {next(iter(fields))}; write that list alone")
    reason = f"no format{f' of {kind}' if kind else ''} has these columns"
    nearest = max(candidates, key=lambda x: (_likeness(x, fields), -len(str(x.example))))
    also = f"; they are {other.kind} (format {other.name})" if other else ""
    raise BadRow(
        f"{reason}: {described(fields)}{also}; the nearest format is {nearest.name}, a row is "
        f"{json.dumps(nearest.example, ensure_ascii=False)}; rename the columns"
    )


def _likeness(format: Format, fields: Fields) -> float:
    """Share of columns that the row and the format have in common, almost equal names included."""
    names = [name.strip().lower() for name in [*fields][:20]]
    have = len(format.columns)
    for column in _missing(format, fields):
        have -= not any(get_close_matches(x, names, n=1, cutoff=0.8) for x in column.split("|"))
    return have / (len(format.columns) + len(fields) - have)


def _check_columns(fields: Fields, format: Format, formats: Sequence[Format]) -> None:
    """BadRow if a column is missing; it says so if the row has those of another format."""
    missing = _missing(format, fields)
    if not missing:
        return
    other = next((x for x in formats if fits(x, fields)), None)
    also = f" (the row has the columns of format {other.name}: split the file)" if other else ""
    raise BadRow(
        f"field {missing[0].replace('|', ' or ')} is missing; every row needs the fields of the "
        f"first one{also}"
    )


def _refuse_context(fields: Fields, format: Format, unused: dict[str, None]) -> None:
    """Notes columns that are not read; BadRow if one belongs to the question."""
    read = {name for column in format.columns for name in column.split("|")}
    read |= {*format.beside, *format.skipped}
    for name, value in fields.items():
        if name in read:
            continue
        unused[name] = None
        empty = not (value.strip() if isinstance(value, str) else value)
        if name.strip().lower() in CONTEXT and not empty:
            raise BadRow(
                f"field {name} belongs to the question, but is not one of the fields read "
                f"({', '.join(x for x in fields if x in read)}); write it into the prompt, or "
                "remove it"
            )


def _counted(tally: Tally) -> str:
    found = [f"{number} {reason}" for reason, number in tally.counts.items() if number]
    return ", ".join([f"{tally.rows} rows", *found])
