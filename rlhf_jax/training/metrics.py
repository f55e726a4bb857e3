"""What training measured: `metrics.jsonl` and TensorBoard events, kept identical across resumes.

A row of metrics.jsonl is `{"stage": ..., "step": ..., <name>: <number or null>}`. It holds no
time of day and no duration, so that an interrupted and resumed run ends with the same file, byte
for byte, as one that never stopped. A checkpoint remembers the file's length and digest when it was
made; resuming compares them and cuts the file there before anything is added.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # ty: ignore  # made at run time
from tensorboardX.summary import scalar

from rlhf_jax.training.errors import ResultsError, naming_full_disk

RESERVED = ("stage", "step")


class Rows(NamedTuple):
    """The beginning of a metrics.jsonl: its length in bytes and its SHA-256."""

    length: int = 0
    sha256: str = hashlib.sha256().hexdigest()


@dataclass(frozen=True)
class MetricWriter:
    """An open metrics file and its TensorBoard folder, with one event file for each stage.

    now: "digest", the running SHA-256 of the file; "muted", whether nothing is to be written.
    """

    folder: Path
    rows: BinaryIO
    events: dict[str, EventsWriter] = field(default_factory=dict)
    now: dict[str, Any] = field(
        default_factory=lambda: {"digest": hashlib.sha256(), "muted": False}
    )


def open_writer(folder: Path) -> MetricWriter:
    """Opens folder/metrics.jsonl for appending and folder/tensorboard for events."""
    with naming_full_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        writer = MetricWriter(folder, path.open("ab"))
        writer.now["digest"] = _digest(writer, path.stat().st_size)
        return writer


def write_metrics(
    writer: MetricWriter, stage: str, rows: Sequence[tuple[int, Mapping[str, Any]]]
) -> None:
    """Appends rows (step, metrics) of a stage, in order.

    A metric is a scalar, or a pair (total, weight) written as total / weight, so that micro-batches
    and shards average rightly. Numbers that are not finite, and means of nothing, become null.

    Raises:
      DiskFullError: there is no space left for the rows.
    """
    if writer.now["muted"]:
        return
    with naming_full_disk(writer.folder):
        for step, metrics in rows:
            values = {name: as_number(value) for name, value in metrics.items()}
            clash = [name for name in RESERVED if name in values]
            if clash:
                raise ValueError(f"a metric of stage {stage} is called {clash[0]!r}: rename it")
            row = {"stage": stage, "step": step} | {
                name: value if math.isfinite(value) else None for name, value in values.items()
            }
            line = (json.dumps(row, allow_nan=False) + "\n").encode()
            writer.rows.write(line)
            writer.now["digest"].update(line)
            _write_event(writer, stage, step, values)


def as_number(value: Any) -> float | int:
    """A metric as a Python number: a pair is divided, float32 takes its shortest decimal form."""
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
    """Within the block nothing is written or cut: the rows are there, and others after them."""
    writer.now["muted"] = mute
    try:
        yield
    finally:
        writer.now["muted"] = False


def position(writer: MetricWriter) -> Rows:
    """All of metrics.jsonl, once everything written is out of this process."""
    with naming_full_disk(writer.folder):
        writer.rows.flush()
        for events in writer.events.values():
            events.flush()
    return Rows(os.fstat(writer.rows.fileno()).st_size, writer.now["digest"].hexdigest())


def check_rows(writer: MetricWriter, rows: Rows, stage: str) -> None:
    """Raises ResultsError unless metrics.jsonl begins with the rows it had then in a stage."""
    size = position(writer).length
    if size >= rows.length and _digest(writer, rows.length).hexdigest() == rows.sha256:
        return
    fault = "changed" if size >= rows.length else "lost rows"
    raise ResultsError(
        f"{writer.folder / 'metrics.jsonl'} has {fault} in the {rows.length} bytes known to stage "
        f"{stage}: restore the file, or delete {writer.folder} to start again"
    )


def rewind(writer: MetricWriter, rows: Rows, *, stage: str, step: int) -> None:
    """Cuts metrics.jsonl to the rows it had then and hides the stage's events after `step`.

    Raises:
      ResultsError: the file has not kept those rows.
    """
    if writer.now["muted"]:
        return
    check_rows(writer, rows, stage)
    os.ftruncate(writer.rows.fileno(), rows.length)
    writer.now["digest"] = _digest(writer, rows.length)
    if not (writer.folder / "tensorboard" / stage).exists():
        return
    start = Event(
        session_log=SessionLog(status=SessionLog.START), step=step + 1, wall_time=time.time()
    )
    _events(writer, stage).write_event(start)  # TensorBoard drops earlier events from this step on


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
    """SHA-256, to go on with, of the first bytes of metrics.jsonl."""
    hasher = hashlib.sha256()
    with open(writer.folder / "metrics.jsonl", "rb") as file:
        while length > 0 and (part := file.read(min(length, 1 << 20))):
            hasher.update(part)
            length -= len(part)
    return hasher


def _write_event(
    writer: MetricWriter, stage: str, step: int, values: Mapping[str, float | int]
) -> None:
    events = _events(writer, stage)
    for name, value in values.items():
        summary = scalar(name, value)
        events.write_event(Event(summary=summary, step=step, wall_time=time.time()))


def _events(writer: MetricWriter, stage: str) -> EventsWriter:
    """The stage's event file of this session, made on first use."""
    if stage not in writer.events:
        folder = writer.folder / "tensorboard" / stage
        folder.mkdir(parents=True, exist_ok=True)
        suffix = f".{os.getpid()}.{time.monotonic_ns()}"  # the library's own name has whole seconds
        path = (folder / "events").absolute()  # a relative "gs:x" would be sent to a cloud
        writer.events[stage] = EventsWriter(str(path), suffix)
    return writer.events[stage]
