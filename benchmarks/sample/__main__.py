"""Cached decoding against `transformers.generate` and Tunix's sampler.

    python -m benchmarks.sample

A Qwen2 of 9.0M parameters in float32, prompts of 64 tokens and answers of 128, greedy and sampled,
batches of 1 and 32. Each side is a process of its own with the same weights and prompts, and they
take turns; the first greedy tokens must be the same. "read" is the share of the read bandwidth, by
a thread per core on as many bytes as the parameters have, in the same turns; "roof" the share of a
square matrix product's rate. Processor seconds are those of all cores. The last two rows are this
library's on answers of very different lengths, about 32 tokens on average. Exit code 3: a goal is
missed.
"""

import argparse
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import Goal, ratio, threads_reading
from benchmarks.sample.sides import Child, Side, Timed, time_case, write_work
from benchmarks.sample.sizes import Sizes, quick
from benchmarks.shapes import library_config
from rlhf_jax.plan.flops import TokenRows, forward_flops

TRANSFORMERS = "pip install 'rlhf-jax[parity]'"
TUNIX = (
    "pip install -c benchmarks/parity/tunix-constraints.txt google-tunix, in its own environment"
)
READ, TIMES, READS = 0.8, 2.5, 16
OURS = "rlhf_jax"


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sample", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--transformers-python", help=f"interpreter with it: {TRANSFORMERS}")
    parser.add_argument("--tunix-python", help=f"interpreter with Tunix: {TUNIX}")
    parser.add_argument("--turns", type=int, default=7, help="default 7")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the times mean nothing")
    options = parser.parse_args()
    here = sys.executable if importlib.util.find_spec("torch") else None
    for name, default in (("transformers", here), ("tunix", None)):
        variable = f"RLHF_JAX_{name.upper()}_PYTHON"
        given = getattr(options, f"{name}_python") or os.environ.get(variable) or default
        setattr(options, f"{name}_python", given)
    return options


def sides_of(options: argparse.Namespace) -> list[Side]:
    """This library, and the peers that have an interpreter."""
    found = [Side(OURS, sys.executable, "benchmarks.sample.library")]
    for name, how in (("transformers", TRANSFORMERS), ("tunix", TUNIX)):
        python = getattr(options, f"{name}_python")
        if python:
            found.append(Side(name, python, f"benchmarks.sample.{name}_side"))
        else:
            print(f"{name} is left out: --{name}-python INTERPRETER ({how})")
    return found


def square_product(size: int) -> float:
    """GFLOP/s of the fastest of some products of two square matrices."""
    x = jnp.ones((size, size))
    product, seconds = jax.jit(jnp.matmul), []
    for _ in range(6):
        began = time.perf_counter()
        product(x, x).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2e-9 * size**3 / min(seconds)


def print_case(case: str, timed: Timed, sizes: Sizes, peak: float) -> dict[str, float]:
    """A row per side; the share of the read bandwidth of each. peak: GFLOP/s."""
    shares = {}
    for name, tokens in timed.tokens.items():
        seconds = timed.seconds[name]
        median = statistics.median(seconds)
        # Each step of the loop reads all parameters, whatever the batch.
        steps = zip(seconds, timed.seconds["read"], strict=True)
        shares[name] = statistics.median(sizes.answer * read / READS / each for each, read in steps)
        batch = sizes.cases()[case].batch
        length = sizes.prompt + sizes.answer
        flops = forward_flops(
            library_config(sizes, max_positions=2 * length), TokenRows(batch, length, sizes.answer)
        )
        print(
            f"{case:17} {name:12} {median:7.3f} {tokens / median:9.0f} {timed.processor[name]:9.2f}"
            f" {shares[name]:5.0%} {flops / median / 1e9 / peak:5.0%}"
            f" {ratio(timed.seconds, name, OURS):6.2f}",
            flush=True,
        )
    return shares


def print_queue(found: dict[str, Timed]) -> None:
    """This library's rows of the long-tailed batch."""
    for case, timed in found.items():
        seconds = statistics.median(timed.seconds[OURS])
        tokens = timed.tokens[OURS]
        print(
            f"{case:24} {tokens:6} tokens {seconds:7.3f} s {tokens / seconds:8.0f} tokens/s"
            f" {timed.processor[OURS]:8.2f} processor s"
        )


def goals_of(case: str, timed: Timed, share: float, sizes: Sizes) -> list[Goal]:
    """What this case has to reach, as far as its peers are there."""
    goals = []
    if case == "greedy, batch 1":
        name = f"{case}, share of the read bandwidth"
        goals.append(Goal(name=name, value=share, bound=READ, at_least=True))
    peers = {"tunix": 1.0} if sizes.cases()[case].batch == 1 else {"transformers": TIMES}
    for peer, bound in peers.items():
        if peer in timed.tokens:
            value = ratio(timed.seconds, peer, OURS)
            goals.append(
                Goal(name=f"{case}, times {peer}", value=value, bound=bound, at_least=True)
            )
    return goals


def measure(children: dict[str, Child], sizes: Sizes, size: int, turns: int) -> list[Goal]:
    """All cases; size: bytes of the parameters."""
    cores = len(os.sched_getaffinity(0))
    read = threads_reading(np.ones((1024, -(-size // 4096)), np.float32), cores)
    reads = {"read": lambda: [read() for _ in range(READS)]}
    peak, square = 0.0, 2048 if sizes.width > 64 else 64
    print("case              side               s  tokens/s  processor  read  roof  ratio")
    goals, bandwidths = [], []
    for case in sizes.cases():
        timed = time_case(children, case, turns, reads)
        peak = max(peak, square_product(square))
        share = print_case(case, timed, sizes, peak)[OURS]
        bandwidths += [READS * size / 1e9 / each for each in timed.seconds["read"]]
        goals += goals_of(case, timed, share, sizes)
    bandwidth = statistics.median(bandwidths)
    print(f"read bandwidth {bandwidth:.1f} GB/s of {size / 1e6:.1f} MB, roof {peak:.0f} GFLOP/s")
    ours = {OURS: children[OURS]}
    print_queue({case: time_case(ours, case, turns, {}) for case in sizes.queues()})
    return goals


def main() -> None:
    """The table, and whether the goals hold."""
    options = parsed()
    sizes = quick() if options.quick else Sizes()
    cores = len(os.sched_getaffinity(0))
    print(f"float32, cpu, {cores} cores, jax {jax.__version__}, {options.turns} turns")
    with tempfile.TemporaryDirectory() as folder:
        size = write_work(Path(folder), sizes)
        children = {side.name: Child(side, Path(folder)) for side in sides_of(options)}
        try:
            goals = measure(children, sizes, size, options.turns)
        finally:
            for child in children.values():
                child.process.communicate()
    for goal in goals:
        print(goal)
    sys.exit(0 if all(goal.met for goal in goals) else 3)


if __name__ == "__main__":
    main()
