"""Training steps against TRL and Tunix, on the same weights and tokens.

    python -m benchmarks.train

A Qwen2 of 9.0M parameters in float32 with AdamW: a DPO step of 32 pairs and an SFT step of 64 rows
of 128 tokens, and iterations of GRPO and PPO, 8 answers of 64 tokens to each of 8 prompts of 64.
Each side is a process of its own, and they take turns. Losses of the first three steps are compared
before anything is timed, GRPO's on given answers. "roof" is the share of the best square product
that any side measured in the run; "peak" is the resident memory of a side's process in a step.
Exit code 3: a goal is missed.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import jax

from benchmarks.measure import Goal
from benchmarks.train.sides import AGREE, Measured, Side, disagreement, in_turns, write_work
from benchmarks.train.sizes import Sizes, quick

PEERS = {"TRL": "trl", "Tunix": "tunix"}
TRL = "pip install 'rlhf-jax[parity]'"
TUNIX = (
    "pip install -c benchmarks/parity/tunix-constraints.txt google-tunix, in its own environment"
)
JOBS = {"dpo": ("TRL", "Tunix"), "sft": ("TRL", "Tunix"), "grpo": ("TRL",), "ppo": ()}
ROOF, GRPO, PPO = 0.58, 1.8, 400.0


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--trl-python", help=f"interpreter with TRL: {TRL}")
    parser.add_argument("--tunix-python", help=f"interpreter with Tunix: {TUNIX}")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--turns", type=int, default=5, help="default 5")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the times mean nothing")
    options = parser.parse_args()
    for name, variable in (("trl", "TRL"), ("tunix", "TUNIX")):
        found = getattr(options, f"{name}_python") or os.environ.get(f"RLHF_JAX_{variable}_PYTHON")
        setattr(options, f"{name}_python", found)
    return options


def sides_of(job: str, options: argparse.Namespace) -> list[Side]:
    """This library, and the peers that have the job and an interpreter."""
    found = [Side("rlhf_jax", sys.executable, "benchmarks.train.library")]
    for name in JOBS[job]:
        python = getattr(options, f"{PEERS[name]}_python")
        if python:
            found.append(Side(name, python, f"benchmarks.train.{PEERS[name]}_side"))
    return found


def report(job: str, sizes: Sizes, found: dict[str, Measured], best: float) -> list[Goal]:
    """Prints the rows of a job; its goals."""
    ours, tokens = found["rlhf_jax"], sizes.tokens[job]
    rates = {name: tokens / each.seconds for name, each in found.items()}
    for name, each in found.items():
        share = f"{sizes.flops / each.seconds / 1e9 / best:5.0%}" if job in ("dpo", "sft") else ""
        drawn = f"sample {each.sample:.2f} s" if each.sample == each.sample else ""
        print(
            f"{job:5} {name:9} {each.seconds:7.2f} {rates[name]:9.0f} {share:>5} "
            f"{each.peak / 1e9:8.2f} {each.seconds / ours.seconds:6.2f}  {drawn}".rstrip()
        )
    gap = Goal(name=f"{job}, losses apart", value=disagreement(found), bound=AGREE)
    return [gap, *_goals(job, found, rates, sizes.flops / ours.seconds / 1e9 / best)]


def _goals(
    job: str, found: dict[str, Measured], rates: dict[str, float], share: float
) -> list[Goal]:
    """What this job has to reach, as far as its peers are there."""
    ours = found["rlhf_jax"]
    if job == "ppo":
        rate = rates["rlhf_jax"]
        return [Goal(name="ppo, tokens/s", value=rate, bound=PPO, at_least=True)]
    if job == "grpo":
        if "TRL" not in found:
            return []
        ahead = rates["rlhf_jax"] / rates["TRL"]
        return [Goal(name="grpo, times TRL's rate", value=ahead, bound=GRPO, at_least=True)]
    goals = [Goal(name=f"{job}, share of the roof", value=share, bound=ROOF, at_least=True)]
    if others := [each.peak for name, each in found.items() if name != "rlhf_jax"]:
        least = ours.peak / min(others)
        goals.append(
            Goal(name=f"{job}, memory over the least of the others'", value=least, bound=1)
        )
    return goals


def main() -> None:
    """The table, and whether the goals hold."""
    options = parsed()
    sizes = quick() if options.quick else Sizes()
    cores = len(os.sched_getaffinity(0))
    print(f"float32, cpu, {cores} cores, jax {jax.__version__}, {options.turns} turns")
    for name, how in (("TRL", TRL), ("Tunix", TUNIX)):
        if not getattr(options, f"{PEERS[name]}_python"):
            print(f"{name} is left out: --{PEERS[name]}-python INTERPRETER ({how})")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        write_work(Path(folder), sizes)
        for job in options.jobs:
            found[job] = in_turns(sides_of(job, options), job, Path(folder), options.turns)
    best = max(each.roof for job in found.values() for each in job.values())
    print(f"roof: {best:.0f} GFLOP/s, a square product")
    print("job   side            s  tokens/s  roof  peak GB  ratio")
    goals = [goal for job, each in found.items() for goal in report(job, sizes, each, best)]
    for goal in goals:
        print(goal)
    sys.exit(0 if all(goal.met for goal in goals) else 3)


if __name__ == "__main__":
    main()
