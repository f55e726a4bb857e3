"""Batches of small MDPs: value iteration, policy iteration and evaluation, against the peers."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.mdp import library, peers
from benchmarks.mdp.library import Run
from benchmarks.mdp.table import print_table
from benchmarks.mdp.worlds import GAMMA, Dense, dense, uniform_logps
from benchmarks.measure import Goal, fastest, in_turns, ratio

PEER_GOAL = 10.0  # times as fast as each peer
TOLERANCE = 1e-3  # of a value; the largest is about 20
AGREEMENT = 2e-3
NUMPY, NUMPY_APART, QUANTECON = "NumPy, all at once", "NumPy, one by one", "QuantEcon"


@dataclass(frozen=True, kw_only=True)
class Small:
    """Sizes."""

    mdps: int = 64
    states: int = 100


def small_mdps(sizes: Small, turns: int) -> list[Goal]:
    """Prints a table for each kind of plan; its goals."""
    world = dense((sizes.mdps,), sizes.states)
    # Those after which the error bound of value iteration is below the tolerance, and one more.
    sweeps = int(np.ceil(np.log(TOLERANCE * (1 - GAMMA)) / np.log(GAMMA))) + 1
    loops: dict[str, dict[str, Run]] = {
        "value iteration": {
            **library.plans(world, tolerance=TOLERANCE),
            NUMPY: partial(peers.numpy_values, world, sweeps=sweeps),
            NUMPY_APART: partial(peers.numpy_values_one_by_one, world, sweeps=sweeps),
            **_quantecon(world, "value_iteration"),
        },
        "policy iteration": {
            **library.with_solves(world),
            **_quantecon(world, "policy_iteration"),
        },
        "policy evaluation": {
            **library.with_solves(world, uniform_logps(world.rewards)),
            NUMPY: partial(peers.numpy_policy, world),
        },
    }
    return [goal for name, runs in loops.items() for goal in _measured(name, runs, sizes, turns)]


def _quantecon(world: Dense, method: str) -> dict[str, Run]:
    if not peers.quantecon_is_there():
        print(f"{method} of QuantEcon: skipped, not installed (pip install quantecon)")
        return {}
    run = partial(peers.quantecon_values, world, tolerance=TOLERANCE, method=method)
    run()  # compiles on its first call
    return {QUANTECON: run}


def _measured(name: str, runs: dict[str, Run], sizes: Small, turns: int) -> list[Goal]:
    found = {each: run() for each, run in runs.items()}
    want = found[library.TOGETHER]
    apart = {each: float(np.abs(values - want).max()) for each, values in found.items()}
    seconds = in_turns(runs, turns)
    print(f"\n{name}: {sizes.mdps} MDPs, S={sizes.states}, A=10, gamma={GAMMA}")
    print_table("ms", {each: [1e3 * t for t in taken] for each, taken in seconds.items()}, apart)
    ours = fastest(seconds, [library.TOGETHER, library.APART])
    goals = [Goal(name=f"{name}: deviation", value=max(apart.values()), bound=AGREEMENT)]
    for peer in (NUMPY, NUMPY_APART, QUANTECON):
        if peer in seconds:
            title, value = f"{name}: {peer} / {ours}", ratio(seconds, peer, ours)
            goals.append(Goal(name=title, value=value, bound=PEER_GOAL, at_least=True))
    return goals
