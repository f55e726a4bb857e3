"""Plans by the library: leading axes in one program, or one MDP after another; on all devices."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from benchmarks.mdp.worlds import GAMMA, Dense, Sparse
from rlhf_jax.envs.tabular_mdp import DiscountedMDP
from rlhf_jax.exact import discounted_mdp
from rlhf_jax.exact.value_iteration import SparseTransitions, policy_evaluation, value_iteration

Run = Callable[[], np.ndarray]
TOGETHER, APART = "library, all at once", "library, one by one"


def mesh() -> Mesh:
    """Every device, in a row."""
    return jax.make_mesh((jax.device_count(),), ("first",), (AxisType.Auto,))


def on_all_devices(solve: Callable, *arrays: np.ndarray, by_one: bool = False) -> Run:
    """`solve` on MDPs [G, ...], a share for each device.

    Args:
      by_one: solve them one after another within a device, so that each stays in the cache.
    """
    inner = (lambda *args: jax.lax.map(lambda each: solve(*each), args)) if by_one else solve
    where, spec = mesh(), PartitionSpec("first")
    split = jax.shard_map(inner, mesh=where, in_specs=spec, out_specs=spec, check_vma=False)
    placed = jax.device_put(arrays, NamedSharding(where, spec))
    compiled = jax.jit(split).lower(*placed).compile()
    return lambda: np.asarray(compiled(*placed))


def plans(world: Dense, *, tolerance: float) -> dict[str, Run]:
    """Value iteration in both orders."""

    def solve(transitions, rewards):
        found = value_iteration(transitions, rewards, gamma=GAMMA, tolerance=tolerance)
        return found.values

    arrays = (world.transitions, world.rewards)
    return {
        TOGETHER: on_all_devices(solve, *arrays),
        APART: on_all_devices(solve, *arrays, by_one=True),
    }


def with_solves(world: Dense, logps: np.ndarray | None = None) -> dict[str, Run]:
    """Policy evaluation of `logps`, or without one policy iteration; both by linear solves."""

    def solve(transitions, rewards, *logps):
        mdp = DiscountedMDP(transitions, rewards, None, GAMMA)  # ty: ignore[invalid-argument-type]
        if logps:
            return discounted_mdp.evaluate(mdp, logps[0]).values
        return discounted_mdp.optimal(mdp).values

    arrays = (world.transitions, world.rewards, *([] if logps is None else [logps]))
    return {
        TOGETHER: on_all_devices(solve, *arrays),
        APART: on_all_devices(solve, *arrays, by_one=True),
    }


def sweeps(
    world: Dense | Sparse, *, count: int, logps: np.ndarray | None = None, split: bool
) -> Run:
    """`count` sweeps of value iteration, or of evaluation of `logps`, on one MDP or many.

    Args:
      split: over the devices by the first axis (of one MDP, its states).
    """

    def solve(transitions, rewards, *logps):
        numbers = {"gamma": GAMMA, "tolerance": 0.0, "max_sweeps": count}
        if logps:
            return policy_evaluation(transitions, rewards, *logps, **numbers).values
        return value_iteration(transitions, rewards, **numbers).values

    transitions = (
        world.transitions
        if isinstance(world, Dense)
        else SparseTransitions(jnp.asarray(world.successors), jnp.asarray(world.probs))
    )
    arrays = (transitions, world.rewards, *([] if logps is None else [logps]))
    placed = jax.device_put(arrays)
    if split:
        placed = jax.device_put(arrays, NamedSharding(mesh(), PartitionSpec("first")))
    compiled = jax.jit(solve).lower(*placed).compile()
    return lambda: np.asarray(compiled(*placed))
