"""A thread beside the training of several processes: slow steps, dead and failed processes.

Each process shows signs of life to JAX's coordination service, and process 0 looks at them. There
a failed or dead process is noted under "failure/", where all others see it and end.
"""

import faulthandler
import json
import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import jax

from rlhf_jax.training.errors import Interrupted, LostProcess

POLLS = 30  # looks in each heartbeat; at every POLLS / BEATS-th a sign of life is shown
BEATS = 6
GRACES = 12  # in each heartbeat: the main thread's time to end by itself after another process has
SLOW_SECONDS = 60.0
SLOW_TIMES = 10  # a step is slow that takes so many medians, and longer than any lately
KEPT = 50  # steps of which the median is taken
FEW = 5  # steps without a median


@dataclass
class Watchdog:
    """Of one process. `see` is called before each step; the rest is for `watching`.

    now: stage and step that are under way, and the time they began.
    seconds: of the last steps. beats: process -> its last sign of life and when it was new here.
    """

    client: Any
    index: int
    hosts: Sequence[str]
    heartbeat: float
    slow_seconds: float = SLOW_SECONDS
    now: tuple[str, int, float] = ("", 0, 0.0)
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    reported: tuple[str, int] | None = None
    beats: dict[int, tuple[str, float]] = field(default_factory=dict)
    left: Event = field(default_factory=Event)

    def see(self, stage: str, step: int) -> None:
        """Step number `step` of a stage begins."""
        before, clock = self.now, time.monotonic()
        if before[0] != stage:
            self.seconds.clear()
        elif before[1] + 1 == step:
            self.seconds.append(clock - before[2])
        self.now = (stage, step, clock)

    def rest(self) -> None:
        """No step is under way."""
        self.seconds.clear()
        self.now = ("", self.now[1], 0.0)

    def fail(self, error: BaseException) -> None:
        """Tells the other processes why this one ends.

        Raises:
          LostProcess: it ends because another one did.
        """
        if isinstance(error, Interrupted | LostProcess):
            return
        if _is_lost_connection(error):
            cause = self._cause(2 * self.heartbeat)
            if cause:
                raise LostProcess(cause) from error
        self.left.set()  # the thread would take the others, which end with this one, for the cause
        text = " ".join(str(error).split()) or type(error).__name__
        self.note(self.index, f"{self.name(self.index)} ended: {text:.400}")
        if self.index == 0:  # what it noted is gone with it
            time.sleep(self.heartbeat * (1 / GRACES + 3 / POLLS))

    def name(self, index: int) -> str:
        """Number and host of a process."""
        return f"process {index} ({self.hosts[index]})"

    def note(self, index: int, text: str) -> None:
        """Leaves a failure for all processes to see."""
        try:
            self.client.key_value_set(f"failure/{index:06d}", text, allow_overwrite=True)
        except jax.errors.JaxRuntimeError:  # process 0 is gone, and with it the service
            return

    def failure(self) -> str | None:
        """Why another process has ended; None while none has."""
        try:
            found = self.client.key_value_dir_get("failure/")
        except jax.errors.JaxRuntimeError:
            return f"{self.name(0)} is gone"
        others = [text for key, text in sorted(found) if not key.endswith(f"/{self.index:06d}")]
        return others[0] if others else None

    def beat(self) -> None:
        """Shows a sign of life; process 0 looks for those of the others."""
        stage, step, _ = self.now
        sign = json.dumps([stage, step, time.time()])
        self.client.key_value_set(f"beat/{self.index:06d}", sign, allow_overwrite=True)
        if self.index:
            return
        clock = time.monotonic()
        for key, text in self.client.key_value_dir_get("beat/"):
            process = int(key.rpartition("/")[2])
            if self.beats.get(process, ("", 0.0))[0] != text:
                self.beats[process] = (text, clock)
            elif clock - self.beats[process][1] > self.heartbeat:
                stage, step, _ = json.loads(text)
                where = f" since step {step} of {stage}" if stage else ""
                note = f"{self.name(process)} has not answered for {self.heartbeat:.0f} s{where}"
                self.note(process, note)

    def check_step(self) -> None:
        """Prints a step that takes far longer than the last ones, and the stacks of all threads."""
        stage, step, began = self.now
        if not stage or len(self.seconds) < FEW or self.reported == (stage, step):
            return
        taken, median = time.monotonic() - began, statistics.median(self.seconds)
        if taken < max(self.slow_seconds, SLOW_TIMES * median, 2 * max(self.seconds)):
            return
        self.reported = (stage, step)
        lines = [
            f"{self.name(self.index)}: step {step} of {stage} has taken {taken:.0f} s so far, "
            f"the median is {median:.2g} s",
            *(f"{self.name(i)}: {_spelled(text)}" for i, (text, _) in sorted(self.beats.items())),
        ]
        print("\n".join(lines), file=sys.stderr, flush=True)
        faulthandler.dump_traceback(sys.stderr.fileno(), all_threads=True)

    def _cause(self, seconds: float) -> str | None:
        """Why another process has ended, waited for."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if text := self.failure():
                return _with_remedy(text)
            time.sleep(self.heartbeat / POLLS)
        return None


@contextmanager
def watching(
    client: Any, index: int, hosts: Sequence[str], *, heartbeat: float
) -> Generator[Watchdog, None, None]:
    """A watchdog in a thread, for the block."""
    dog = Watchdog(client, index, hosts, heartbeat)
    thread = Thread(target=_watch, args=(dog,), name="watchdog", daemon=True)
    thread.start()
    try:
        yield dog
    finally:
        dog.left.set()
        thread.join()


def _watch(dog: Watchdog) -> None:
    """Looks now and then; ends the process if another has ended and the main thread hangs."""
    looks = 0
    while not dog.left.wait(dog.heartbeat / POLLS):
        cause = dog.failure()
        if cause is None and looks % (POLLS // BEATS) == 0:
            try:
                dog.beat()
            except jax.errors.JaxRuntimeError:
                cause = f"{dog.name(0)} is gone"
        if cause is not None:
            if not dog.left.wait(dog.heartbeat / GRACES):
                print(f"error: {_with_remedy(cause)}", file=sys.stderr, flush=True)
                os._exit(LostProcess.exit_code)
            return
        dog.check_step()
        looks += 1


def _is_lost_connection(error: BaseException) -> bool:
    """Whether arrays of several processes could not be computed: JAX's error, or Gloo's."""
    return isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error)


def _with_remedy(text: str) -> str:
    return f"{text}: start all processes again, with --resume to go on from the last checkpoint"


def _spelled(beat: str) -> str:
    stage, step, _ = json.loads(beat)
    return f"step {step} of {stage}" if stage else "between steps"
