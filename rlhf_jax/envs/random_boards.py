"""Random delivery boards, and boards on which sheep are a lottery."""

from dataclasses import dataclass
from itertools import product

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from rlhf_jax.checks import check_fields
from rlhf_jax.envs.gridworlds import (
    BLANK,
    COIN,
    DELIVERY_WEIGHTS,
    GAMMA,
    GOAL,
    MOVES,
    ON_BRICK,
    ROADBLOCK,
    SHEEP,
    GridWorld,
    delivery_world,
    make_world,
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The distribution of a random board: each field holds equally likely choices.

    sheep, roadblocks, coins: shares of all cells, rounded down; only triples that add up to less
      than 1 are drawn. bricks: share of all cells with brick as the ground.
    *_weights: of the features; gas is -1 and a coin 1.
    """

    sheep: tuple[float, ...] = (0.0, 0.1, 0.2)
    roadblocks: tuple[float, ...] = (0.0, 0.1, 0.3)
    coins: tuple[float, ...] = (0.0, 0.1)
    bricks: tuple[float, ...] = (0.0, 0.1, 0.2)
    goal_weights: tuple[float, ...] = (1.0, 5.0, 10.0, 50.0)
    sheep_weights: tuple[float, ...] = (-5.0, -10.0, -50.0, -100.0)
    roadblock_weights: tuple[float, ...] = (-2.0, -5.0, -10.0)
    brick_weights: tuple[float, ...] = (-1.0, -2.0, -3.0)

    def __post_init__(self):
        check_fields(self, "[0, 1)", "sheep", "roadblocks", "coins", "bricks")


def random_board(
    key: Key[Array, ""],
    *,
    height: int = 6,
    width: int = 6,
    recipe: Recipe = Recipe(),
) -> GridWorld:
    """A random delivery board with one goal, and random weights.

    Args:
      key: draws everything; vmap over keys for a batch.
      height, width: static; at least two cells.
    Returns:
      GridWorld.
    Raises:
      ValueError: fewer than two cells, or no shares of the recipe that leave room.
    Reference: Knox et al. 2022, arXiv:2206.02231, random MDPs.
    """
    size = height * width
    if size < 2:
        raise ValueError(f"a board needs two cells, got height {height} and width {width}")
    triples = [c for c in product(recipe.sheep, recipe.roadblocks, recipe.coins) if sum(c) < 1]
    if not triples:
        raise ValueError("sheep, roadblocks and coins must leave room: every sum is >= 1")
    share_key, object_key, brick_key, weight_key = jax.random.split(key, 4)
    shares = jax.random.choice(share_key, jnp.array(triples))
    brick_share = jax.random.choice(jax.random.fold_in(brick_key, 0), jnp.array(recipe.bricks))
    # Places in a random order: the first holds the goal, then come sheep, roadblocks and coins.
    places = jax.random.permutation(object_key, size)
    ends = 1 + jnp.cumsum(_counts(shares, size))
    objects = jnp.select(
        [places < 1, *(places < end for end in ends)],
        [GOAL, SHEEP, ROADBLOCK, COIN],
        BLANK,
    )
    bricks = jax.random.permutation(brick_key, size) < _counts(brick_share, size)
    cells = jnp.where(bricks, objects + ON_BRICK, objects).reshape(height, width)
    return delivery_world(cells, _random_weights(weight_key, recipe))


def _counts(shares: Float[Array, "*n"], size: int) -> Int[Array, "*n"]:
    """Number of cells of each share, rounded down; 0.3 of 10 is 3 in float32 too."""
    return jnp.floor(shares * size + 1e-4).astype(int)


def _random_weights(key: Key[Array, ""], recipe: Recipe) -> Float[Array, " 6"]:
    choices = (
        (-1.0,),
        recipe.goal_weights,
        recipe.sheep_weights,
        (1.0,),
        recipe.roadblock_weights,
        recipe.brick_weights,
    )
    keys = jax.random.split(key, len(choices))
    drawn = [jax.random.choice(k, jnp.array(c)) for k, c in zip(keys, choices, strict=True)]
    return jnp.stack(drawn)


def lottery_board(
    key: Key[Array, ""], *, win_weight: Float[Array, ""] | float, side: int = 5
) -> GridWorld:
    """A delivery board on which entering a sheep is a lottery: -50 or a win, each with P = 1/2.

    Args:
      key: draws the board; sheep are on 5, 10 or 30% of the cells, rounded down, but at least one.
      win_weight: reward of winning. May be traced.
      side: of the square; static, at least two.
    Returns:
      GridWorld of side^2 + 1 states, the last one entered by winning, and d = 7 features, the last
      one "win". Both outcomes end the episode. Rewards and features of (s, a) are expected ones;
      for those of an outcome use `step_features`.
    Raises:
      ValueError: side below 2.
    Reference: Knox et al. 2022, arXiv:2206.02231, stochastic MDPs.
    """
    if side < 2:
        raise ValueError(f"side must be >= 2, got {side}")
    size = side * side
    share_key, place_key = jax.random.split(key)
    share = jax.random.choice(share_key, jnp.array([0.05, 0.1, 0.3]))
    places = jax.random.permutation(place_key, size)
    sheep = jnp.maximum(_counts(share, size), 1)
    cells = jnp.select([places < 1, places < 1 + sheep], [GOAL, SHEEP], BLANK)
    board = delivery_world(cells.reshape(side, side), jnp.array(DELIVERY_WEIGHTS))

    def extend(table, last):  # [S, 6] to [S + 1, 7]
        return jnp.pad(table, ((0, 1), (0, 1))).at[-1, -1].set(last)

    loses = jnp.where(cells == SHEEP, 0.5, 1.0) * board.mdp.transitions
    entered = board.mdp.transitions @ jnp.where(cells == SHEEP, 0.5, 0.0)
    moves = jnp.concatenate([loses, entered[..., None]], axis=-1)
    won = jnp.zeros((1, len(MOVES), size + 1)).at[..., -1].set(1.0)
    closed = jnp.append((cells == GOAL) | (cells == SHEEP), True)
    moves = jnp.concatenate([moves, won])
    stays = jnp.eye(size + 1)[:, None, :]
    moves = jnp.where(closed[:, None, None], stays, moves)
    weights = jnp.append(board.weights, jnp.asarray(win_weight, board.weights.dtype))
    entering, bumping = extend(board.entering, 1.0), extend(board.bumping, 0.0)
    return make_world(
        moves, entering, bumping, weights, closed=closed, cells=board.cells, gamma=GAMMA
    )
