"""What is run on learned worlds: K, other scales of the reward, rankings."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.raft.config import Config
from experiments.raft.learners import draw_world, follow, ppo, raft
from rlhf_jax.policies.linear import linear_policy

KS = (1, 4, 8, 32)
PPO_KS = (8, 32)
SCALED_K = 8
Runs = dict[str, dict[str, np.ndarray]]


def world_keys(config: Config) -> tuple[jax.Array, jax.Array]:
    """Keys of the worlds and of the draws in them, [seeds] each."""
    keys = jax.random.split(
        jax.random.fold_in(jax.random.key(config.seed), 1), 2 * config.num_seeds
    )
    return keys[: config.num_seeds], keys[config.num_seeds :]


def scaled(rewards: jax.Array) -> jax.Array:
    """exp(3 r) - 7: the same order."""
    return jnp.exp(3.0 * rewards) - 7.0


def run_learning(config: Config) -> Runs:
    """name -> measure -> [seeds, stages + 1] with rewards as they are; the same draws for all."""
    return over_worlds(config, _learning)


def run_scales(config: Config) -> Runs:
    """The same for K = 8 with `scaled` rewards."""
    return over_worlds(config, _scales)


def run_rankings(config: Config) -> Runs:
    """The same for K = 8: local and global, with and without offsets of prompts; penalised."""
    return over_worlds(config, _rankings)


def over_worlds(config: Config, study: Callable[..., dict]) -> Runs:
    """The study of every world at once."""
    found = jax.jit(jax.vmap(partial(study, config)))(*world_keys(config))
    return jax.tree.map(np.asarray, found)


def _learning(config: Config, world_key: jax.Array, key: jax.Array) -> dict:
    world = draw_world(config, world_key)
    policy = linear_policy(world.features)
    run = partial(follow, config, world, world.rewards, key)
    found = {f"RAFT, K = {k}": run(raft(config, policy), k) for k in KS}
    return found | {f"PPO, K = {k}": run(ppo(config, policy), k) for k in PPO_KS}


def _scales(config: Config, world_key: jax.Array, key: jax.Array) -> dict:
    world = draw_world(config, world_key)
    policy = linear_policy(world.features)
    run = partial(follow, config, world, scaled(world.rewards), key, samples=SCALED_K)
    return {"RAFT": run(raft(config, policy)), "PPO": run(ppo(config, policy))}


def _rankings(config: Config, world_key: jax.Array, key: jax.Array) -> dict:
    world = draw_world(config, world_key)
    policy = linear_policy(world.features)
    run = partial(follow, config, world, key=key, samples=SCALED_K)
    local, everywhere = raft(config, policy), raft(config, policy, everywhere=True)
    offset = world.rewards + world.offsets[:, None]

    def penalised(beta: jax.Array) -> dict[str, jax.Array]:
        return run(world.rewards, learn=raft(config, policy, beta=beta))

    found = jax.vmap(penalised)(jnp.asarray(config.betas))
    return {
        "local, offsets": run(offset, learn=local),
        "global, offsets": run(offset, learn=everywhere),
        "global": run(world.rewards, learn=everywhere),
    } | {
        f"beta = {beta:g}": {name: x[i] for name, x in found.items()}
        for i, beta in enumerate(config.betas)
    }
