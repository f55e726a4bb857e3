"""What training measured: `metrics.jsonl` and TensorBoard events, kept identical across resumes.

A row of metrics.jsonl is `{"stage": ..., "step": ..., <name>: <number or null>}`. It holds no
time of day and no duration, so that an interrupted and resumed run ends with the same file, byte
for byte, as one that never stopped. A checkpoint remembers the file's length when it was made;
resuming cuts the file there before anything is added.
"""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # ty: ignore  # made at run time
from tensorboardX.summary import scalar

from rlhf_jax.training.errors import ResultsError, naming_full_disk

RESERVED = ("stage", "step")


@dataclass(frozen=True)
class MetricWriter:
    """An open metrics file and its TensorBoard folder, with one event file for each stage."""

    folder: Path
    rows: BinaryIO
    events: dict[str, EventsWriter] = field(default_factory=dict)


def open_writer(folder: Path) -> MetricWriter:
    """Opens folder/metrics.jsonl for appending and folder/tensorboard for events."""
    with naming_full_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return MetricWriter(folder, open(folder / "metrics.jsonl", "ab"))


def write_metrics(
    writer: MetricWriter, stage: str, rows: Sequence[tuple[int, Mapping[str, Any]]]
) -> None:
    """Appends rows (step, metrics) of a stage, in order.

    A metric is a scalar, or a pair (total, weight) written as total / weight, so that micro-batches
    and shards average rightly. Numbers that are not finite, and means of nothing, become null.

    Raises:
      DiskFullError: there is no space left for the rows.
    """
    with naming_full_disk(writer.folder):
        for step, metrics in rows:
            values = {name: as_number(value) for name, value in metrics.items()}
            clash = [name for name in RESERVED if name in values]
            if clash:
                raise ValueError(f"a metric of stage {stage} is called {clash[0]!r}: rename it")
            row = {"stage": stage, "step": step} | {
                name: value if math.isfinite(value) else None for name, value in values.items()
            }
            writer.rows.write((json.dumps(row, allow_nan=False) + "\n").encode())
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


def position(writer: MetricWriter) -> int:
    """The length of metrics.jsonl in bytes, once everything written is out of this process."""
    with naming_full_disk(writer.folder):
        writer.rows.flush()
        for events in writer.events.values():
            events.flush()
    return os.fstat(writer.rows.fileno()).st_size


def rewind(writer: MetricWriter, length: int, *, stage: str, step: int) -> None:
    """Cuts metrics.jsonl to `length` bytes and hides the stage's events after `step`.

    Raises:
      ResultsError: the file is shorter than that, so rows were lost.
    """
    size = position(writer)
    if size < length:
        raise ResultsError(
            f"{writer.folder / 'metrics.jsonl'} has lost rows ({size} bytes, at least {length} "
            "were written): restore the file, or delete the folder to start again"
        )
    os.ftruncate(writer.rows.fileno(), length)
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
