"""Files larger than memory: written once as array_record, then read in any order.

    records = stored_records("pairs.parquet", "results/pairs", kind="pairs")
    rows = pair_rows(lab, records, batch_size=64)    # recipes; or data.loader.batches

The file is read row by row and a record is read when a batch needs it, so memory does not grow with
the file, while `loader.batches` shuffles all of it and a run can go on from any step.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grain
from array_record.python.array_record_module import ArrayRecordWriter  # ty: ignore  # compiled

from rlhf_jax.data.containers import data_files
from rlhf_jax.data.formats import Tally, stream_records

_RECORDS, _DESCRIPTION = "records.array_record", "records.json"


@dataclass(frozen=True)
class StoredRecords:
    """Random access: `len(records)`, `records[i]` -> dict of the record's fields.

    counts: reason -> number of records dropped. Messages are lists of dicts.
    """

    source: Any
    counts: dict[str, int]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int, /) -> dict[str, Any]:
        return json.loads(self.source[index])


Sequence.register(StoredRecords)


def stored_records(
    path: Path | str, folder: Path | str, *, kind: str, format: str | None = None
) -> StoredRecords:
    """The records of `formats.stream_records(path)`, written to a folder unless they are there.

    The folder is renamed in one step when it is complete, so a killed run leaves nothing that looks
    like it.

    Raises:
      ValueError: as `stream_records`, no records, or a folder of another file, kind or format.
    """
    folder = Path(folder)
    wanted = {
        "kind": kind,
        "format": format,
        "sha256": [_digest(x) for x in data_files(Path(path))],
    }
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
        try:
            found = _write(Path(path), partial, kind, format)
            (partial / _DESCRIPTION).write_text(json.dumps(wanted | {"counts": found}))
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    if not (folder / _DESCRIPTION).is_file():
        raise ValueError(f"{folder} exists but holds no records; choose another folder")
    described = json.loads((folder / _DESCRIPTION).read_text())
    counts = described.pop("counts")
    if described != wanted:
        raise ValueError(f"{folder} holds the records of another file, kind or format; delete it")
    return StoredRecords(grain.sources.ArrayRecordDataSource(str(folder / _RECORDS)), counts)


def _write(path: Path, folder: Path, kind: str, format: str | None) -> dict[str, int]:
    """Writes every record as JSON; returns the counts of what was dropped."""
    tally, number = Tally(), 0
    writer = ArrayRecordWriter(str(folder / _RECORDS), "group_size:1")
    try:
        for record in _dicts(path, tally, kind, format):
            writer.write(json.dumps(record).encode())
            number += 1
    finally:
        writer.close()
    if not number:
        raise ValueError(f"{path}: no {kind} in {tally.rows} rows; give a file with at least one")
    return {reason: count for reason, count in tally.counts.items() if count}


def _dicts(path: Path, tally: Tally, kind: str, format: str | None) -> Iterator[dict[str, Any]]:
    """The fields of each record that it has."""
    for record in stream_records(path, tally, kind=kind, format=format):
        yield {
            name: dict(value) if name == "fields" else value
            for name, value in record._asdict().items()
            if value not in (None, ())
        }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
