"""Gridworlds with rewards linear in known features: a delivery domain with hazards, a cliff grid.

Entering a cell pays the features of the cell; a move into a wall or a house stays in place and pays
the ground there. Goals and sheep end the episode. State = row * width + column; actions are up,
down, left, right. A board is a pure function of its key: `vmap` over keys gives a batch of worlds.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Key

from rlhf_jax.envs.tabular_mdp import DiscountedMDP
from rlhf_jax.types import record

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
FEATURES = ("gas", "goal", "sheep", "coin", "roadblock", "brick")
DELIVERY_WEIGHTS = (-1.0, 50.0, -50.0, 1.0, -1.0, -2.0)
BLANK, GOAL, HOUSE, SHEEP, COIN, ROADBLOCK = range(6)
ON_BRICK = 6  # codes 6 to 11 are the same six on brick
GAMMA = 0.999

# Row = code: the features paid on entering, in the order of FEATURES. Goal and sheep pay no others.
ENTERING = (
    (1, 0, 0, 0, 0, 0),
    (0, 1, 0, 0, 0, 0),
    (0, 0, 0, 0, 0, 0),
    (0, 0, 1, 0, 0, 0),
    (1, 0, 0, 1, 0, 0),
    (1, 0, 0, 0, 1, 0),
    (0, 0, 0, 0, 0, 1),
    (0, 1, 0, 0, 0, 0),
    (0, 0, 0, 0, 0, 0),
    (0, 0, 1, 0, 0, 0),
    (0, 0, 0, 1, 0, 1),
    (0, 0, 0, 0, 1, 1),
)

DELIVERY_BOARD = (
    (0, 0, 5, 0, 0, 0, 0, 0, 0, 0),
    (0, 0, 0, 0, 4, 0, 0, 0, 0, 6),
    (0, 0, 3, 0, 0, 0, 0, 6, 6, 6),
    (4, 0, 5, 0, 2, 3, 3, 6, 6, 0),
    (6, 6, 0, 0, 0, 0, 0, 0, 0, 0),
    (6, 0, 4, 0, 0, 0, 0, 0, 0, 0),
    (6, 2, 0, 3, 5, 2, 0, 0, 0, 0),
    (0, 4, 0, 0, 0, 0, 0, 10, 6, 6),
    (0, 0, 5, 0, 0, 0, 0, 6, 6, 7),
    (0, 0, 0, 0, 0, 0, 5, 0, 0, 4),
)


@record
class GridWorld:
    """A world with its features; leading axes are free.

    mdp: DiscountedMDP; its rewards are features @ weights, and its first state is uniform over the
      cells that do not end the episode.
    features: [*B, S, A, d] expected features of a step, 0 where the episode has ended.
    weights: [*B, d] the true ones.
    entering, bumping: [*B, S, d] features paid on entering a state, and on staying in it.
    cells: [*B, height, width] int codes, for drawings.
    """

    mdp: DiscountedMDP
    features: Array
    weights: Array
    entering: Array
    bumping: Array
    cells: Array


def delivery_world(
    cells: Int[Array, "*B height width"],
    weights: Float[Array, "*B 6"],
    *,
    gamma: float | int = GAMMA,
) -> GridWorld:
    """The delivery domain on any board.

    Args:
      cells: [*B, height, width] codes: 0 blank, 1 goal, 2 house, 3 sheep, 4 coin, 5 roadblock, and
        6 to 11 the same on brick.
      weights: [*B, 6] of FEATURES.
    Returns:
      GridWorld of S = height * width states, deterministic. A house is a state that is never
      entered.
    Raises:
      ValueError: a code outside 0 to 11; not checked under jit.
    Reference: Knox et al. 2022, arXiv:2206.02231; board and dynamics as in their code.
    Departs: a coin on brick pays coin and brick (in the official code its features are 0, its
      reward -1).
    """
    if not isinstance(cells, Tracer):
        _check_codes(np.asarray(cells))
    shape = cells.shape[:-2]
    codes = cells.reshape(*shape, -1)
    kinds = codes % ON_BRICK
    ends = (kinds == GOAL) | (kinds == SHEEP)
    moves = _moves(kinds == HOUSE, ends, cells.shape[-2:])
    entering = jnp.asarray(ENTERING, dtype=weights.dtype)[codes]
    ground = jnp.where(codes >= ON_BRICK, BLANK + ON_BRICK, BLANK)
    bumping = jnp.asarray(ENTERING, dtype=weights.dtype)[ground]
    closed = ends | (kinds == HOUSE)
    bumping = jnp.where(closed[..., None], 0.0, bumping)
    return make_world(moves, entering, bumping, weights, closed=closed, cells=cells, gamma=gamma)


def _check_codes(cells: np.ndarray) -> None:
    bad = np.argwhere((cells < 0) | (cells >= len(ENTERING)))
    if len(bad):
        *_, row, column = bad[0]
        found = cells[tuple(bad[0])]
        raise ValueError(f"codes must be in 0 to 11, got {found} at row {row}, column {column}")


def delivery_board() -> GridWorld:
    """The fixed 10 x 10 board with the true weights: 92 start cells, 5 ends, 3 houses.

    Reference: Knox et al. 2022, arXiv:2206.02231.
    """
    return delivery_world(jnp.array(DELIVERY_BOARD), jnp.array(DELIVERY_WEIGHTS))


def cliff_grid(
    key: Key[Array, ""], *, side: int = 5, hazards: int = 4, gamma: float | int = 0.95
) -> GridWorld:
    """A grid with a random goal, which ends the episode, and random hazards, which do not.

    A step pays -0.1; entering the goal pays 1 instead, and entering a hazard a further -1.

    Args:
      key: draws the places of the goal and the hazards.
      side, hazards: static; goal and hazards must leave a cell to start from.
    Returns:
      GridWorld of side^2 states, deterministic, with d = 3 features: step, goal, hazard.
    Raises:
      ValueError: no room.
    """
    size = side * side
    if hazards < 0 or size < hazards + 2:
        raise ValueError(f"{size} cells have no room for a goal, a start and {hazards} hazards")
    places = jax.random.permutation(key, size)
    goal, hazard = places < 1, (places >= 1) & (places <= hazards)
    paid = jnp.stack([~goal, goal, hazard], axis=-1)
    moves = _moves(jnp.zeros_like(goal), goal, (side, side))
    weights = jnp.array([-0.1, 1.0, -1.0])
    entering = paid.astype(weights.dtype)
    bumping = jnp.zeros_like(entering).at[:, 0].set(~goal)
    cells = jnp.select([goal, hazard], [GOAL, SHEEP], BLANK).reshape(side, side)
    return make_world(moves, entering, bumping, weights, closed=goal, cells=cells, gamma=gamma)


def step_features(
    world: GridWorld, states: Int[Array, "*N"], next_states: Int[Array, "*N"]
) -> Float[Array, "*N d"]:
    """Features paid by the steps from states to next_states, [*N, d].

    world has no leading axes here. For deterministic transitions these are
    `world.features[states, actions]`.
    """
    stays = (states == next_states)[..., None]
    return jnp.where(stays, world.bumping[states], world.entering[next_states])


def under_weights(world: GridWorld, weights: Float[Array, "*B d"]) -> DiscountedMDP:
    """The MDP of the world with rewards features @ weights, e.g. learned ones. Differentiable."""
    rewards = jnp.einsum("...d,...ijd->...ij", weights, world.features)
    return replace(world.mdp, rewards=rewards)


def _moves(
    blocked: Bool[Array, "*B S"], ends: Bool[Array, "*B S"], shape: tuple[int, ...]
) -> Bool[Array, "*B S A S"]:
    """Whether an action leads from one state to another; into walls and houses, or from an end,
    none does."""
    height, width = shape
    row, column = np.divmod(np.arange(height * width), width)
    targets = np.stack(
        [
            np.clip(row + up, 0, height - 1) * width + np.clip(column + left, 0, width - 1)
            for up, left in MOVES
        ],
        axis=-1,
    )
    held = (blocked | ends)[..., None] | blocked[..., targets]
    here = np.arange(height * width)[:, None]
    return jax.nn.one_hot(jnp.where(held, here, targets), height * width, dtype=bool)


def make_world(
    moves: Array, entering: Array, bumping: Array, weights: Array, *, closed, cells, gamma
) -> GridWorld:
    """A GridWorld from its tables: features and rewards of (s, a) are means over the next state."""
    moves = moves.astype(weights.dtype)
    stays = jnp.moveaxis(jnp.diagonal(moves, axis1=-3, axis2=-1), -1, -2)[..., None]
    paid = jnp.einsum("...ijk,...kd->...ijd", moves, entering)
    features = paid + stays * (bumping - entering)[..., None, :]
    open_cells = (~closed).astype(weights.dtype)
    mdp = DiscountedMDP(
        transitions=moves,
        rewards=jnp.einsum("...d,...ijd->...ij", weights, features),
        initial=open_cells / jnp.sum(open_cells, axis=-1, keepdims=True),
        gamma=jnp.full(closed.shape[:-1], gamma, weights.dtype),
    )
    return GridWorld(mdp, features, weights, entering, bumping, cells)
