"""The safe-set agent on LS3's point robot: continuous states and pushes, the cross-entropy method.

What the tabular agent fits to states is fitted here to cells of the room; the model of the moves is
a least-squares line, and plans are pushes that the planner samples.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.safe_rl_minimal.config import Config, Robot
from rlhf_jax.algos.planning import safe_set
from rlhf_jax.algos.planning.safe_set import Replay
from rlhf_jax.envs.point_robot import (
    GOAL,
    LARGEST_PUSH,
    ROOM,
    WALL_HIGH,
    WALL_LOW,
    in_goal,
    in_wall,
    point_robot,
)
from rlhf_jax.sampling.episodes import Act, sample_episode
from rlhf_jax.types import Env

SIDE = 3.0  # of a cell
COLUMNS, ROWS = (int(extent / SIDE) for extent in ROOM)
SPACING = 20.0  # of the bumps that the value is a sum of, and their width
RIDGE = 1.0  # of their weights, in visits
REACH = 9.0  # farther from a violation than this, a cell that nobody visited is open
ARMS = ("everything kept", "best kept", "random ones kept", "neither constraint nor safe set")


class Fits(NamedTuple):
    """moves: [3, 2] of a step in (push, 1); safe, values: [C]; unsafe: [C] bool, of every cell."""

    moves: jax.Array
    safe: jax.Array
    values: jax.Array
    unsafe: jax.Array


def ending_robot(horizon: int, *, anywhere: bool = False) -> Env:
    """The point robot whose episodes end in the goal and in the wall, and begin where it does or
    anywhere in the room."""
    env = point_robot(horizon=horizon)

    def reset(key):
        state, start = env.reset(key)
        if anywhere:
            start = jax.random.uniform(key, (2,)) * jnp.asarray(ROOM)
        return state._replace(position=start), start

    def step(key, state, push):
        state, seen = env.step(key, state, push)
        over = in_goal(seen.observation) | in_wall(seen.observation)
        return state, seen._replace(discount=jnp.where(over, 0.0, seen.discount))

    return Env(reset, step)


def roll_out(config: Robot, act: Act, key: jax.Array, *, anywhere: bool = False) -> Replay:
    """One episode: positions [T + 1, 2] and pushes [T, 2]."""
    env = ending_robot(config.steps, anywhere=anywhere)
    episode = sample_episode(env, act, key, steps=config.steps)
    taken, positions = episode.trajectory, episode.states.position
    last = positions[jnp.sum(taken.mask)]
    return Replay(positions, taken.actions, taken.mask, in_goal(last), in_wall(last))


def demonstration(config: Robot, key: jax.Array) -> Replay:
    """A slow walk around the wall, above or below, by a point well clear of it."""
    side_key, clear_key, key = jax.random.split(key, 3)
    side = jnp.where(jax.random.bernoulli(side_key), 1.0, -1.0)
    clear = jax.random.uniform(clear_key, minval=15.0, maxval=35.0)
    middle = 0.5 * (WALL_LOW[0] + WALL_HIGH[0])
    half = 0.5 * (WALL_HIGH[1] - WALL_LOW[1])
    way = jnp.array([middle, GOAL[1]]) + side * jnp.array([0.0, 1.0]) * (half + clear)

    def act(key, position):
        target = jnp.where(position[0] < middle, way, jnp.asarray(GOAL))
        return towards(key, position, target, speed=config.demo_speed), jnp.zeros(())

    return roll_out(config, act, key)


def walk(config: Robot, key: jax.Array) -> Replay:
    """A straight walk from one random point of the room to another, reward-free; some end in the
    wall, from any side of it."""
    target_key, key = jax.random.split(key)
    target = jax.random.uniform(target_key, (2,)) * jnp.asarray(ROOM)

    def act(key, position):
        return towards(key, position, target, speed=LARGEST_PUSH), jnp.zeros(())

    return roll_out(config, act, key, anywhere=True)


def towards(key: jax.Array, position, target, *, speed: float) -> jax.Array:
    """A push of this length to the target, plus standard normal noise."""
    way = target - position
    length = jnp.maximum(jnp.linalg.norm(way), 1e-6)
    return way / length * jnp.minimum(speed, length) + jax.random.normal(key, (2,))


def cell_of(position: jax.Array) -> jax.Array:
    """Number of the cell of positions [*B, 2]."""
    place = jnp.floor(position / SIDE).astype(int)
    column = jnp.clip(place[..., 0], 0, COLUMNS - 1)
    return column * ROWS + jnp.clip(place[..., 1], 0, ROWS - 1)


def centres() -> np.ndarray:
    """[C, 2] middles of the cells."""
    grid = np.meshgrid(np.arange(COLUMNS), np.arange(ROWS), indexing="ij")
    return SIDE * (np.stack(grid, axis=-1).reshape(-1, 2) + 0.5)


def bumps() -> jax.Array:
    """[C, M] Gaussian bumps over the room at the middles of the cells."""
    grid = [np.linspace(0, extent, int(extent / SPACING) + 1) for extent in ROOM]
    tops = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1).reshape(-1, 2)
    squares = np.sum((centres()[:, None] - tops) ** 2, axis=-1)
    return jnp.asarray(np.exp(-0.5 * squares / SPACING**2), jnp.float32)


def distances() -> jax.Array:
    """[C, C] between the middles of cells."""
    middles = jnp.asarray(centres(), jnp.float32)
    return jnp.linalg.norm(middles[:, None] - middles, axis=-1)


def fit(config: Config, record: Replay, kept: jax.Array, apart: jax.Array) -> Fits:
    """Model and constraint from the whole record, safe set and value from the kept rows [N].

    f(x) = gamma^(d / push) for d the distance to the nearest state of a kept success. V: ridge
    regression on bumps of minus the steps to the goal, of the kept rows; a failure counts a whole
    episode, and so does what nobody visited. unsafe: the nearest visited cell is that of a
    violation.
    """
    steps = record.mask.shape[-1]
    lengths = safe_set.lengths(record)
    times = jnp.arange(steps + 1)
    there = times <= lengths[:, None]
    cells = cell_of(record.states)
    zeros = jnp.zeros(COLUMNS * ROWS)

    pushes = jnp.clip(record.actions, -LARGEST_PUSH, LARGEST_PUSH)
    inputs = jnp.concatenate([pushes, jnp.ones_like(pushes[..., :1])], axis=-1)
    shifts = record.states[:, 1:] - record.states[:, :-1]
    seen = inputs * record.mask[..., None]
    square = jnp.einsum("nti,ntj->ij", seen, inputs) + 1e-3 * jnp.eye(3)
    moves = jnp.linalg.solve(square, jnp.einsum("nti,ntj->ij", seen, shifts))

    on_success = there & (kept & record.successes)[:, None]
    visited = zeros.at[cells].max(on_success.astype(zeros.dtype)) > 0
    nearest = jnp.min(jnp.where(visited, apart, jnp.inf), axis=-1)

    gained = jnp.where(record.successes[:, None], steps - (lengths[:, None] - times), 0.0)
    weights = (there & kept[:, None]).astype(zeros.dtype)
    heights = bumps()
    counts = zeros.at[cells].add(weights)
    square = heights.T @ (counts[:, None] * heights) + RIDGE * jnp.eye(heights.shape[-1])
    totals = heights.T @ zeros.at[cells].add(weights * gained)
    values = heights @ jnp.linalg.solve(square, totals) - steps

    stuck = there & record.violations[:, None] & (times == lengths[:, None])
    blocked, crossed = (
        jnp.min(jnp.where(zeros.at[cells].max(x.astype(zeros.dtype)) > 0, apart, jnp.inf), axis=-1)
        for x in (stuck, there & ~stuck)
    )
    safe = config.agent.safe_gamma ** (nearest / LARGEST_PUSH)
    return Fits(moves, safe, values, (blocked <= crossed) & (blocked <= REACH))


def scores(config: Config, fits: Fits, position: jax.Array, pushes: jax.Array, *, cautious):
    """Score [N] of plans [N, H, 2], and f of the states they end in, 0 where a step is unsafe.

    score = V(x_H) + number of planned steps in the goal, which is not left. cautious: 0 takes away
    the constraint and the safe set.
    """
    inputs = jnp.concatenate([pushes, jnp.ones_like(pushes[..., :1])], axis=-1)
    path = position + jnp.cumsum(inputs @ fits.moves, axis=-2)
    reached = jnp.cumsum(in_goal(path), axis=-1) > 0
    cells = cell_of(path)
    ends = cells[:, -1]
    value = jnp.where(reached[:, -1], 0.0, fits.values[ends])
    dangerous = jnp.any(fits.unsafe[cells] & ~reached, axis=-1)
    safe = jnp.where(dangerous, 0.0, jnp.where(reached[:, -1], 1.0, fits.safe[ends]))
    return value + jnp.sum(reached, axis=-1), jnp.where(cautious, safe, 1.0)


def cross_entropy_push(config: Config, fits: Fits, key: jax.Array, position, *, cautious):
    """The first push of the mean of the last elites; any push if no plan is feasible."""
    robot, agent = config.robot, config.agent
    levels = agent.threshold * agent.relax ** jnp.arange(agent.retries + 1)

    def refine(carry, key):
        mean, std, _ = carry
        noise = jax.random.normal(key, (robot.candidates, *mean.shape))
        pushes = jnp.clip(mean + std * noise, -LARGEST_PUSH, LARGEST_PUSH)
        score, safe = scores(config, fits, position, pushes, cautious=cautious)
        enough = safe[:, None] >= levels
        some = jnp.any(enough, axis=0)
        feasible = enough[:, jnp.argmax(some)]
        _, rows = jax.lax.top_k(jnp.where(feasible, score, score - 1e5), robot.elites)
        elite = pushes[rows]
        return (elite.mean(0), elite.std(0) + 1e-3, jnp.any(some)), None

    keys = jax.random.split(key, robot.refinements + 1)
    shape = (robot.horizon, 2)
    start = (jnp.zeros(shape), jnp.full(shape, LARGEST_PUSH), jnp.zeros((), bool))
    (mean, _, found), _ = jax.lax.scan(refine, start, keys[1:])
    anywhere = jax.random.uniform(keys[0], (2,), minval=-LARGEST_PUSH, maxval=LARGEST_PUSH)
    return jnp.where(found, mean[0], anywhere)


def kept_rows(config: Config, arm: jax.Array, record: Replay, key: jax.Array) -> jax.Array:
    """[N] rows that an arm remembers: all, the shortest successes, or successes at random. Walks
    are for the model and the constraint; they are no behaviour to be valued."""
    size, rows = config.robot, jnp.arange(record.mask.shape[0])
    walked = (rows >= size.demos) & (rows < size.demos + size.walks)
    stored = jnp.any(record.mask, axis=-1) & ~walked
    best = safe_set.best_trajectories(record, k=config.keep)
    drawn = jnp.where(record.successes, jax.random.uniform(key, stored.shape), 2.0)
    ranks = jnp.argsort(jnp.argsort(drawn))
    lucky = record.successes & (ranks < config.keep)
    return jnp.select(
        [arm == ARMS.index("best kept"), arm == ARMS.index("random ones kept")],
        [best, lucky],
        stored,
    )


def improve(config: Config, key: jax.Array, arm: jax.Array) -> dict[str, jax.Array]:
    """Rounds of fit, plan, roll out, add: [iterations, episodes] records."""
    robot = config.robot
    demo_key, walk_key, run_key = jax.random.split(key, 3)
    demos = jax.vmap(partial(demonstration, robot))(jax.random.split(demo_key, robot.demos))
    walks = jax.vmap(partial(walk, robot))(jax.random.split(walk_key, robot.walks))
    known = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), demos, walks)
    rows, new = robot.demos + robot.walks, robot.iterations * robot.episodes
    record = jax.tree.map(
        lambda leaf: jnp.concatenate([leaf, jnp.zeros((new, *leaf.shape[1:]), leaf.dtype)]), known
    )
    apart = distances()

    def iterate(record, time):
        kept_key, play_key = jax.random.split(jax.random.fold_in(run_key, time))
        fits = fit(config, record, kept_rows(config, arm, record, kept_key), apart)

        def act(key, position):
            cautious = arm != ARMS.index("neither constraint nor safe set")
            push = cross_entropy_push(config, fits, key, position, cautious=cautious)
            return push, jnp.zeros(())

        keys = jax.random.split(play_key, robot.episodes)
        episodes = jax.vmap(partial(roll_out, robot, act))(keys)
        told = {
            "length": jnp.where(episodes.successes, safe_set.lengths(episodes), robot.steps),
            "success": episodes.successes,
            "violation": episodes.violations,
        }
        return safe_set.add(record, episodes, rows + time * robot.episodes), told

    told = jax.lax.scan(iterate, record, jnp.arange(robot.iterations))[1]
    given = {"demo length": safe_set.lengths(demos), "demo success": demos.successes}
    walked = {"walk success": walks.successes, "walk violation": walks.violations}
    return told | given | walked


def run_robots(config: Config) -> dict[str, np.ndarray]:
    """ "length", "success", "violation" [arms, seeds, iterations, episodes], the same data for
    every arm; "demo length", "demo success", "walk success", "walk violation" [seeds, rows]."""
    keys = jax.random.split(jax.random.key(config.seed + 1), config.robot.num_seeds)
    over_seeds = jax.vmap(partial(improve, config), (0, None))
    run = jax.jit(
        lambda keys: jax.lax.map(lambda arm: over_seeds(keys, arm), jnp.arange(len(ARMS)))
    )
    found = jax.tree.map(np.asarray, run(keys))
    return {name: x[0] if name.startswith(("demo", "walk")) else x for name, x in found.items()}
