"""The processes of the sides, and their turns."""

import json
import os
import statistics
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from benchmarks.measure import Seconds, in_turns
from benchmarks.sample.child import MARK
from benchmarks.sample.sizes import Sizes
from benchmarks.shapes import library_config
from rlhf_jax.hf import Pretrained, save_model
from rlhf_jax.models import make_transformer

ROOT = Path(__file__).parents[2]
WARM = 2  # calls before the first that counts


class Side(NamedTuple):
    """A library: its interpreter and the module of its half."""

    name: str
    python: str
    module: str


class Timed(NamedTuple):
    """Turns of one case. seconds: of every side; processor: medians. tokens: of a call."""

    seconds: Seconds
    processor: dict[str, float]
    tokens: dict[str, int]


def write_work(folder: Path, sizes: Sizes) -> int:
    """Model and sizes for every side; the bytes of the parameters.

    Random weights everywhere: a new model has zeros in the last projections of its layers, and its
    answers would not depend on them.
    """
    positions = 2 * (sizes.prompt + sizes.answer)
    config = library_config(sizes, max_positions=positions)
    rng = np.random.default_rng(1)
    fresh = make_transformer(config).init(jax.random.key(0))
    params = jax.tree.map(lambda x: x + 0.03 * rng.standard_normal(x.shape, np.float32), fresh)
    save_model(folder / "model", Pretrained(config, params, None))
    (folder / "sizes.json").write_text(json.dumps(asdict(sizes)))
    return sum(x.nbytes for x in jax.tree.leaves(params))


class Child:
    """A side's process; idle threads sleep, so that they take nothing from the others."""

    def __init__(self, side: Side, folder: Path):
        quiet = {"JAX_PLATFORMS": "cpu", "OMP_WAIT_POLICY": "passive", "PYTHONPATH": str(ROOT)}
        self.module, self.log = side.module, folder / f"{side.module}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [side.python, "-m", side.module, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env=os.environ | quiet,
            )

    def call(self, case: str) -> dict:
        """One call of this case.

        Raises:
          RuntimeError: the process ended; with the last lines of its log.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{case}\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        raise RuntimeError(f"{self.module} ended:\n{self.log.read_text()[-2000:]}")


def time_case(
    children: dict[str, Child],
    case: str,
    turns: int,
    more: Mapping[str, Callable[[], object]],
) -> Timed:
    """Warm calls, the first greedy tokens compared, then turns; `more` is timed here, in turn.

    Raises:
      RuntimeError: two sides say different tokens.
    """
    warm = {name: [child.call(case) for _ in range(WARM)] for name, child in children.items()}
    if case.startswith("greedy"):
        first = {name: calls[-1]["first"] for name, calls in warm.items()}
        if len({tuple(ids) for ids in first.values()}) > 1:
            raise RuntimeError(f"{case}: the sides say different tokens: {first}")
    found: dict[str, list[dict]] = {name: [] for name in children}

    def call(name: str) -> Callable[[], object]:
        return lambda: found[name].append(children[name].call(case))

    seconds = in_turns({name: call(name) for name in children} | dict(more), turns)
    seconds |= {name: [each["seconds"] for each in calls] for name, calls in found.items()}
    processor = {
        name: statistics.median(each["processor"] for each in calls)
        for name, calls in found.items()
    }
    return Timed(seconds, processor, {name: calls[0]["tokens"] for name, calls in found.items()})
