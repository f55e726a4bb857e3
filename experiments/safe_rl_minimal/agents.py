"""The grid: demonstrations, unsupervised walks, and agents that go on from them, in one program."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.safe_rl_minimal.cells import Cell, begin, grid_cells, kept_rows
from experiments.safe_rl_minimal.config import Config
from rlhf_jax.algos.planning import safe_set
from rlhf_jax.algos.planning.safe_set import Replay
from rlhf_jax.envs.tabular_mdp import discounted_env
from rlhf_jax.envs.walled_grid import (
    NUM_STATES,
    WalledGrid,
    border_demonstrator,
    directed_walk,
    walled_grid,
)
from rlhf_jax.sampling.episodes import sample_episode


def collect(grid: WalledGrid, logps: jax.Array, keys: jax.Array, *, steps: int) -> Replay:
    """One episode for each policy logps [N, S, A] and key [N]."""
    # What is drawn needs no 53 bits; what is fitted has them.
    env = discounted_env(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), grid.mdp))
    logps = logps.astype(jnp.float32)

    def one(logps, key):
        def act(key, place):
            action = jax.random.categorical(key, logps[place])
            return action, logps[place, action]

        episode = sample_episode(env, act, key, steps=steps)
        taken = episode.trajectory
        # After the end the record repeats the state the episode ended in.
        last = episode.states[jnp.sum(taken.mask)]
        return Replay(episode.states, taken.actions, taken.mask, grid.goal[last], grid.walls[last])

    return jax.vmap(one)(logps, keys)


def offline(config: Config, grid: WalledGrid, key: jax.Array) -> tuple[Replay, Replay]:
    """Demonstrations [2, max demos, ...] along either border, with slips and without, and walks
    [rhos, max walks, ...]."""
    demo_key, target_key, walk_key = jax.random.split(key, 3)
    most, walks = max(config.demos), max(config.walks)
    guides = border_demonstrator(random_share=config.random_share)
    side_key, demo_key = jax.random.split(demo_key)
    sides = jax.random.bernoulli(side_key, 0.5, (most,)).astype(int)
    steady = walled_grid(slip=0.0, gamma=config.agent.gamma)
    demo_keys = jax.random.split(demo_key, most)
    demos = [
        collect(world, guides[sides], demo_keys, steps=config.steps) for world in (grid, steady)
    ]
    free = jnp.where(grid.walls, -jnp.inf, 0.0)
    targets = jax.random.categorical(target_key, free, shape=(walks,))
    keys = jax.random.split(walk_key, walks)
    walked = [
        collect(grid, directed_walk(rho=rho)[targets], keys, steps=config.steps)
        for rho in config.rhos
    ]
    return tuple(jax.tree.map(lambda *leaves: jnp.stack(leaves), *each) for each in (demos, walked))


def improve(
    config: Config, grid: WalledGrid, data: tuple[Replay, Replay], cell: Cell, key: jax.Array
) -> dict[str, jax.Array]:
    """Iterations of plan, roll out, add: [iterations, episodes] records, [iterations] set sizes."""
    demos, walks = (
        jax.tree.map(lambda leaf, which=which: leaf[which], each)
        for each, which in zip(data, (cell.steady, cell.rho), strict=True)
    )
    replay, row = begin(demos, walks, cell, config.iterations * config.episodes)

    def iterate(replay, time):
        now = jax.random.fold_in(key, time)
        kept = kept_rows(replay, cell, jax.random.fold_in(now, config.episodes))
        logps = safe_set.safe_policy(replay, kept, NUM_STATES, 4, config=config.agent)
        keys = jax.random.split(now, config.episodes)
        shape = (config.episodes, *logps.shape)
        episodes = collect(grid, jnp.broadcast_to(logps, shape), keys, steps=config.steps)
        safe = safe_set.safe_set(
            replay,
            kept,
            NUM_STATES,
            gamma=config.agent.safe_gamma,
            floor=config.agent.threshold,
        )
        told = {
            "length": jnp.where(episodes.successes, safe_set.lengths(episodes), config.steps),
            "success": episodes.successes,
            "violation": episodes.violations,
            "safe cells": jnp.sum(safe > 0),
        }
        return safe_set.add(replay, episodes, row + time * config.episodes), told

    return jax.lax.scan(iterate, replay, jnp.arange(config.iterations))[1]


def run_grid(config: Config) -> dict[str, np.ndarray]:
    """What `claims.Sweep` has of the grid."""
    with jax.enable_x64(True):
        grid = walled_grid(slip=config.slip, gamma=config.agent.gamma)
        keys = jax.random.split(jax.random.key(config.seed), (2, config.num_seeds))
        data = jax.jit(jax.vmap(partial(offline, config, grid)))(keys[0])
        sweep = jax.tree.map(lambda *column: jnp.asarray(column), *grid_cells(config))
        over_seeds = jax.vmap(partial(improve, config, grid), (0, None, 0))
        told = jax.jit(lambda data, keys: jax.lax.map(lambda c: over_seeds(data, c, keys), sweep))(
            data, keys[1]
        )
        demos, walks = data
        found = {
            **told,
            "demo length": demos.mask[:, 0].sum(-1),
            "demo success": demos.successes[:, 0],
            "walk success": walks.successes,
            "walk violation": walks.violations,
        }
        return jax.tree.map(np.asarray, found)
