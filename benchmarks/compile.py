"""From the start of a command to its first update, without and with the cache of programs.

    python -m benchmarks.compile

Each command is a process of its own on a model of two layers and generated rows, and its time ends
when the first row of metrics.jsonl is there: imports, model, data, held-out numbers and one update
are in it. "cold" begins with an empty cache folder, "cached" with the one that it left. Processor
seconds are those of all cores until then: on a busy machine they are the steadier figure. Medians
over the turns. Exit code 3: a goal is missed.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import jax

from benchmarks.measure import Goal

GOALS = {"cold": 15.0, "cached": 5.0}
COMMANDS = ("sft", "dpo")
ROWS = 64
RLHF = "import sys; from rlhf_jax.cli import main; sys.exit(main(sys.argv[1:]))"
SIZES = ("--prompt-length", "32", "--answer-length", "32", "--batch-size", "8")


class Start(NamedTuple):
    """Seconds to the first update, and of the processor; programs of the whole run and their
    seconds.
    """

    seconds: float
    processor: float
    programs: float
    compiling: float


def write_rows(path: Path) -> None:
    """Questions with a right and a wrong answer; `rlhf sft` reads the right one."""
    with path.open("w") as file:
        for i in range(ROWS):
            right, wrong = f" It is {i * i % 97}.", f" It is {i}."
            row = {"prompt": f"What is {i} * {i} mod 97?", "chosen": right, "rejected": wrong}
            file.write(json.dumps(row | {"answer": right}) + "\n")


def environment(cache: Path) -> dict[str, str]:
    """This process's, with another folder for the command's cache."""
    kept = {name: x for name, x in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    return kept | {"XDG_CACHE_HOME": str(cache)}


def start(command: str, folder: Path, cache: Path, out: Path) -> Start:
    """One run of one update."""
    flags = ["--model", str(folder / "model"), "--data", str(folder / "rows.jsonl"), *SIZES]
    words = [sys.executable, "-c", RLHF, command, *flags, "--steps", "1", "--out", str(out)]
    began = time.perf_counter()
    with (folder / "log").open("w") as log:
        child = subprocess.Popen(words, env=environment(cache), stdout=log, stderr=log)
        processor = _until_first_row(out / "metrics.jsonl", child)
        seconds = time.perf_counter() - began
        if child.wait():
            raise RuntimeError(f"{' '.join(words)}\n{(folder / 'log').read_text()[-2000:]}")
    compiled = json.loads((out / "summary.json").read_text())["compiled"]
    return Start(seconds, processor, compiled["programs"], compiled["seconds"])


def _until_first_row(path: Path, child: subprocess.Popen) -> float:
    """Waits until the file has a row, or the process has ended; processor seconds by then."""
    used = math.nan
    while child.poll() is None and not (path.is_file() and path.stat().st_size):
        time.sleep(0.01)
        with suppress(OSError, IndexError):  # no Linux, or the process has just ended
            ticks = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            used = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return used


def importing(cache: Path) -> float:
    """Seconds of a process that does nothing but import what a command imports."""
    code = "import rlhf_jax.cli.main, rlhf_jax.cli.offline, jax; jax.devices()"
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=environment(cache))
    return time.perf_counter() - began


def measured(folder: Path, turns: int) -> dict[str, Start]:
    """Name of a row -> medians over the turns."""
    write_rows(folder / "rows.jsonl")
    size = ["--data", str(folder / "rows.jsonl"), "--layers", "2", "--out", str(folder / "model")]
    made = [sys.executable, "-c", RLHF, "init", *size]
    subprocess.run(made, check=True, env=environment(folder / "init"), stdout=subprocess.DEVNULL)
    found: dict[str, list[Start]] = {}
    for turn in range(turns):
        seconds = importing(folder / "init")
        found.setdefault("imports alone", []).append(Start(seconds, math.nan, 0, 0.0))
        for command in COMMANDS:
            cache = folder / f"cache-{command}-{turn}"
            for kind in ("cold", "cached"):
                out = folder / f"{command}-{kind}-{turn}"
                one = start(command, folder, cache, out)
                found.setdefault(f"{command}, {kind}", []).append(one)
    return {
        name: Start(*map(statistics.median, zip(*each, strict=True)))
        for name, each in found.items()
    }


def main() -> None:
    """The table, and whether the goals hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compile", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--turns", type=int, default=3, help="default 3")
    turns = parser.parse_args().turns
    cores = len(os.sched_getaffinity(0))
    print(f"{jax.default_backend()}, {cores} cores, jax {jax.__version__}, {turns} turns")
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(Path(folder), turns)
    print("               to the first update, s  processor s  programs  getting them, s")
    for name, row in rows.items():
        counts = f"{row.processor:11.1f}  {row.programs:8.0f}  {row.compiling:15.1f}"
        print(f"{name:13}  {row.seconds:22.1f}  {counts if row.programs else ''}".rstrip())
    goals = [
        Goal(name=f"{name}, seconds", value=row.seconds, bound=GOALS[name.split(", ")[1]])
        for name, row in rows.items()
        if ", " in name
    ]
    for goal in goals:
        print(goal)
    sys.exit(0 if all(goal.met for goal in goals) else 3)


if __name__ == "__main__":
    main()
