"""The half of a side: a job that is given turns by the parent over its standard input and output.

    python -m benchmarks.train.<side> FOLDER JOB

A job calls `turn(...)` after each step. It sends what it is given, with the seconds since the last
line came, as one line, and waits for the next: "go", or "roof" for a square matrix product.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.train.sizes import Sizes

MARK = "@turn "  # other lines are the libraries' own


class Work(NamedTuple):
    """folder: of the model, as Hugging Face has it. arrays: from `sizes.draw_arrays`."""

    folder: Path
    sizes: Sizes
    arrays: dict[str, np.ndarray]


Turn = Callable[..., None]
Job = Callable[[Work, Turn], None]


def serve(jobs: dict[str, Job], roof: Callable[[int], float]) -> None:
    """Runs the job of the command line until the parent has had enough.

    Args:
      roof: GFLOP/s of a float32 product of two square matrices of this size.
    """
    folder = Path(sys.argv[1])
    sizes = Sizes(**json.loads((folder / "sizes.json").read_text()))
    work = Work(folder / "model", sizes, dict(np.load(folder / "arrays.npz")))
    began = time.perf_counter()

    def turn(**found: float) -> None:
        nonlocal began
        _send(found | {"seconds": time.perf_counter() - began, "peak": _peak()})
        while (asked := sys.stdin.readline().strip()) == "roof":
            _send({"roof": roof(2048 if sizes.width > 64 else 64)})
        if asked != "go":
            sys.exit(0)
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        began = time.perf_counter()

    jobs[sys.argv[2]](work, turn)


def best_rate(product: Callable[[], object], size: int) -> float:
    """GFLOP/s of the fastest of some calls of a product of two square matrices."""
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - began)
    return 2e-9 * size**3 / min(seconds)


def _send(found: dict[str, float]) -> None:
    print(f"\n{MARK}{json.dumps(found)}", flush=True)


def _peak() -> float:
    """The largest resident memory of this process since it was forgotten, in bytes."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return 1024.0 * int(line.split()[1])
    return float("nan")
