"""Sampled runs on a table: SuperHF and PPO over rates, and priors where training stops early."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from experiments.superhf.config import Config
from experiments.superhf.worlds import World, draw_world, measure, world_keys
from rlhf_jax.algos import online
from rlhf_jax.algos.best_of import make_prior_update, selected_answers
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.envs.bandit import bandit_trajectory
from rlhf_jax.losses.group_policy_gradient import dapo_loss
from rlhf_jax.losses.supervised import superhf_loss
from rlhf_jax.ops.kl import exact_kl, forward_kl, k1
from rlhf_jax.ops.masking import token_mean, whiten
from rlhf_jax.ops.selection import best_answers
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.types import PyTree, TrainState, Update

CLIP_EPS, REWARD_KL = 0.2, 0.1
DIRECTIONS = {"forward": forward_kl, "reverse": exact_kl}
Learn = Callable[[TrainState, jax.Array], TrainState]
Runs = dict[str, dict[str, np.ndarray]]


def follow(world: World, key: jax.Array, learn: Learn, rate: Array, count: int) -> dict[str, Array]:
    """Measures [count + 1] before each superbatch and at the end."""
    start = init_state(world.ref_logps, optax.sgd(rate))

    def one(state: TrainState, key: jax.Array) -> tuple[TrainState, dict[str, Array]]:
        return learn(state, key), measure(world, state.params)

    state, found = jax.lax.scan(one, start, jax.random.split(key, count))
    last = measure(world, state.params)
    return jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), found, last)


def draw(config: Config, logits: Array, key: jax.Array, samples: int) -> tuple[Array, Array]:
    """States and actions [S, samples]."""
    shape = (config.prompts, samples)
    states = jnp.broadcast_to(jnp.arange(config.prompts)[:, None], shape)
    return states, jax.random.categorical(key, logits[:, None], shape=shape)


def repeat(update: Update, state: TrainState, batch: PyTree, count: int) -> TrainState:
    """The state after this many updates on the same batch."""
    return jax.lax.scan(lambda s, _: (update(s, batch)[0], None), state, length=count)[0]


def superhf_learn(
    config: Config, world: World, rate: Array, *, beta: Array | float, direction: str = "forward"
) -> Learn:
    """One step of SGD on the best of each prompt's superbatch; the rate is that of a prompt."""
    policy = tabular_policy(*world.gold.shape)
    loss = partial(superhf_loss, beta=beta, divergence=DIRECTIONS[direction])
    update = make_prior_update(policy, optax.sgd(rate * config.prompts), loss)

    def learn(state: TrainState, key: jax.Array) -> TrainState:
        states, actions = draw(config, state.params, key, config.samples)
        best = best_answers(world.proxy[states, actions])
        answers = selected_answers(bandit_trajectory(states, actions), best)
        ref_logits = policy.logits(world.ref_logps, answers.inputs)
        return update(state, online.AnswerBatch(answers, {"ref_logits": ref_logits}))[0]

    return learn


def ppo_learn(config: Config, world: World, rate: Array) -> Learn:
    """Epochs of SGD on one answer to each prompt; whitened advantages, the KL in the reward."""
    policy = tabular_policy(*world.gold.shape)
    loss = partial(dapo_loss, clip_eps_low=CLIP_EPS, clip_eps_high=CLIP_EPS)
    optimizer = optax.sgd(rate * config.prompts)
    update = online.make_answer_update(policy, optimizer, loss, reduction=token_mean)

    def learn(state: TrainState, key: jax.Array) -> TrainState:
        states, actions = (x[:, 0] for x in draw(config, state.params, key, 1))
        logps, ref = (
            jax.nn.log_softmax(x)[states, actions] for x in (state.params, world.ref_logps)
        )
        rewards = world.proxy[states, actions] - REWARD_KL * k1(logps, ref)
        columns = {
            "old_token_logps": logps[:, None],
            "advantages": whiten(rewards, jnp.ones_like(rewards, bool)),
        }
        batch = online.AnswerBatch(bandit_trajectory(states, actions), columns)
        return repeat(update, state, batch, config.epochs)

    return learn


def run_rates(config: Config, *, hack: float) -> Runs:
    """method -> measure -> [seeds, rates, superbatches + 1]; hack: mass on the overrated answer."""

    def one(world_key: jax.Array, key: jax.Array) -> dict:
        world = draw_world(config, world_key, hack=hack)

        def at(rate: Array) -> dict:
            methods = {
                "SuperHF": superhf_learn(config, world, rate, beta=config.beta),
                "PPO": ppo_learn(config, world, rate),
            }
            return {
                name: follow(world, key, learn, rate, config.superbatches)
                for name, learn in methods.items()
            }

        return jax.vmap(at)(jnp.asarray(config.rates))

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(*world_keys(config, 1)))


def run_early(config: Config) -> Runs:
    """direction -> measure -> [seeds, betas, early + 1]."""
    rate = jnp.asarray(config.early_rate)

    def one(world_key: jax.Array, key: jax.Array) -> dict:
        world = draw_world(config, world_key, hack=config.rare)

        def at(beta: Array) -> dict:
            return {
                name: follow(
                    world,
                    key,
                    superhf_learn(config, world, rate, beta=beta, direction=name),
                    rate,
                    config.early,
                )
                for name in DIRECTIONS
            }

        return jax.vmap(at)(jnp.asarray(config.early_betas))

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(*world_keys(config, 2)))
