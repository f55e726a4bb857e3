"""Ctrl-C and SIGTERM as a flag that the loop reads between two steps."""

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager

Stop = Callable[[], int]  # the signal that asked to stop, or 0


def never() -> int:
    """The stop flag of a run that nobody stops."""
    return 0


@contextmanager
def stop_on_signals() -> Generator[Stop, None, None]:
    """Within the block the first SIGINT or SIGTERM only raises the flag; the second ends at once.

    Must be entered in the main thread. The handlers found on entry are put back on leaving.
    """
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handler(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    for number in before:
        signal.signal(number, handler)
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
