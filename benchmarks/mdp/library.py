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
    """Optimal values, by value iteration and by policy iteration."""

    def swept(transitions, rewards):
        return value_iteration(transitions, rewards, gamma=GAMMA, tolerance=tolerance).values

    def solved(transitions, rewards):
        return discounted_mdp.optimal(_mdp(transitions, rewards)).values

    return _orders({"sweeps": swept, "solves": solved}, world.transitions, world.rewards)


def evaluations(world: Dense, logps: np.ndarray, *, tolerance: float) -> dict[str, Run]:
    """Values of a policy."""

    def swept(transitions, rewards, logps):
        found = policy_evaluation(transitions, rewards, logps, gamma=GAMMA, tolerance=tolerance)
        return found.values

    def solved(transitions, rewards, logps):
        return discounted_mdp.evaluate(_mdp(transitions, rewards), logps).values

    return _orders({"sweeps": swept, "solves": solved}, world.transitions, world.rewards, logps)


def most_sweeps(world: Dense, *, tolerance: float) -> int:
    """Sweeps of value iteration for the slowest of the MDPs."""
    found = value_iteration(*jax.device_put(world), gamma=GAMMA, tolerance=tolerance)
    return int(found.sweeps)


def _orders(solvers: dict[str, Callable], *arrays: np.ndarray) -> dict[str, Run]:
    """Each on all MDPs at once, and on one after another."""
    return {
        f"library, {name}, {order}": on_all_devices(solve, *arrays, by_one=by_one)
        for name, solve in solvers.items()
        for order, by_one in (("at once", False), ("by one", True))
    }


def _mdp(transitions: jax.Array, rewards: jax.Array) -> DiscountedMDP:
    return DiscountedMDP(transitions, rewards, None, GAMMA)  # ty: ignore[invalid-argument-type]


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
