"""Cells of the sweep, in both worlds: what is known at the start, and what is kept of it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from experiments.safe_rl_minimal.config import Config, RobotConfig
from rlhf_jax.algos.planning import safe_set
from rlhf_jax.algos.planning.safe_set import Replay

ALL, BEST, LATEST, RANDOM = range(4)
EVERY = 1_000_000  # successes: only failures are forgotten


class Cell(NamedTuple):
    """demos, walks: how many of each are known at the start. rho: index of the walks' directedness;
    beyond it, trajectories that end in the wall (robot).
    memory: which successes are kept for the safe set and the values: ALL, or `keep` of them.
    steady: 1 where nobody slipped while demonstrating (grid). free: 1 for a planner without a safe
    set that goes where nobody was (robot)."""

    demos: int
    walks: int
    rho: int
    memory: int = ALL
    keep: int = 0
    steady: int = 0
    free: int = 0


def plain(config: Config | RobotConfig, demos: int, walks: int, memory: int = ALL) -> Cell:
    """The cell of the usual rho that keeps everything, or the usual number of successes."""
    usual = config.rhos.index(config.rho)
    return Cell(demos, walks, usual, memory, 0 if memory == ALL else config.keep)


def fewest(config: Config | RobotConfig, memory: int = ALL) -> Cell:
    """The fewest demonstrations and no walks."""
    return plain(config, min(config.demos), 0, memory)


def factors(config: Config | RobotConfig) -> list[Cell]:
    """Demonstrations x walks x (all, best kept); with the fewest demonstrations, windows of the
    latest successes, random ones, and walks of the other rhos."""
    usual, most = config.rhos.index(config.rho), max(config.walks)
    alone = fewest(config)
    return [
        *(
            plain(config, demos, walks, memory)
            for memory in (ALL, BEST)
            for walks in config.walks
            for demos in config.demos
        ),
        *(alone._replace(memory=LATEST, keep=keep) for keep in config.windows),
        fewest(config, RANDOM),
        *(alone._replace(walks=most, rho=i) for i in range(len(config.rhos)) if i != usual),
    ]


def grid_cells(config: Config) -> list[Cell]:
    """The factors, and one demonstration in which nobody slipped."""
    return [*factors(config), fewest(config)._replace(steady=1)]


def robot_cells(config: RobotConfig) -> list[Cell]:
    """The factors, a planner without a safe set, and cells in which the wall is known: with many
    demonstrations, and with few and every kind of memory."""
    free = fewest(config)._replace(free=1)
    few = warned(config, min(config.demos))
    kept = [(BEST, config.keep), (RANDOM, config.keep)]
    kept += [(LATEST, keep) for keep in (*config.windows, EVERY)]
    memories = [few._replace(memory=memory, keep=keep) for memory, keep in kept]
    return [*factors(config), free, warned(config, max(config.demos)), few, *memories]


def warned(config: Config | RobotConfig, demos: int) -> Cell:
    """Trajectories into the wall in place of walks, as in LS3."""
    return Cell(demos, max(config.walks), len(config.rhos))


def name_of(config: Config | RobotConfig, cell: Cell) -> str:
    """A cell in words."""
    kept = f", {kept_name(cell)} kept" if cell.memory else ""
    directions = [*(f" of rho {rho:g}" for rho in config.rhos), " into the wall"]
    directions[config.rhos.index(config.rho)] = ""
    demos = "1 demonstration" if cell.demos == 1 else f"{cell.demos} demonstrations"
    other = " without slips" if cell.steady else ""
    end = ", no safe set" if cell.free else ""
    return f"{demos}{other}, {cell.walks} walks{directions[cell.rho]}{kept}{end}"


def kept_name(cell: Cell) -> str:
    """What a cell keeps, in words."""
    if cell.memory == ALL:
        return "everything"
    if cell.keep == EVERY:
        return "all successes"
    return f"{('best', 'latest', 'random')[cell.memory - 1]} {cell.keep}"


def first(replay: Replay, count: int | Array) -> Replay:
    """The first `count` trajectories; the other rows are emptied."""
    there = jnp.arange(replay.mask.shape[0]) < count
    return replay._replace(
        mask=replay.mask & there[:, None],
        successes=replay.successes & there,
        violations=replay.violations & there,
    )


def begin(demos: Replay, walks: Replay, cell: Cell, new: int) -> tuple[Replay, int]:
    """The record at the start with room for `new` more episodes, and the row of the first one."""
    known = jax.tree.map(
        lambda *parts: jnp.concatenate(parts), first(demos, cell.demos), first(walks, cell.walks)
    )
    empty = jax.tree.map(lambda leaf: jnp.zeros((new, *leaf.shape[1:]), leaf.dtype), known)
    replay = jax.tree.map(lambda *parts: jnp.concatenate(parts), known, empty)
    return replay, known.mask.shape[0]


def kept_rows(replay: Replay, cell: Cell, key: Key[Array, ""]) -> Array:
    """[N] bool: the rows that the safe set and the values are fitted to."""
    rows = jnp.arange(len(replay.successes))
    orders = [safe_set.lengths(replay), -rows, jax.random.uniform(key, rows.shape)]
    order = jnp.stack([each.astype(float) for each in orders])[jnp.maximum(cell.memory - 1, 0)]
    few = safe_set.first_successes(replay, order, k=cell.keep)
    return jnp.where(cell.memory == ALL, jnp.any(replay.mask, axis=-1), few)
