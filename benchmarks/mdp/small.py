"""Batches of small MDPs: optimal values and those of a policy, against the peers."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.mdp import library, peers
from benchmarks.mdp.library import Run
from benchmarks.mdp.table import print_table
from benchmarks.mdp.worlds import ACTIONS, GAMMA, Dense, dense, uniform_logps
from benchmarks.measure import Goal, fastest, in_turns, ratio

PEER_GOAL = 10.0  # times as fast as each peer
TOLERANCE = 1e-3  # of a value; the largest is about 20
AGREEMENT = 2e-3
SAME = "NumPy, the same sweeps"
METHODS = ("value_iteration", "policy_iteration", "modified_policy_iteration")


@dataclass(frozen=True, kw_only=True)
class Small:
    """Sizes."""

    mdps: int = 64
    states: int = 100


def small_mdps(sizes: Small, turns: int) -> list[Goal]:
    """Prints a table for optimal values and one for those of a policy; its goals."""
    world = dense((sizes.mdps,), sizes.states)
    logps = uniform_logps(world.rewards)
    # Those after which the error bound of plain value iteration is below the tolerance.
    plain = int(np.ceil(np.log(TOLERANCE * (1 - GAMMA)) / np.log(GAMMA)))
    shifted = library.most_sweeps(world, tolerance=TOLERANCE)
    print(f"\nvalue iteration: {shifted} sweeps, without shifts {plain}")
    tables: dict[str, dict[str, Run]] = {
        "optimal values": {
            **library.plans(world, tolerance=TOLERANCE),
            "NumPy, at once": partial(peers.numpy_values, world, sweeps=plain),
            "NumPy, by one": partial(peers.numpy_values_one_by_one, world, sweeps=plain),
            SAME: partial(peers.numpy_values_one_by_one, world, sweeps=shifted, shifted=True),
            **_quantecon(world),
        },
        "values of a policy": {
            **library.evaluations(world, logps, tolerance=TOLERANCE),
            "NumPy, solves, at once": partial(peers.numpy_policy, world),
        },
    }
    return [goal for name, runs in tables.items() for goal in _measured(name, runs, sizes, turns)]


def _quantecon(world: Dense) -> dict[str, Run]:
    if not peers.quantecon_is_there():
        print("QuantEcon: skipped, not installed (pip install quantecon)")
        return {}
    found = {}
    for method in METHODS:
        run = partial(peers.quantecon_values, world, tolerance=TOLERANCE, method=method)
        run()  # compiles on its first call
        found[f"QuantEcon, {method.removesuffix('_iteration').replace('_', ' ')}"] = run
    return found


def _measured(name: str, runs: dict[str, Run], sizes: Small, turns: int) -> list[Goal]:
    found = {each: run() for each, run in runs.items()}
    ours = [each for each in runs if each.startswith("library")]
    apart = {each: float(np.abs(values - found[ours[0]]).max()) for each, values in found.items()}
    seconds = in_turns(runs, turns)
    print(f"\n{name}: {sizes.mdps} MDPs, S={sizes.states}, A={ACTIONS}, gamma={GAMMA}")
    print_table("ms", {each: [1e3 * t for t in taken] for each, taken in seconds.items()}, apart)
    best = fastest(seconds, ours)
    goals = [Goal(name=f"{name}: deviation", value=max(apart.values()), bound=AGREEMENT)]
    for peer in [each for each in runs if each not in {*ours, SAME}]:
        title, value = f"{name}: {peer} / {best}", ratio(seconds, peer, best)
        goals.append(Goal(name=title, value=value, bound=PEER_GOAL, at_least=True))
    return goals
