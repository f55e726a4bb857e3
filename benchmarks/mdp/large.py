"""One large table against the time of reading it, sparse tables, and how time grows in S."""

import os
import statistics
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.mdp import library, peers
from benchmarks.mdp.table import print_table
from benchmarks.mdp.worlds import ACTIONS, dense, sparse, uniform_logps
from benchmarks.measure import Goal, Seconds, fastest, in_turns, ratio, threads_reading

BANDWIDTH_GOAL = 0.6  # of the measured reading
LINEAR = 1.15  # exponent of time in the number of transitions, at most
ONE, ALL = "library, one device", "library, all devices"
POLICY, POLICY_ALL = "library, policy, one", "library, policy, all"
READ, NUMPY = "one read by threads", "NumPy"


@dataclass(frozen=True, kw_only=True)
class Large:
    """Sizes. read: transitions that a measurement reads, over as many sweeps as that takes."""

    states: tuple[int, ...] = (100, 1_000, 10_000)
    successors: int = 10
    batch: int = 64
    read: float = 2e9


def large_mdps(sizes: Large, turns: int) -> list[Goal]:
    """Prints a table for every number of states, dense and sparse; its goals and exponents."""
    goals, grown = [], {"dense": {}, "sparse": {}}
    for states in sizes.states:
        goals += _dense(states, sizes, turns, grown["dense"])
    for states in sizes.states:
        _sparse(states, sizes, turns, grown["sparse"])
    print()
    for kind, medians in grown.items():
        for first, last in zip(sizes.states, sizes.states[1:], strict=False):
            slope = np.log(medians[last] / medians[first]) / np.log(last / first)
            print(f"{kind}: time of a sweep grows as S^{slope:.2f} from {first} to {last}")
            if kind == "sparse" and first == sizes.states[-2]:
                name = f"sparse: exponent in transitions, {first} to {last}"
                goals.append(Goal(name=name, value=float(slope), bound=LINEAR))
    return goals


def _count(table: np.ndarray, sizes: Large) -> int:
    """Sweeps that read about `sizes.read` transitions."""
    return int(np.clip(sizes.read // table.size, 2, 200))


def _dense(states: int, sizes: Large, turns: int, grown: dict[int, float]) -> list[Goal]:
    """One MDP; a sweep reads its table once."""
    world = dense((), states, apart=True)
    table = world.transitions
    count = _count(table, sizes)
    runs = {
        ONE: library.sweeps(world, count=count, split=False),
        ALL: library.sweeps(world, count=count, split=True),
        NUMPY: partial(peers.numpy_values, world, sweeps=count, shifted=True),
    }
    apart = _apart(runs)
    read = threads_reading(table, len(os.sched_getaffinity(0)))
    seconds = in_turns({**runs, READ: read}, turns)
    scale = dict.fromkeys(runs, 1e3 / count) | {READ: 1e3}
    times = {name: [t * scale[name] for t in taken] for name, taken in seconds.items()}
    print(f"\ndense: one MDP, S={states}, A={ACTIONS}, {table.nbytes / 1e6:.1f} MB, {count} sweeps")
    print_table("ms/sweep", times, apart)
    ours = fastest(times, [ONE, ALL])
    grown[states] = statistics.median(times[ours])
    goals = [Goal(name=f"dense, S={states}: deviation", value=max(apart.values()), bound=1e-3)]
    if states >= 1_000:
        title = f"dense, S={states}: {READ} / {ours}"
        value = ratio(times, READ, ours)
        goals.append(Goal(name=title, value=value, bound=BANDWIDTH_GOAL, at_least=True))
    return goals


def _sparse(states: int, sizes: Large, turns: int, grown: dict[int, float]) -> None:
    """A batch of MDPs with few successors: value iteration and evaluation of the uniform policy."""
    world = sparse((sizes.batch,), states, sizes.successors)
    count, logps = _count(world.probs, sizes), uniform_logps(world.rewards)
    runs = {
        ONE: library.sweeps(world, count=count, split=False),
        ALL: library.sweeps(world, count=count, split=True),
        NUMPY: partial(peers.numpy_sparse_values, world, sweeps=count),
    }
    apart = _apart(runs)
    runs |= {
        POLICY: library.sweeps(world, count=count, logps=logps, split=False),
        POLICY_ALL: library.sweeps(world, count=count, logps=logps, split=True),
    }
    seconds = in_turns(runs, turns)
    times: Seconds = {name: [1e3 * t / count for t in taken] for name, taken in seconds.items()}
    shape = f"{sizes.batch} MDPs, S={states}, A={ACTIONS}, {sizes.successors} successors"
    print(f"\nsparse: {shape}, {world.probs.size / 1e6:.1f} M transitions, {count} sweeps")
    print_table("ms/sweep", times, apart)
    grown[states] = statistics.median(times[fastest(times, [ONE, ALL])])


def _apart(runs: dict[str, library.Run]) -> dict[str, float]:
    found = {name: run() for name, run in runs.items()}
    return {name: float(np.abs(values - found[ONE]).max()) for name, values in found.items()}
