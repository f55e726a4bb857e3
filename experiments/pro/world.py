"""Prompts with a few answers of random features, a noisy reward model, and log-linear policies."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.pro.config import Config
from experiments.pro.methods import METHODS, Method, Setting, fit_all, make_update
from rlhf_jax.algos import ranking
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.envs.bandit import bandit_trajectory
from rlhf_jax.ops.mismatch import order_accuracy
from rlhf_jax.policies.linear import linear_policy

MEASURES = ("accuracy", "reward")


class World(NamedTuple):
    """features [S, A, d] and gold [S, A] of training prompts, then test prompts.

    candidates: [P, K] answers to the training prompts that are ranked. scores: [P, K] of the reward
    model, in (0, 1). random_scores: [P, K] that know nothing.
    """

    features: jax.Array
    gold: jax.Array
    candidates: jax.Array
    scores: jax.Array
    random_scores: jax.Array


def make_world(key: jax.Array, config: Config) -> World:
    """gold = 1.5 phi . w; the reward model is sigmoid(gold + noise)."""
    keys = jax.random.split(key, 5)
    total, size = config.prompts + config.test_prompts, config.lengths[-1]
    features = jax.random.normal(keys[0], (total, config.answers, config.features))
    weights = jax.random.normal(keys[1], (config.features,)) / config.features**0.5
    gold = 1.5 * features @ weights
    shuffle = jax.vmap(partial(jax.random.permutation, x=config.answers))
    candidates = shuffle(jax.random.split(keys[2], config.prompts))[:, :size]
    error = config.noise * jax.random.normal(keys[3], candidates.shape)
    chosen = jnp.take_along_axis(gold[: config.prompts], candidates, axis=1)
    return World(
        features,
        gold,
        candidates,
        jax.nn.sigmoid(chosen + error),
        jax.random.uniform(keys[4], candidates.shape),
    )


def train_all(config: Config) -> dict[str, np.ndarray]:
    """Method -> [num_seeds, lengths, 2] accuracy and reward on the test prompts."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 0), config.num_seeds)
    worlds = jax.vmap(partial(make_world, config=config))(keys)
    names = tuple(METHODS)
    return dict(fit_all(names, config.lengths, partial(partial, fit, config), worlds))


def fit(config: Config, method: Method, setting: Setting, world: World) -> jax.Array:
    """[2] measures of the policy that was trained on the first candidates of each prompt."""
    policy = linear_policy(world.features[: config.prompts])
    optimizer = optax.sgd(config.rate)
    shape = world.candidates.shape
    states = jnp.broadcast_to(jnp.arange(config.prompts)[:, None], shape)
    answers = bandit_trajectory(states, world.candidates)
    scores = jnp.where(setting.shuffled > 0, world.random_scores, world.scores)
    counted = jnp.broadcast_to(jnp.arange(shape[1]) < setting.length, shape)
    batch = ranking.rank_lists(answers, scores, counted)
    update = make_update(policy, optimizer, method, setting, sft_weight=config.sft_weight)
    state = init_state(jnp.zeros(config.features), optimizer)
    state, _ = jax.lax.scan(lambda x, _: (update(x, batch)[0], None), state, length=config.steps)
    return measure(world, state.params, config.prompts)


def measure(world: World, params: jax.Array, skipped: int) -> jax.Array:
    """Pairs in gold's order by log pi, and E_pi[gold], on the prompts after the first ones."""
    gold = world.gold[skipped:]
    logps = jax.nn.log_softmax(world.features[skipped:] @ params)
    accuracy = order_accuracy(logps, gold)
    return jnp.stack([jnp.mean(accuracy), jnp.mean(jnp.sum(jnp.exp(logps) * gold, axis=1))])
