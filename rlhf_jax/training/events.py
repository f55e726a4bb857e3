"""TensorBoard events of one stage.

`training.metrics` imports this module at the first event: tensorboardX imports torch where that is
installed, and the first step need not wait for it.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # ty: ignore  # made at run time
from tensorboardX.summary import scalar


def open_events(folder: Path) -> EventsWriter:
    """A new event file in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    # tensorboardX names files by whole seconds, which two sessions may share.
    suffix = f".{os.getpid()}.{time.monotonic_ns()}"
    # It would take a relative path "gs:x" for a cloud bucket.
    return EventsWriter(str((folder / "events").absolute()), suffix)


def write_scalars(events: EventsWriter, step: int, values: Mapping[str, float | int]) -> None:
    """One event per number."""
    for name, value in values.items():
        events.write_event(Event(summary=scalar(name, value), step=step, wall_time=time.time()))


def hide_from(events: EventsWriter, step: int) -> None:
    """Makes TensorBoard drop the events that it has read from this step on."""
    start = SessionLog(status=SessionLog.START)
    events.write_event(Event(session_log=start, step=step, wall_time=time.time()))
