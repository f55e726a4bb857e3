"""What measurements share: turns, medians, memory of the process, goals."""

import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Seconds = dict[str, list[float]]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A bound that a figure has to keep; `at_least` says on which side."""

    name: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """NaN misses."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        verdict = "met" if self.met else "MISSED"
        return f"goal: {self.name} {sign} {self.bound:g}: {self.value:.3g}, {verdict}"


def in_turns(runs: Mapping[str, Callable[[], object]], turns: int) -> Seconds:
    """Seconds of every run in every turn; the order rotates, so that none is always first."""
    seconds: Seconds = {name: [] for name in runs}
    for turn in range(turns):
        order = list(runs)[turn % len(runs) :] + list(runs)[: turn % len(runs)]
        for name in order:
            start = time.perf_counter()
            runs[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: Seconds, name: str, other: str) -> float:
    """How many times as long one takes as the other: the median over turns of the turn's ratio."""
    return statistics.median(a / b for a, b in zip(seconds[name], seconds[other], strict=True))


def fastest(seconds: Seconds, names: list[str]) -> str:
    """The one of the least median."""
    return min(names, key=lambda name: statistics.median(seconds[name]))


def deviations(runs: Mapping[str, Callable[[], np.ndarray]]) -> dict[str, float]:
    """Largest difference of any probability from the first of the runs, on the games of both."""
    policies = {name: run() for name, run in runs.items()}
    want = next(iter(policies.values()))
    return {name: float(np.abs(got - want[: len(got)]).max()) for name, got in policies.items()}


def resident_growth(run: Callable[[], object]) -> float:
    """Bytes by which this process grows, at its peak, while it runs; NaN where it cannot be seen.

    Arrays of megabytes are given back to the system when they are freed, so that a copy of a large
    matrix is seen whatever ran before.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        before = _resident("VmRSS")
        run()
        return float(_resident("VmHWM") - before)
    run()
    return float("nan")


def threads_reading(matrix: np.ndarray, cores: int) -> Callable[[], object]:
    """Every entry is read once, x . x, by a thread per core on its share of the rows."""
    parts = [part.ravel() for part in np.array_split(matrix, cores)]
    pool = ThreadPoolExecutor(cores)
    return lambda: list(pool.map(lambda part: np.dot(part, part), parts))


def _resident(name: str) -> int:
    """Bytes, from the kernel: "VmRSS" now or "VmHWM" at most since it was forgotten."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
