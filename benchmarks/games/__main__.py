"""Speed of the game loop: EGPO through `nash_mp`, `exact_oracle` and `run_updates`, jitted.

    python -m benchmarks.games

Many small games against the same iterations in NumPy and, where it is installed (extra `parity`),
in torch, game by game; one large game against the time that reading its matrix takes. A CPU has a
device for each core. Times are taken in turns within one run; a ratio is the median over the
turns of the ratio within a turn. Exit code 3: a goal is missed.
"""

import argparse
import os
import sys

import jax
import numpy as np

from benchmarks.games.many import Many, many_games
from benchmarks.games.one import One, one_game

TURNS = 5


def main() -> None:
    """Both measurements, and whether the goals hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.games", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the times mean nothing")
    many, one = Many(), One()
    if parser.parse_args().quick:
        many = Many(games=16, iterations=200, torch_games=2, torch_iterations=20)
        one = One(answers=256, iterations=3)
    cores = len(os.sched_getaffinity(0))
    jax.config.update("jax_num_cpu_devices", cores)
    device = jax.devices()[0]
    where = f"cpu, {cores} cores" if device.platform == "cpu" else device.device_kind
    print(f"float32, {where}, jax {jax.__version__}, numpy {np.__version__}, {TURNS} turns")
    goals = many_games(many, TURNS) + one_game(one, TURNS)
    for goal in goals:
        print(goal)
    sys.exit(0 if all(goal.met for goal in goals) else 3)


if __name__ == "__main__":
    main()
