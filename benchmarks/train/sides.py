"""The processes of the sides, and their turns."""

import json
import os
import statistics
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.shapes import library_config
from benchmarks.train.child import MARK
from benchmarks.train.sizes import Sizes, draw_arrays
from rlhf_jax.hf import Pretrained, save_model
from rlhf_jax.models import make_transformer

COMPARED = 3  # first steps, the losses of which have to agree
AGREE = 1e-4  # relative to 1 + |loss|
ROOT = Path(__file__).parents[2]


class Side(NamedTuple):
    """A library: its interpreter and the module of its half."""

    name: str
    python: str
    module: str


class Measured(NamedTuple):
    """A side's figures of a job: medians over the turns, and the largest peak.

    sample: seconds of `seconds` in which answers were drawn; NaN where it is not known.
    """

    losses: list[float]
    seconds: float
    peak: float
    roof: float
    sample: float = float("nan")


def write_work(folder: Path, sizes: Sizes) -> None:
    """The model, the tokens and the sizes, for every side."""
    config = library_config(sizes, max_positions=512)
    params = make_transformer(config).init(jax.random.key(0))
    save_model(folder / "model", Pretrained(config, params, None))
    np.savez(folder / "arrays.npz", allow_pickle=False, **draw_arrays(sizes))
    (folder / "sizes.json").write_text(json.dumps(asdict(sizes)))


def in_turns(sides: list[Side], job: str, folder: Path, turns: int) -> dict[str, Measured]:
    """All sides of a job at once, but only one of them at work at a time."""
    playing = {side.name: _start(side, job, folder) for side in sides}
    try:
        compared = COMPARED if job != "ppo" else 1
        losses = {
            name: [_turn(child, first=i == 0).get("loss", 0.0) for i in range(compared)]
            for name, child in playing.items()
        }
        # One step more: iterations compile after the compared steps, and Tunix in its second step.
        for child in playing.values():
            _turn(child)
        roofs = {name: _ask(child, "roof")["roof"] for name, child in playing.items()}
        found: dict[str, list[dict[str, float]]] = {name: [] for name in playing}
        for turn in range(turns):
            names = list(playing)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                found[name].append(_turn(playing[name]))
            roofs = {name: max(x, _ask(playing[name], "roof")["roof"]) for name, x in roofs.items()}
    finally:
        for child in playing.values():
            child.communicate()
    return {name: _medians(losses[name], rows, roofs[name]) for name, rows in found.items()}


def _medians(losses: list[float], rows: list[dict[str, float]], roof: float) -> Measured:
    seconds, sample = (
        statistics.median(row.get(name, float("nan")) for row in rows)
        for name in ("seconds", "sample")
    )
    return Measured(losses, seconds, max(row["peak"] for row in rows), roof, sample)


def _start(side: Side, job: str, folder: Path) -> subprocess.Popen[str]:
    """A side's process; idle threads sleep, so that they take nothing from the others."""
    quiet = {"JAX_PLATFORMS": "cpu", "OMP_WAIT_POLICY": "passive", "PYTHONPATH": str(ROOT)}
    line = [side.python, "-m", side.module, str(folder), job]
    with (folder / f"{side.module}-{job}.log").open("w") as log:
        return subprocess.Popen(
            line,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
            env=os.environ | quiet,
        )


def _turn(child: subprocess.Popen[str], first: bool = False) -> dict[str, float]:
    """One step; the first begins by itself."""
    return _read(child) if first else _ask(child, "go")


def _ask(child: subprocess.Popen[str], word: str) -> dict[str, float]:
    assert child.stdin is not None
    child.stdin.write(f"{word}\n")
    child.stdin.flush()
    return _read(child)


def _read(child: subprocess.Popen[str]) -> dict[str, float]:
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith(MARK):
            return json.loads(line.removeprefix(MARK))
    child.wait()
    line: Any = child.args
    module, folder, job = line[-3:]
    log = (Path(folder) / f"{module}-{job}.log").read_text()
    raise RuntimeError(f"{module} {job} ended:\n{log[-2000:]}")


def disagreement(found: dict[str, Measured]) -> float:
    """The largest difference of a compared loss from the first side's, relative to 1 + |loss|."""
    first, *others = (np.array(each.losses) for each in found.values())
    gaps = [np.max(np.abs(other - first) / (1 + np.abs(first))) for other in others]
    return float(max(gaps, default=0.0))
