"""Ctrl-C and SIGTERM as a flag, which a run checks between steps and between stages."""

import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import count
from threading import Event, Thread

import jax
from jax.experimental import multihost_utils

Stop = Callable[[], int]  # the signal that asked to stop, or 0

SCREEN = 2  # standard error
NUMBERS = (signal.SIGINT, signal.SIGTERM)
STOPPING = b"\nstopping after this step, or this stage if it has no steps; again to stop now\n"
STOPPED = b"\nstopped without saving; earlier checkpoints and results are kept\n"
GRACE = 2.0  # seconds for Python to end by itself after the second signal


def never() -> int:
    """The stop flag of a run that is never stopped."""
    return 0


@contextmanager
def stop_on_signals() -> Generator[Stop, None, None]:
    """In the block, the first SIGINT or SIGTERM sets the flag; the second stops at once.

    Python handles no signal while compiled code runs. So a thread prints a line at the first
    signal, and ends the process if the second is not handled in time.

    With several processes, SIGTERM to any of them, a notice of preemption, sets the flag of all at
    the same step; the flag must be asked for equally often. Ctrl-C is passed on as SIGTERM.

    Must be entered in the main thread. The previous handlers are restored at the end.
    """
    if jax.process_count() > 1:
        with _stop_together() as stop:
            yield stop
        return
    received: list[int] = []

    def handler(number: int, frame: object) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt(number)

    before = {number: signal.signal(number, handler) for number in NUMBERS}
    heard, bell = os.pipe()
    os.set_blocking(bell, False)
    before_bell = signal.set_wakeup_fd(bell)
    left = Event()
    watcher = Thread(target=_watch, args=(heard, left), daemon=True)
    watcher.start()
    try:
        yield lambda: received[0] if received else 0
    finally:
        signal.set_wakeup_fd(before_bell)
        for number, previous in before.items():
            signal.signal(number, previous)
        left.set()
        os.close(bell)  # ends the watcher's reading
        watcher.join()
        os.close(heard)


@contextmanager
def _stop_together() -> Generator[Stop, None, None]:
    """The flag of several processes. JAX itself handles SIGTERM, and finds the step."""
    asked, received, agreed = count(), [], []

    def handler(number: int, frame: object) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt(number)
        os.write(SCREEN, STOPPING)
        os.kill(os.getpid(), signal.SIGTERM)

    def stop() -> int:
        if not agreed and multihost_utils.reached_preemption_sync_point(next(asked)):
            agreed.append(signal.SIGTERM)
        return agreed[0] if agreed else 0

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _watch(heard: int, left: Event) -> None:
    """Reads signal numbers as they arrive, until the other end of the pipe is closed."""
    count = 0
    while byte := os.read(heard, 1):
        if byte[0] not in NUMBERS:
            continue
        count += 1
        if count == 1:
            os.write(SCREEN, STOPPING)
        elif not left.wait(GRACE):
            os.write(SCREEN, STOPPED)
            os._exit(128 + byte[0])
