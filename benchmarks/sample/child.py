"""The half of a side: it makes the calls that its parent asks for.

    python -m benchmarks.sample.<side> FOLDER

A line of standard input names a case, and one line of output tells its time and its first answer.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.sample.sizes import Case, Sizes

MARK = "@call "  # other lines are the libraries' own
Call = Callable[[], list[np.ndarray]]  # the answers, an array of ids each


def serve(open_side: Callable[[Path, Sizes], Callable[[Case], Call]]) -> None:
    """Answers calls until the input ends.

    Args:
      open_side: `(folder of the model, sizes) -> (case -> call)`.
    """
    folder = Path(sys.argv[1])
    sizes = Sizes(**json.loads((folder / "sizes.json").read_text()))
    make, cases = open_side(folder / "model", sizes), sizes.cases() | sizes.queues()
    calls: dict[str, Call] = {}
    for line in sys.stdin:
        name = line.strip()
        calls[name] = calls.get(name) or make(cases[name])
        wall, processor = time.perf_counter(), time.process_time()
        answers = calls[name]()
        found = {
            "seconds": time.perf_counter() - wall,
            "processor": time.process_time() - processor,
            "tokens": sum(len(answer) for answer in answers),
            "first": answers[0][:8].tolist(),
        }
        print(f"\n{MARK}{json.dumps(found)}", flush=True)
