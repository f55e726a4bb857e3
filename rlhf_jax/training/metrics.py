"""Training metrics: `metrics.jsonl` and TensorBoard events, identical after an interruption.

A row of metrics.jsonl is `{"stage": ..., "step": ..., <name>: <number or null>}`. It has no times,
so an interrupted and resumed run ends with the same file, byte for byte, as an uninterrupted one:
metrics "seconds/..." and "speed/..." go to TensorBoard and the trackers only. A
checkpoint stores the length and digest of the file at its step; resuming compares them and cuts the
file to that length.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from rlhf_jax.training.errors import ResultsError, naming_full_disk

RESERVED = ("stage", "step")
TIMES = ("seconds/", "speed/")  # beginnings of the names that metrics.jsonl leaves out


class RowsPrefix(NamedTuple):
    """The beginning of a metrics.jsonl: its length in bytes and its SHA-256."""

    length: int = 0
    sha256: str = hashlib.sha256().hexdigest()


@dataclass(frozen=True)
class MetricWriter:
    """An open metrics file and its TensorBoard folder, with one event file per stage.

    now: "digest", the running SHA-256 of the file; "muted", whether writing is switched off.
    silent: a process that writes nothing, because process 0 does.
    trackers: are given each row too, as (stage, step, finite numbers by name).
    """

    folder: Path
    rows: BinaryIO
    events: dict[str, Any] = field(default_factory=dict)
    now: dict[str, Any] = field(
        default_factory=lambda: {"digest": hashlib.sha256(), "muted": False}
    )
    trackers: list[Callable[[str, int, dict[str, float]], None]] = field(default_factory=list)
    silent: bool = False


def open_writer(folder: Path) -> MetricWriter:
    """Opens folder/metrics.jsonl for appending and folder/tensorboard for events."""
    with naming_full_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        writer = MetricWriter(folder, path.open("ab"))
        writer.now["digest"] = _digest(writer, path.stat().st_size)
        return writer


def silent_writer(folder: Path) -> MetricWriter:
    """A writer that writes nothing."""
    return MetricWriter(folder, open(os.devnull, "ab"), silent=True)


def write_metrics(
    writer: MetricWriter, stage: str, rows: Sequence[tuple[int, Mapping[str, Any]]]
) -> None:
    """Appends rows (step, metrics) of a stage, in order.

    A metric is a scalar, or a pair (total, weight) that is written as total / weight, which
    averages micro-batches and shards correctly. Numbers that are not finite, and means with weight
    0, become null.
    """
    if writer.now["muted"] or writer.silent:
        return
    found: list[tuple[int, dict[str, float]]] = []
    with naming_full_disk(writer.folder):
        for step, metrics in rows:
            values = {name: as_number(value) for name, value in metrics.items()}
            clash = [name for name in RESERVED if name in values]
            if clash:
                raise ValueError(f"a metric of stage {stage} is called {clash[0]!r}: rename it")
            row = {"stage": stage, "step": step} | {
                name: value if math.isfinite(value) else None
                for name, value in values.items()
                if not name.startswith(TIMES)
            }
            line = (json.dumps(row, allow_nan=False) + "\n").encode()
            writer.rows.write(line)
            writer.now["digest"].update(line)
            found.append((step, {name: x for name, x in values.items() if math.isfinite(x)}))
        writer.rows.flush()
        for step, finite in found:
            _tensorboard().write_scalars(_events(writer, stage), step, finite)
            for track in writer.trackers:
                track(stage, step, finite)


def as_number(value: Any) -> float | int:
    """A metric as a Python number; a pair is divided, float32 takes its shortest decimal form."""
    if isinstance(value, tuple):
        total, weight = (float(np.asarray(part)) for part in value)
        return float(np.float32(total / weight).astype(str)) if weight else math.nan
    array = np.asarray(value)
    if array.ndim != 0:
        raise ValueError(f"a metric must be a scalar or a (total, weight) pair, got {array.shape}")
    if array.dtype.kind in "biu":
        return int(array)
    return float(str(array)) if array.dtype == np.float32 else float(array)


@contextmanager
def muted(writer: MetricWriter, mute: bool = True) -> Generator[None, None, None]:
    """Switches writing and cutting off in the block, for rows that the file already has."""
    writer.now["muted"] = mute
    try:
        yield
    finally:
        writer.now["muted"] = False


def position(writer: MetricWriter) -> RowsPrefix:
    """Length and digest of metrics.jsonl, after flushing all writes."""
    with naming_full_disk(writer.folder):
        writer.rows.flush()
        for events in writer.events.values():
            events.flush()
    return RowsPrefix(os.fstat(writer.rows.fileno()).st_size, writer.now["digest"].hexdigest())


def check_rows(writer: MetricWriter, rows: RowsPrefix, stage: str) -> None:
    """Raises ResultsError unless metrics.jsonl still begins with these rows."""
    if writer.silent:
        return
    size = position(writer).length
    if size >= rows.length and _digest(writer, rows.length).hexdigest() == rows.sha256:
        return
    fault = "changed" if size >= rows.length else "lost rows"
    raise ResultsError(
        f"{writer.folder / 'metrics.jsonl'} has {fault} in the {rows.length} bytes known to stage "
        f"{stage}: restore the file, or delete {writer.folder} to start again"
    )


def rewind(writer: MetricWriter, rows: RowsPrefix, *, stage: str, step: int) -> None:
    """Cuts metrics.jsonl to these rows and hides the events of the stage after `step`.

    Raises:
      ResultsError: the file does not begin with these rows.
    """
    if writer.now["muted"] or writer.silent:
        return
    check_rows(writer, rows, stage)
    os.ftruncate(writer.rows.fileno(), rows.length)
    writer.now["digest"] = _digest(writer, rows.length)
    if not (writer.folder / "tensorboard" / stage).exists():
        return
    _tensorboard().hide_from(_events(writer, stage), step + 1)


def close_writer(writer: MetricWriter) -> None:
    """Flushes and closes every file."""
    with naming_full_disk(writer.folder):
        for events in writer.events.values():
            events.close()
        writer.rows.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of folder/metrics.jsonl, for plots."""
    with open(folder / "metrics.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _digest(writer: MetricWriter, length: int) -> Any:
    """Running SHA-256 of the first `length` bytes of metrics.jsonl."""
    hasher = hashlib.sha256()
    with open(writer.folder / "metrics.jsonl", "rb") as file:
        while length > 0 and (part := file.read(min(length, 1 << 20))):
            hasher.update(part)
            length -= len(part)
    return hasher


def _events(writer: MetricWriter, stage: str) -> Any:
    """The event file of the stage in this session, created on first use."""
    if stage not in writer.events:
        writer.events[stage] = _tensorboard().open_events(writer.folder / "tensorboard" / stage)
    return writer.events[stage]


def _tensorboard() -> Any:
    """`training.events`, which is slow to import."""
    from rlhf_jax.training import events

    return events
