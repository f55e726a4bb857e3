"""The point robot: demonstrations, walks, and agents that plan by cross-entropy, in one program."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from experiments.safe_rl_minimal.cells import Cell, begin, kept_rows, robot_cells
from experiments.safe_rl_minimal.config import RobotConfig
from rlhf_jax.algos.planning import safe_cells, safe_set
from rlhf_jax.algos.planning.cross_entropy import search_noise
from rlhf_jax.algos.planning.safe_set import Replay
from rlhf_jax.envs import point_robot as robot
from rlhf_jax.sampling.episodes import Act, sample_episode
from rlhf_jax.types import Env, Scalar

SIDE = 5.0  # the wall's edges are multiples of it
ROOM = safe_cells.Room(
    width=robot.ROOM[0], height=robot.ROOM[1], side=SIDE, limit=robot.LARGEST_PUSH
)


def task(config: RobotConfig, start: Array | None = None) -> Env:
    """The robot's world, in which the goal and the wall end an episode; `start`: another place."""
    env = robot.point_robot(goal_radius=config.goal_radius, horizon=config.steps)

    def step(key, state, action):
        state, told = env.step(key, state, action)
        at = state.position
        ends = robot.in_wall(at) | robot.in_goal(at, radius=config.goal_radius)
        return state, told._replace(discount=jnp.where(ends, 0.0, told.discount))

    def reset(key):
        state, place = env.reset(key)
        place = place if start is None else start
        return state._replace(position=place), place

    return Env(reset, step)


def collect(
    config: RobotConfig, act: Act, key: Key[Array, ""], start: Array | None = None
) -> Replay:
    """One episode, as a row of a record."""
    episode = sample_episode(task(config, start), act, key, steps=config.steps)
    taken, path = episode.trajectory, episode.states.position
    last = path[jnp.sum(taken.mask)]
    goal = robot.in_goal(last, radius=config.goal_radius)
    return Replay(path, taken.actions, taken.mask, goal, robot.in_wall(last))


def demonstration(config: RobotConfig, key: Key[Array, ""]) -> Replay:
    """Slowly past the wall on either side, at a height of its own, some moves at random."""
    side_key, height_key, key = jax.random.split(key, 3)
    height = jax.random.uniform(height_key, minval=config.heights[0], maxval=config.heights[1])
    height = jnp.where(jax.random.bernoulli(side_key), height, robot.ROOM[1] - height)
    (left, _), (right, _) = robot.WALL_LOW, robot.WALL_HIGH
    goal = jnp.asarray(robot.GOAL)

    def aim(at):
        beyond = at[0] >= right + SIDE
        way = jnp.stack([jnp.where(at[0] < left, left, right + 2 * SIDE), height])
        return jnp.where(beyond, goal, way)

    return collect(config, clumsy(aim, config.speed, config.random_share), key)


def walk(config: RobotConfig, rho: Scalar, key: Key[Array, ""]) -> Replay:
    """Towards a random point with a share rho of the moves, the others at random."""
    target_key, key = jax.random.split(key)
    target = jax.random.uniform(target_key, (2,)) * jnp.asarray(robot.ROOM)
    return collect(config, clumsy(lambda _: target, robot.LARGEST_PUSH, 1.0 - rho), key)


def push(config: RobotConfig, key: Key[Array, ""]) -> Replay:
    """From a random place towards a random point of the wall: what not to do.

    One that comes through the goal is no success: it does not show the way from the start.
    """
    start_key, target_key, key = jax.random.split(key, 3)
    low, high = jnp.asarray(robot.WALL_LOW), jnp.asarray(robot.WALL_HIGH)
    target = low + jax.random.uniform(target_key, (2,)) * (high - low)
    # As far from the wall's middle as a robot moves in a third of an episode, in any direction.
    turn = 2.0 * jnp.pi * jax.random.uniform(start_key)
    away = robot.LARGEST_PUSH * config.steps / 3 * jnp.stack([jnp.cos(turn), jnp.sin(turn)])
    start = jnp.clip((low + high) / 2 + away, 0.0, jnp.asarray(robot.ROOM))
    act = clumsy(lambda _: target, robot.LARGEST_PUSH, config.random_share)
    return collect(config, act, key, start)._replace(successes=jnp.zeros((), bool))


def clumsy(aim: Callable[[Array], Array], speed: float, random_share: Scalar) -> Act:
    """Towards aim(position), at most `speed` along each axis; a share of moves is uniform."""

    def act(key, position):
        share_key, random_key = jax.random.split(key)
        wanted = jnp.clip(aim(position) - position, -speed, speed)
        limit = robot.LARGEST_PUSH
        anything = jax.random.uniform(random_key, (2,), minval=-limit, maxval=limit)
        chance = jax.random.uniform(share_key) < random_share
        return jnp.where(chance, anything, wanted), jnp.zeros(())

    return act


def offline(config: RobotConfig, key: Key[Array, ""]) -> tuple[Replay, Replay]:
    """Demonstrations [max demos, ...] and walks [rhos + 1, max walks, ...], the last into the
    wall."""
    demo_key, walk_key, push_key = jax.random.split(key, 3)
    demos = jax.vmap(partial(demonstration, config))(jax.random.split(demo_key, max(config.demos)))
    keys = jax.random.split(walk_key, max(config.walks))
    over_walks = jax.vmap(partial(walk, config), (None, 0))
    walks = jax.vmap(over_walks, (0, None))(jnp.asarray(config.rhos), keys)
    pushes = jax.vmap(partial(push, config))(jax.random.split(push_key, max(config.walks)))
    both = jax.tree.map(
        lambda *leaves: jnp.concatenate([leaves[0], leaves[1][None]]), walks, pushes
    )
    return demos, both


def improve(
    config: RobotConfig, data: tuple[Replay, Replay], cell: Cell, key: Key[Array, ""]
) -> dict[str, Array]:
    """Iterations of plan, roll out, add: [iterations, episodes] records, [iterations] sizes."""
    demos, walks = data[0], jax.tree.map(lambda leaf: leaf[cell.rho], data[1])
    replay, row = begin(demos, walks, cell, config.iterations * config.episodes)

    def iterate(carry, time):
        replay, values = carry
        memory_key, noise_key, key_now = jax.random.split(jax.random.fold_in(key, time), 3)
        kept = kept_rows(replay, cell, memory_key)
        fits = safe_cells.fit_cells(replay, kept, values, ROOM, config.agent)
        safe = jnp.sum(fits.safe >= config.agent.threshold)
        planned = jax.tree.map(partial(jnp.where, cell.free), safe_cells.free(fits), fits)
        scores = safe_cells.score_cells(planned, config.agent)
        noise = search_noise(noise_key, size=2, config=config.agent.search)

        def act(key, position):
            action, _ = safe_cells.plan_action(
                key, noise, position, scores, ROOM, config.agent.search
            )
            return action, jnp.zeros(())

        keys = jax.random.split(key_now, config.episodes)
        episodes = jax.vmap(partial(collect, config, act))(keys)
        told = {
            "length": jnp.where(episodes.successes, safe_set.lengths(episodes), config.steps),
            "success": episodes.successes,
            "violation": episodes.violations,
            "safe cells": safe,
        }
        replay = safe_set.add(replay, episodes, row + time * config.episodes)
        return (replay, fits.values), told

    start = replay, jnp.full(ROOM.shape, config.agent.unseen)
    return jax.lax.scan(iterate, start, jnp.arange(config.iterations))[1]


def run_robot(config: RobotConfig, seed: int) -> dict[str, np.ndarray]:
    """ "length", "success", "violation" [cells, seeds, iterations, episodes], "safe cells" [cells,
    seeds, iterations]; "demo length", "demo success" [seeds, demos], "walk success", "walk
    violation" [seeds, rhos, walks]."""
    keys = jax.random.split(jax.random.key(seed), (2, config.num_seeds))
    data = jax.jit(jax.vmap(partial(offline, config)))(keys[0])
    sweep = jax.tree.map(lambda *column: jnp.asarray(column), *robot_cells(config))
    over_seeds = jax.vmap(partial(improve, config), (0, None, 0))
    run = jax.jit(lambda data, keys: jax.lax.map(lambda a: over_seeds(data, a, keys), sweep))
    demos, walks = data
    found = {
        **run(data, keys[1]),
        "demo length": demos.mask.sum(-1),
        "demo success": demos.successes,
        "walk success": walks.successes,
        "walk violation": walks.violations,
    }
    return jax.tree.map(np.asarray, found)
