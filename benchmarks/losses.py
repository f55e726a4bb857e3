"""Memory and time of log-probabilities from hidden states: dense, chunked, checkpointed.

    python -m benchmarks.losses

Value and gradient of the mean log-probability, to hidden states and unembedding, on the default
device. Times are taken in turns within one run; a ratio is the median over the turns of the ratio
within a turn. Exit code 3: a goal is missed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.ops.chunked import chunked_token_logps
from rlhf_jax.ops.logprobs import token_logps

MEMORY_GOAL, TIME_GOAL = 0.25, 1.15  # of the dense form
FORMS = ("dense", "chunked", "checkpointed")


def dense(hidden: jax.Array, table: jax.Array, actions: jax.Array) -> jax.Array:
    """All logits at once."""
    logits = jnp.einsum("...d,vd->...v", hidden, table, preferred_element_type=jnp.float32)
    return token_logps(logits, actions)


def checkpointed(hidden: jax.Array, table: jax.Array, actions: jax.Array, *, chunk: int):
    """The dense form on one chunk of T after another, each redone in the backward pass."""

    def split(x):
        return jnp.moveaxis(x.reshape(x.shape[0], -1, chunk, *x.shape[2:]), 1, 0)

    one = jax.checkpoint(lambda part: dense(part[0], table, part[1]), prevent_cse=False)
    logps = jax.lax.map(one, (split(hidden), split(actions)))
    return jnp.moveaxis(logps, 0, 1).reshape(actions.shape)


def compiled(form: str, options: argparse.Namespace):
    """Value and gradient of the mean log-prob, compiled for the sizes."""
    of: Callable = {
        "dense": dense,
        "chunked": partial(chunked_token_logps, chunk=options.chunk),
        "checkpointed": partial(checkpointed, chunk=options.chunk),
    }[form]

    def mean(hidden, table, actions):
        return jnp.mean(of(hidden, table, actions))

    run = jax.jit(jax.value_and_grad(mean, argnums=(0, 1)))
    return run.lower(*inputs(options)).compile()


def inputs(options: argparse.Namespace) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Hidden states of scale 1 and a table that gives logits of scale 1."""
    rng = np.random.default_rng(0)
    rows = options.batch, options.length
    hidden = rng.standard_normal((*rows, options.width), np.float32)
    table = rng.standard_normal((options.vocab, options.width), np.float32)
    actions = rng.integers(0, options.vocab, rows).astype(np.int32)
    table *= options.width**-0.5
    return jnp.asarray(hidden), jnp.asarray(table), jnp.asarray(actions)


def resident(name: str) -> int:
    """Bytes, from the kernel: "VmRSS" now or "VmHWM" at most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def measure_resident(form: str, options: argparse.Namespace) -> None:
    """In a child: prints by how much one run raises the memory of this process.

    It can be less than the compiler's figure: what compiling left free in the process is used up
    first.
    """
    run, arrays = compiled(form, options), inputs(options)
    jax.block_until_ready(arrays)
    with suppress(OSError):  # the peak so far is that of compiling: forget it where allowed
        Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    jax.block_until_ready(run(*arrays))
    print(json.dumps(resident("VmHWM") - before))


def resident_growth(form: str) -> int:
    """`measure_resident` in a process of its own, with this command's options."""
    command = [sys.executable, "-m", "benchmarks.losses", *sys.argv[1:], "--child", form]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(json.loads(done.stdout.splitlines()[-1]))


def timed(runs: dict, arrays: tuple, repeats: int) -> dict[str, list[float]]:
    """Seconds of every form in every turn; the order rotates, so that no form is always first."""
    seconds: dict[str, list[float]] = {form: [] for form in runs}
    for run in runs.values():
        jax.block_until_ready(run(*arrays))
    for turn in range(repeats):
        order = list(runs)[turn % len(runs) :] + list(runs)[: turn % len(runs)]
        for form in order:
            start = time.perf_counter()
            jax.block_until_ready(runs[form](*arrays))
            seconds[form].append(time.perf_counter() - start)
    return seconds


def deviation(got: tuple, want: tuple) -> float:
    """Largest difference of any entry, relative to the largest entry of its array."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    return max(float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))) for a, b in pairs)


def report(rows: dict[str, dict], options: argparse.Namespace) -> bool:
    """Prints the table and the goals; False where one is missed."""
    device, cores = jax.devices()[0], len(os.sched_getaffinity(0))
    where = f"{device.platform}, {cores} cores" if device.platform == "cpu" else device.device_kind
    print(
        f"B={options.batch} T={options.length} V={options.vocab} d={options.width} float32, "
        f"chunk {options.chunk}, {where}, jax {jax.__version__}, {options.repeats} turns"
    )
    print("form          temp MB  ratio  resident MB  ratio  median s  ratio  deviation")
    for form, row in rows.items():
        grown = f"{'-':>11}  {'-':>5}"
        if "resident" in row:
            grown = f"{row['resident'] / 1e6:11.0f}  {row['resident ratio']:5.2f}"
        print(
            f"{form:12}  {row['temp'] / 1e6:7.0f}  {row['temp ratio']:5.2f}  {grown}  "
            f"{row['seconds']:8.2f}  {row['seconds ratio']:5.2f}  {row['deviation']:9.1e}"
        )
    goals = {"temp": MEMORY_GOAL, "resident": MEMORY_GOAL, "seconds": TIME_GOAL}
    met = True
    for name, goal in goals.items():
        if f"{name} ratio" in rows["chunked"]:
            ratio = rows["chunked"][f"{name} ratio"]
            met &= ratio <= goal
            verdict = "met" if ratio <= goal else "MISSED"
            print(f"goal: {name} of chunked <= {goal} of dense: {ratio:.3f}, {verdict}")
    return met


def compare(options: argparse.Namespace) -> dict[str, dict]:
    """One row per form, with ratios to the dense one."""
    arrays = inputs(options)
    runs = {form: compiled(form, options) for form in FORMS}
    want = runs["dense"](*arrays)
    rows: dict[str, dict] = {}
    for form, run in runs.items():
        rows[form] = {"temp": run.memory_analysis().temp_size_in_bytes}
        rows[form]["deviation"] = deviation(run(*arrays), want)
        if jax.default_backend() == "cpu" and sys.platform == "linux":
            rows[form]["resident"] = resident_growth(form)
    seconds = timed(runs, arrays, options.repeats)
    for form, row in rows.items():
        row["seconds"] = statistics.median(seconds[form])
        pairs = zip(seconds[form], seconds["dense"], strict=True)
        row["seconds ratio"] = statistics.median(a / b for a, b in pairs)
        for name in row.keys() & {"temp", "resident"}:
            row[f"{name} ratio"] = row[name] / rows["dense"][name]
    return rows


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.losses", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    sizes = {"batch": 8, "length": 512, "vocab": 32_000, "width": 512, "chunk": 64, "repeats": 9}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--child", choices=FORMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.length % options.chunk:
        parser.error("the checkpointed form needs a length that the chunk divides")
    return options


def main() -> None:
    """One command: the table, and whether the goals hold."""
    options = parsed()
    if options.child:
        measure_resident(options.child, options)
        return
    sys.exit(0 if report(compare(options), options) else 3)


if __name__ == "__main__":
    main()
