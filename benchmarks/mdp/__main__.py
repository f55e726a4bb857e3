"""Speed of planning in tabular MDPs, and of a thousand seeds in one program.

    python -m benchmarks.mdp

Batches of small MDPs against NumPy and, where it is installed, QuantEcon; tables of up to 10,000
states against the time that reading them takes; the regret of 1,000 seeds in one jitted call
against a Python loop. A CPU has a device for each core. Times are taken in turns within one run; a
ratio is the median over the turns of the ratio within a turn. Exit code 3: a goal is missed.
"""

import argparse
import os
import sys

import jax
import numpy as np

from benchmarks.mdp.large import Large, large_mdps
from benchmarks.mdp.seeds import Seeds, many_seeds
from benchmarks.mdp.small import Small, small_mdps

TURNS = 5


def main() -> None:
    """All measurements, and whether the goals hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mdp", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the times mean nothing")
    small, large, seeds, turns = Small(), Large(), Seeds(), TURNS
    if parser.parse_args().quick:
        small, turns = Small(mdps=4, states=10), 2
        large = Large(states=(10, 20), batch=4, read=1e4)
        seeds = Seeds(seeds=4, episodes=3)
    cores = len(os.sched_getaffinity(0))
    jax.config.update("jax_num_cpu_devices", cores)
    device = jax.devices()[0]
    where = f"cpu, {cores} cores" if device.platform == "cpu" else device.device_kind
    print(f"float32, {where}, jax {jax.__version__}, numpy {np.__version__}, {turns} turns")
    goals = small_mdps(small, turns) + large_mdps(large, turns) + many_seeds(seeds, turns)
    for goal in goals:
        print(goal)
    sys.exit(0 if all(goal.met for goal in goals) else 3)


if __name__ == "__main__":
    main()
