"""Every variant under every condition, all bandits at once."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax

from experiments.dpo_survey.config import Config
from experiments.dpo_survey.variants import Trainer, Variant
from experiments.dpo_survey.worlds import (
    Worlds,
    conditions,
    draw_counts,
    draw_worlds,
    label_probs,
    uniform_pairs,
)
from rlhf_jax.envs.bandit import all_actions, bandit_trajectory
from rlhf_jax.types import PreferenceBatch


def train_variant(config: Config, variant: Variant) -> np.ndarray:
    """[C, N, S, A] log-probs at the end, for each condition and each seed."""
    worlds = draw_worlds(config)
    names = conditions(config)
    every = Worlds(*(np.tile(x, (len(names), 1, 1)) for x in worlds))  # [C N, S, A]
    trainer = variant.train(config)
    rounds = 1 if variant.asks is None else config.rounds
    state = jax.vmap(trainer.init)(jnp.asarray(every.ref_logps, jnp.float32))
    fit = jax.jit(jax.vmap(lambda *x: fit_pairs(trainer, config.steps // rounds, *x)))
    rng = np.random.default_rng([config.seed, 1])
    pairs = uniform_pairs(every.rewards.shape)
    counts, logps = np.zeros(pairs.shape), every.ref_logps
    for k in range(rounds):
        if k and variant.asks is not None:
            pairs = variant.asks(config, logps, every.ref_logps)
        counts += buy_labels(config, worlds, rng, pairs, rounds)
        arrays = (every.ref_logps, every.lengths, counts)
        state = fit(state, *(jnp.asarray(x, jnp.float32) for x in arrays))
        logps = log_softmax(np.asarray(trainer.params(state), np.float64), axis=-1)
    return logps.reshape(len(names), *worlds.rewards.shape)


def buy_labels(
    config: Config, worlds: Worlds, rng: np.random.Generator, pairs: np.ndarray, rounds: int
) -> np.ndarray:
    """[C N, S, A, A] counts of one round's pairs, each condition with its own labels."""
    names = conditions(config)
    split = np.split(pairs, len(names))
    found = [
        draw_counts(rng, shown, label_probs(worlds, condition), condition.pairs // rounds)
        for condition, shown in zip(names.values(), split, strict=True)
    ]
    return np.concatenate(found)


def fit_pairs(
    trainer: Trainer, steps: int, state, ref_logps: jax.Array, lengths: jax.Array, counts: jax.Array
):
    """The state after so many updates on all pairs of one bandit, weighted by their counts."""
    batch = pair_batch(ref_logps, lengths, counts)
    return jax.lax.scan(lambda s, _: (trainer.update(s, batch)[0], None), state, None, steps)[0]


def pair_batch(ref_logps: jax.Array, lengths: jax.Array, counts: jax.Array) -> PreferenceBatch:
    """Every ordered pair of answers to every prompt, [S, A, A], row chosen and column rejected."""
    size = ref_logps.shape[-1]

    def spread(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        rows = jnp.broadcast_to(x[:, :, None], (*x.shape, size))
        return rows, jnp.swapaxes(rows, 1, 2)

    states, actions = all_actions(*ref_logps.shape)
    (prompts, _), (chosen, rejected) = spread(states), spread(actions)
    columns = dict(zip(("chosen_lengths", "rejected_lengths"), spread(lengths), strict=True))
    answers = (bandit_trajectory(prompts, x) for x in (chosen, rejected))
    return PreferenceBatch(*answers, *spread(ref_logps), weights=counts, columns=columns)
