"""The same on a small transformer and strings of unequal length."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from experiments.pro.config import Config, Strings
from experiments.pro.methods import (
    PLAIN,
    PRO,
    SHUFFLED,
    Method,
    Setting,
    fit_all,
    make_update,
)
from rlhf_jax.algos import ranking
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.ops.logprobs import mean_logps
from rlhf_jax.ops.rankings import order_accuracy
from rlhf_jax.policies.language import language_policy, language_trajectory
from rlhf_jax.types import Params, Policy, Trajectory

NAMES = (PRO, PLAIN, SHUFFLED)
TEST_LENGTH = 8  # of a ranking that is measured


def make_policy(strings: Strings) -> Policy:
    """A transformer of one layer."""
    size = TransformerConfig(
        vocab_size=strings.symbols,
        d_model=strings.width,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=strings.width // 2,
        d_ff=2 * strings.width,
    )
    return language_policy(make_transformer(size))


def shown(ids: Array, mask: Array) -> Trajectory:
    """Answers [*B, T] to a prompt of one symbol, the same for all."""
    asked = jnp.zeros((*ids.shape[:-1], 1), jnp.int32)
    return language_trajectory(asked, jnp.ones_like(asked, bool), ids, mask)


def draw_values(key: jax.Array, strings: Strings) -> Array:
    """[symbols] what each is worth, with mean 0 and variance 1."""
    values = jax.random.normal(key, (strings.symbols,))
    return (values - values.mean()) / values.std()


def draw_lists(
    key: jax.Array, strings: Strings, values: Array, *, lists: int, size: int
) -> tuple[Trajectory, Array]:
    """Random strings [lists, size, T], and their rewards: sigmoid of twice the mean value."""
    id_key, length_key = jax.random.split(key)
    shape = (lists, size)
    ids = jax.random.randint(id_key, (*shape, strings.length), 0, strings.symbols)
    shortest = -(-strings.length // 2)
    lengths = jax.random.randint(length_key, (*shape, 1), shortest, strings.length + 1)
    mask = jnp.arange(strings.length) < lengths
    rewards = jax.nn.sigmoid(2.0 * jnp.mean(values[ids], axis=-1, where=mask))
    return shown(ids, mask), rewards


def train_strings(config: Config) -> dict[str, np.ndarray]:
    """Method -> [num_seeds, 2, 2] for the shortest and the longest ranking: accuracy and reward."""
    base = jax.random.fold_in(jax.random.key(config.seed), 1)
    keys = jax.random.split(base, config.strings.num_seeds)
    ends = (config.lengths[0], config.lengths[-1])
    return dict(fit_all(NAMES, ends, partial(partial, fit, config), keys))


def fit(config: Config, method: Method, setting: Setting, key: jax.Array) -> jax.Array:
    """[2] measures of the policy that was trained on the first strings of each list."""
    strings = config.strings
    keys = jax.random.split(key, 6)
    values = draw_values(keys[5], strings)
    shape = {"lists": strings.lists, "size": config.lengths[-1]}
    answers, rewards = draw_lists(keys[0], strings, values, **shape)
    unknowing = jax.random.uniform(keys[1], rewards.shape)
    rewards = jnp.where(setting.shuffled > 0, unknowing, rewards)
    counted = jnp.broadcast_to(jnp.arange(rewards.shape[1]) < setting.length, rewards.shape)
    batch = ranking.rank_lists(answers, rewards, counted, ties=bool(method.reads))
    policy, optimizer = make_policy(strings), optax.adam(strings.adam_rate)
    update = make_update(policy, optimizer, method, setting, sft_weight=config.sft_weight)
    state = init_state(policy.init(keys[2]), optimizer)
    state, _ = jax.lax.scan(lambda x, _: (update(x, batch)[0], None), state, length=strings.steps)
    test = draw_lists(keys[3], strings, values, lists=strings.test_lists, size=TEST_LENGTH)
    accuracy = list_accuracy(policy, state.params, *test)
    return jnp.stack([accuracy, sampled_value(policy, strings, values, state.params, keys[4])])


def list_accuracy(policy: Policy, params: Params, answers: Trajectory, rewards: Array) -> jax.Array:
    """Pairs in the order of the rewards by log pi / |y|."""
    token_logps = policy.logps(params, answers.inputs, answers.actions)
    values = mean_logps(token_logps, answers.mask)
    found = order_accuracy(values, rewards, jnp.ones(rewards.shape, bool))
    return jnp.sum(found.total) / jnp.sum(found.weight)


def sampled_value(
    policy: Policy, strings: Strings, values: Array, params: Params, key: jax.Array
) -> jax.Array:
    """Mean value of a symbol in the policy's own strings of the full length."""
    ids = jnp.zeros((strings.samples, strings.length), jnp.int32)

    def draw(ids: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        t, each = step
        logits = policy.logits(params, shown(ids, jnp.ones(ids.shape, bool)).inputs)
        drawn = jax.random.categorical(each, jnp.take(logits, t, axis=-2))
        return ids.at[:, t].set(drawn), None

    steps = (jnp.arange(strings.length), jax.random.split(key, strings.length))
    ids, _ = jax.lax.scan(draw, ids, steps)
    return jnp.mean(values[ids])
