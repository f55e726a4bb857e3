"""Safe-set control in a plane: LS3's fits on square cells, and plans by cross-entropy.

As in `safe_set`, four things are fitted to whole trajectories, of which some may be forgotten: a
model (least squares), the constraint and the goal (shares of visits), the safe set, and the value
of the recorded behaviour. A step is never longer than a cell is wide, so all that is known of moves
is how often they led from a cell to each of its nine neighbours, itself included.

`safe_set.Replay` holds the trajectories; here its states are positions [N, T + 1, 2], and its
actions [N, T, 2].
"""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from rlhf_jax.algos.planning import cross_entropy
from rlhf_jax.algos.planning.safe_set import Replay
from rlhf_jax.checks import check_fields
from rlhf_jax.ops.linear_systems import solve
from rlhf_jax.types import Scalar

MISSED = 1e4
OFFSETS = tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1))


@dataclass(frozen=True, kw_only=True)
class Room:
    """The rectangle [0, width] x [0, height] in square cells of one side. limit: largest push in
    each coordinate."""

    width: float
    height: float
    side: float
    limit: float

    def __post_init__(self):
        check_fields(self, "(0, inf)", "width", "height", "side")
        check_fields(self, f"(0, {self.side})", "limit")

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells along each axis."""
        return int(-(-self.width // self.side)), int(-(-self.height // self.side))


@dataclass(frozen=True, kw_only=True)
class CellsConfig:
    """Hyper-parameters; defaults as in LS3, except those of the cross-entropy method.

    threshold, relax, retries: a plan must end where f >= threshold. If no candidate of a sweep
      does, the threshold is multiplied by `relax`, up to `retries` times.
    unsafe, goal: shares of visits above which a cell is unsafe, or in the goal.
    safe_gamma: discount of the safe set. gamma: discount of the value.
    unseen: value of a cell without recorded steps, and of a violation.
    sweeps: of the values, each round.
    search: for a plan.
    """

    threshold: float = 0.8
    relax: float = 0.8
    retries: int = 5
    unsafe: float = 0.2
    goal: float = 0.5
    safe_gamma: float = 0.9
    gamma: float = 0.99
    unseen: float = -100.0
    sweeps: int = 300
    search: cross_entropy.SearchConfig = field(default_factory=cross_entropy.SearchConfig)

    def __post_init__(self):
        check_fields(self, "(0, 1)", "threshold", "relax", "unsafe", "goal")
        check_fields(self, "(0, 1)", "safe_gamma", "gamma")
        check_fields(self, "[0, inf)", "retries")
        check_fields(self, "[1, inf)", "sweeps")
        check_fields(self, "(-inf, inf)", "unseen")


class Fits(NamedTuple):
    """model: [3, 2] a step is [a, 1] @ model. unsafe, goal: [X, Y] bool. safe: [X, Y] f in [0, 1].
    values: [X, Y] V. visited: [X, Y] bool, by any trajectory."""

    model: Array
    unsafe: Array
    goal: Array
    safe: Array
    values: Array
    visited: Array


class CellScores(NamedTuple):
    """model: as in Fits. passing: [X, Y] 1 in the goal, -inf where unsafe, else 0. ending: [X, Y]
    of a plan that ends there, -inf where it must not."""

    model: Array
    passing: Array
    ending: Array


class Visits(NamedTuple):
    """Counts. moves: [9, X, Y] from a cell to each of OFFSETS; goal, unsafe: [X, Y] trajectories
    that ended there in the goal, or in a violation."""

    moves: Array
    goal: Array
    unsafe: Array


def cell_of(position: Float[Array, "*B 2"], room: Room) -> tuple[Array, Array]:
    """Indices of the cell along both axes, those outside the room moved to its edge."""
    x, y = (jnp.floor(position[..., i] / room.side).astype(int) for i in range(2))
    return jnp.clip(x, 0, room.shape[0] - 1), jnp.clip(y, 0, room.shape[1] - 1)


def count_visits(replay: Replay, kept: Bool[Array, " N"], room: Room) -> Visits:
    """Moves and ends of the kept trajectories."""
    x, y = cell_of(replay.states, room)
    mask = (replay.mask & kept[:, None]).astype(float)
    move = (x[:, 1:] - x[:, :-1] + 1) * 3 + y[:, 1:] - y[:, :-1] + 1
    nowhere = jnp.zeros(room.shape)
    moves = jnp.zeros((len(OFFSETS), *room.shape)).at[move, x[:, :-1], y[:, :-1]].add(mask)
    last = jnp.sum(replay.mask, -1)[:, None]
    end = tuple(jnp.take_along_axis(axis, last, axis=-1)[:, 0] for axis in (x, y))
    return Visits(
        moves,
        nowhere.at[end].add((replay.successes & kept).astype(float)),
        nowhere.at[end].add((replay.violations & kept).astype(float)),
    )


def neighbours(values: Float[Array, "X Y"], *, outside: float | int) -> Float[Array, "9 X Y"]:
    """Values of the cells at each of OFFSETS from a cell."""
    padded = jnp.pad(values, 1, constant_values=outside)
    width, height = values.shape
    return jnp.stack([padded[1 + i : 1 + i + width, 1 + j : 1 + j + height] for i, j in OFFSETS])


def fit_steps(replay: Replay) -> Float[Array, "3 2"]:
    """Least squares of a step on [a, 1], from all trajectories; no steps at all give 0."""
    steps = replay.states[:, 1:] - replay.states[:, :-1]
    inputs = jnp.concatenate([replay.actions, jnp.ones_like(replay.actions[..., :1])], -1)
    inputs = jnp.where(replay.mask[..., None], inputs, 0.0)
    gram = jnp.einsum("nti,ntj->ij", inputs, inputs) + 1e-6 * jnp.eye(3)
    return solve(gram, jnp.einsum("nti,ntj->ij", inputs, steps))


def unsafe_cells(visits: Visits, *, share: Scalar) -> Bool[Array, "X Y"]:
    """Cells in which more than this share of visits were violations; a cell without visits counts
    as unsafe where one beside it is."""
    total = jnp.sum(visits.moves, axis=0) + visits.goal + visits.unsafe
    seen = visits.unsafe > share * total
    beside = jnp.any(neighbours(seen.astype(float), outside=0) > 0, axis=0)
    return jnp.where(total > 0, seen, beside)


def safe_cells(visits: Visits, labels: Bool[Array, "X Y"], *, gamma: Scalar, sweeps: int) -> Array:
    """f(c) = max(1{c on a kept success}, gamma max_{c' seen after c} f(c')), down to gamma^sweeps.

    Args:
      visits: of the kept trajectories. labels: [X, Y] cells on a kept success.
    """
    seen = visits.moves > 0

    def sweep(_, safe):
        ahead = jnp.max(jnp.where(seen, neighbours(safe, outside=0), 0.0), axis=0)
        return jnp.maximum(labels, gamma * ahead)

    return jax.lax.fori_loop(0, sweeps, sweep, labels.astype(float))


def cell_values(
    visits: Visits, start: Float[Array, "X Y"], *, gamma: Scalar, unseen: Scalar, sweeps: int
) -> Float[Array, "X Y"]:
    """V(c) = mean over visits of -1 + gamma V(c'), 0 at the end of a success, `unseen` at that of a
    violation: TD(0) on the kept trajectories, `sweeps` times from `start`."""
    ended = visits.goal + visits.unsafe
    total = jnp.sum(visits.moves, axis=0) + ended

    def sweep(_, values):
        ahead = visits.moves * (gamma * neighbours(values, outside=0) - 1.0)
        mean = (jnp.sum(ahead, 0) + visits.unsafe * unseen) / jnp.maximum(total, 1.0)
        return jnp.where(total > 0, mean, unseen)

    return jax.lax.fori_loop(0, sweeps, sweep, start)


def fit_cells(
    replay: Replay,
    kept: Bool[Array, " N"],
    values: Float[Array, "X Y"],
    room: Room,
    config: CellsConfig,
) -> Fits:
    """All fits; the model, the constraint and the goal to all trajectories, the rest to those kept.

    Args:
      values: [X, Y] that V starts from, those of the last round.
    """
    every, few = (count_visits(replay, rows, room) for rows in (jnp.ones_like(kept), kept))
    x, y = cell_of(replay.states, room)
    there = jnp.arange(x.shape[-1]) <= jnp.sum(replay.mask, -1, keepdims=True)
    on_success = there & (kept & replay.successes)[:, None]
    labels = jnp.zeros(room.shape, bool).at[x, y].max(on_success)
    total = jnp.sum(every.moves, axis=0) + every.goal + every.unsafe
    least = config.threshold * config.relax**config.retries
    sweeps = math.ceil(math.log(least) / math.log(config.safe_gamma))
    return Fits(
        fit_steps(replay),
        unsafe_cells(every, share=config.unsafe),
        every.goal > config.goal * total,
        safe_cells(few, labels, gamma=config.safe_gamma, sweeps=sweeps),
        cell_values(few, values, gamma=config.gamma, unseen=config.unseen, sweeps=config.sweeps),
        total > 0,
    )


def free(fits: Fits) -> Fits:
    """The same without a safe set, and with the value 0 of a goal where nobody was: a planner that
    explores by optimism."""
    everywhere = jnp.ones_like(fits.safe)
    return fits._replace(safe=everywhere, values=jnp.where(fits.visited, fits.values, 0.0))


def score_cells(fits: Fits, config: CellsConfig) -> CellScores:
    """What a plan may enter, and where it may end.

    ending is V - 10^4 n, where n is the number of thresholds, out of threshold relax^i, that f
    misses: a plan that ends in the safe set beats any that does not, as in trying one threshold
    after the other.
    """
    thresholds = config.threshold * config.relax ** jnp.arange(config.retries + 1)
    missed = jnp.sum(fits.safe[..., None] < thresholds, axis=-1)
    return CellScores(
        fits.model,
        jnp.where(fits.unsafe, -jnp.inf, fits.goal.astype(float)),
        jnp.where(missed <= config.retries, fits.values - MISSED * missed, -jnp.inf),
    )


def sequence_scores(
    actions: Float[Array, "N H 2"], position: Float[Array, " 2"], scores: CellScores, room: Room
) -> Float[Array, " N"]:
    """Number of s_1..s_H in the goal + ending(s_H); -inf where a state is unsafe, or s_H is no
    place to end."""
    steps = actions @ scores.model[:2] + scores.model[2]
    x, y = cell_of(position + jnp.cumsum(steps, axis=-2), room)
    cell = x * room.shape[1] + y
    return jnp.sum(scores.passing.ravel()[cell], axis=-1) + scores.ending.ravel()[cell[:, -1]]


def plan_action(
    key: Key[Array, ""],
    noise: Float[Array, "sweeps N H 2"],
    position: Float[Array, " 2"],
    scores: CellScores,
    room: Room,
    config: cross_entropy.SearchConfig,
) -> tuple[Float[Array, " 2"], Bool[Array, ""]]:
    """First action of the best plan, and whether any was feasible; else a uniform action.

    Args:
      noise: of the search, for all plans of some rounds.
    Reference: Wilcox et al. 2021 (LS3), arXiv:2107.04775.
    Departs: cells and exact fits in place of networks, a linear model in place of an ensemble.
    """
    score = partial(sequence_scores, position=position, scores=scores, room=room)
    best = cross_entropy.cross_entropy(noise, score, limit=room.limit, config=config)
    feasible = best.score > -jnp.inf
    anything = jax.random.uniform(key, (2,), minval=-room.limit, maxval=room.limit)
    return jnp.where(feasible, best.actions[0], anything), feasible
