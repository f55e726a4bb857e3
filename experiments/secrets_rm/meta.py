"""MetaRM on answers that a policy has shifted: one shift, and three rounds of policy and model."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from experiments.secrets_rm.config import Config
from experiments.secrets_rm.worlds import (
    FEATURES,
    Gold,
    accuracy,
    adam,
    as_answers,
    fit_epochs,
    gold_pairs,
    make_gold,
    tanh_reward,
    turned,
    wrong_labels,
)
from rlhf_jax.algos import meta_reward, reward_model
from rlhf_jax.algos.gradient import Diagnostics, gradient_step, init_state
from rlhf_jax.algos.meta_reward import MetaBatch, mean_spread
from rlhf_jax.ops.masking import Mean
from rlhf_jax.types import Params, PreferenceBatch, RewardFn, TrainState, Update

METHODS = ("Bradley-Terry", "MetaRM", "direct")
MEASURES = ("shifted accuracy", "accuracy", "shifted gap", "J")


def make_direct(
    reward: RewardFn, optimizer: optax.GradientTransformation, weight: float
) -> Update[TrainState, MetaBatch]:
    """L - weight J in one step: what a larger spread asks for."""
    objective = reward_model.make_objective(reward)

    def update(state: TrainState, batch: MetaBatch) -> tuple[TrainState, Diagnostics]:
        def total(params: Params) -> tuple[Mean, Diagnostics]:
            loss, diagnostics = objective(params, batch.pairs)
            spread = mean_spread(reward, params, batch.answers)
            return Mean(loss.total - weight * spread * loss.weight, loss.weight), diagnostics

        return gradient_step(state, total, optimizer)

    return update


def fit_meta(
    key: Key[Array, ""],
    pairs: PreferenceBatch,
    answers: Float[Array, "N K d"],
    config: Config,
    make_update: Callable[..., Update[TrainState, MetaBatch]],
) -> Params:
    """A reward model from a fresh start, by `make_update(reward, optimizer)`."""
    reward, optimizer = tanh_reward(config.width), adam(config.rate)

    def take(rows: Array, _: Array) -> MetaBatch:
        return MetaBatch(jax.tree.map(lambda x: x[rows], pairs), as_answers(answers[rows]))

    init_key, fit_key = jax.random.split(key)
    state, _ = fit_epochs(
        fit_key,
        make_update(reward, optimizer),
        init_state(reward.init(init_key), optimizer),
        len(answers),
        take,
        lambda state: jnp.zeros(()),
        epochs=config.meta.epochs,
        batch=config.batch,
    )
    return state.params


def measured(
    params: Params,
    gold: Gold,
    test: PreferenceBatch,
    shifted: Float[Array, "N K d"],
    config: Config,
) -> Float[Array, "4"]:
    """The numbers of MEASURES; the gap is the mean |r - r'| of two shifted answers."""
    reward = tanh_reward(config.width)
    away = gold_pairs(gold, shifted[:, :2])
    gaps = reward.scores(params, away.chosen) - reward.scores(params, away.rejected)
    return jnp.stack(
        [
            accuracy(reward, params, away),
            accuracy(reward, params, test),
            jnp.mean(jnp.abs(gaps)),
            mean_spread(reward, params, as_answers(shifted)),
        ]
    )


def labelled(key: Key[Array, ""], gold: Gold, config: Config) -> PreferenceBatch:
    """Noisy pairs of standard normal items."""
    sizes, keys = config.meta, jax.random.split(key)
    items = jax.random.normal(keys[0], (sizes.pairs, 2, FEATURES))
    wrong = wrong_labels(keys[1], count=sizes.pairs, share=sizes.noise)
    return turned(gold_pairs(gold, items), wrong)


def shift_once(key: Key[Array, ""], config: Config) -> Float[Array, "methods 4"]:
    """One shifted cloud, never labelled: METHODS by MEASURES."""
    sizes, keys = config.meta, jax.random.split(key, 7)
    gold = make_gold(keys[0])
    pairs = labelled(keys[1], gold, config)
    unit = jax.random.normal(keys[2], (FEATURES,))
    centre = sizes.shift * unit / jnp.linalg.norm(unit)

    def cloud(key: Array, count: int) -> Array:
        noise = jax.random.normal(key, (count, sizes.answers, FEATURES))
        return centre + sizes.width * noise

    test_items = jax.random.normal(keys[3], (config.test_pairs, 2, FEATURES))
    test, shifted = gold_pairs(gold, test_items), cloud(keys[4], config.test_pairs)

    def method(make_update: Callable[..., Update[TrainState, MetaBatch]]) -> Array:
        unlabelled = cloud(keys[5], sizes.pairs)
        params = fit_meta(keys[6], pairs, unlabelled, config, make_update)
        return measured(params, gold, test, shifted, config)

    def ascent(eta: Array) -> Array:
        return method(partial(meta_reward.make_update, eta=eta))

    both = jax.vmap(ascent)(jnp.array([0.0, sizes.eta]))
    direct = method(partial(make_direct, weight=sizes.direct))
    return jnp.concatenate([both, direct[None]])


def improved(key: Key[Array, ""], params: Params, config: Config) -> Float[Array, "d"]:
    """Mean of a policy N(m, I) trained against a reward model from m = 0: each step moves m to the
    mean of the best share of its answers."""
    reward, sizes = tanh_reward(config.width), config.meta

    def step(mean: Array, key: Array) -> tuple[Array, None]:
        items = mean + jax.random.normal(key, (config.test_pairs, FEATURES))
        _, best = jax.lax.top_k(reward.scores(params, as_answers(items)), _best(config))
        return items[best].mean(0), None

    return jax.lax.scan(step, jnp.zeros(FEATURES), jax.random.split(key, sizes.steps))[0]


def _best(config: Config) -> int:
    return max(1, round(config.meta.best * config.test_pairs))


def rounds(key: Key[Array, ""], eta: Array, config: Config) -> dict[str, Array]:
    """The rounds at one eta: the model is retrained from its start on the same pairs and on answers
    of the last policy, then a policy is trained against it from its start.

    Returns:
      measures [rounds, 4] on answers of the new policy; gold [rounds], their mean gold score.
    """
    sizes, keys = config.meta, jax.random.split(key, 5)
    gold = make_gold(keys[0])
    pairs = labelled(keys[1], gold, config)
    test_items = jax.random.normal(keys[2], (config.test_pairs, 2, FEATURES))
    test = gold_pairs(gold, test_items)

    def play(mean: Array, number: Array) -> tuple[Array, dict[str, Array]]:
        draws = jax.random.split(jax.random.fold_in(keys[3], number), 3)

        def answers(key: Array, mean: Array, count: int) -> Array:
            return mean + jax.random.normal(key, (count, sizes.answers, FEATURES))

        unlabelled = answers(draws[0], mean, sizes.pairs)
        ascent = partial(meta_reward.make_update, eta=eta)
        params = fit_meta(keys[4], pairs, unlabelled, config, ascent)
        mean = improved(draws[1], params, config)
        seen = answers(draws[2], mean, config.test_pairs)
        numbers = measured(params, gold, test, seen, config)
        return mean, {"measures": numbers, "gold": jnp.mean(gold.scores(seen))}

    return jax.lax.scan(play, jnp.zeros(FEATURES), jnp.arange(sizes.rounds))[1]


def meta_study(config: Config) -> dict[str, np.ndarray]:
    """shift: [seeds, METHODS, MEASURES]. rounds: [seeds, 2, rounds, MEASURES] at eta 0 and eta;
    gold: [seeds, 2, rounds]."""
    keys = jax.random.split(jax.random.key(config.seed + 1), config.num_seeds)
    etas = jnp.array([0.0, config.meta.eta])

    @jax.jit
    def study(keys: Array) -> dict[str, Array]:
        shift = jax.lax.map(partial(shift_once, config=config), keys)
        each = jax.vmap(partial(rounds, config=config), in_axes=(None, 0))
        played = jax.lax.map(lambda key: each(key, etas), keys)
        return {"shift": shift, "rounds": played["measures"], "gold": played["gold"]}

    return jax.tree.map(np.asarray, study(keys))
