"""A file of data in two: rows to train on, and rows to measure on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlhf_jax.checks import check_fields
from rlhf_jax.cli.data import split_records
from rlhf_jax.data.formats import read_rows
from rlhf_jax.reports.claims import write_text
from rlhf_jax.training import UserError, reading_input


@dataclass(frozen=True, kw_only=True)
class Split:
    """OUT/train.jsonl and OUT/heldout.jsonl; rows of one dialogue are in one of them."""

    data: Path
    """Any file of the other commands."""
    out: Path
    """New folder."""
    kind: (
        Literal["pairs", "answers", "labelled", "steps", "spans", "rankings", "prompts"] | None
    ) = None
    """What the rows are, where it is not as detected: prompts keep all of their columns."""
    heldout: float = 0.2
    """Share of the rows in heldout.jsonl."""
    seed: int = 0
    """Of which rows."""

    def __post_init__(self) -> None:
        check_fields(self, "(0, 0.5]", "heldout")
        check_fields(self, "[0, 4294967295]", "seed")


def split(command: str, options: Split) -> None:
    """Reads, divides and writes."""
    if options.out.exists():
        raise UserError(f"{options.out} exists: choose another --out")
    with reading_input():
        found = read_rows(options.data, kind=options.kind)
    print(f"{options.data}: {found.note()}")
    rows = [{"prompt": record.prompt, "row": _row(record)} for record in found.records]
    parts = split_records(rows, options.heldout, options.seed, str(options.data))
    options.out.mkdir(parents=True)
    for name, part in zip(("train", "heldout"), parts, strict=True):
        path = options.out / f"{name}.jsonl"
        write_text(path, _lines(part))
        print(f"{path}: {len(part)} {found.kind}")


def _row(record: Any) -> dict[str, Any]:
    """The fields of a record that say something; the whole row of a prompt."""
    fields = record._asdict()
    said = {name: value for name, value in fields.items() if value not in (None, ())}
    return dict(fields.get("fields", said))


def _lines(parts: Sequence[dict]) -> str:
    return "".join(json.dumps(part["row"], ensure_ascii=False) + "\n" for part in parts)
