"""Exact rounds on a table: the law of the best of K, iterated, its divergence, its ties."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.raft.config import Config
from rlhf_jax.exact.best_of import best_of_law
from rlhf_jax.ops.kl import exact_kl
from rlhf_jax.ops.selection import best_answers

KS, ROUNDS = (4, 8), 3
TIED_PROBS = (0.1, 0.2, 0.3, 0.4)
TIED_SCORES = (1.0, 3.0, 3.0, 2.0)
TIED_K = 4


def run_rounds(config: Config) -> dict[str, np.ndarray]:
    """[seeds, K, rounds]: "power", the largest difference of T rounds and one round of K^T;
    "product", of T rounds and one round of K T; "kl" to the start."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(partial(rounds_of, config)))(keys))


def rounds_of(config: Config, key: jax.Array) -> dict[str, jax.Array]:
    """The same of one table, [K, rounds]."""
    prob_key, score_key = jax.random.split(key)
    probs = jax.random.dirichlet(prob_key, jnp.ones(config.table_answers))
    scores = jax.random.normal(score_key, (config.table_answers,))
    rows = []
    for k in KS:
        law = probs
        for t in range(1, ROUNDS + 1):
            law = best_of_law(law, scores, n=k)
            others = (best_of_law(probs, scores, n=n) for n in (k**t, k * t))
            rows.append(
                [
                    *(jnp.max(jnp.abs(law - x)) for x in others),
                    exact_kl(jnp.log(law), jnp.log(probs)),
                ]
            )
    found = jnp.asarray(rows).reshape(len(KS), ROUNDS, 3)
    return {name: found[..., i] for i, name in enumerate(("power", "product", "kl"))}


def continuous_kl(k: int, rounds: int) -> float:
    """T log K - 1 + K^-T: of T rounds where no two answers are equal."""
    return rounds * float(np.log(k)) - 1.0 + float(k) ** -rounds


def run_ties(config: Config) -> dict[str, np.ndarray]:
    """[4] laws of the best of 4 on answers of which two have equal scores: "drawn", "exact", and
    "even", which would split a level evenly."""
    key = jax.random.key(config.seed)
    return jax.tree.map(np.asarray, jax.jit(partial(tie_laws, config))(key))


def tie_laws(config: Config, key: jax.Array) -> dict[str, jax.Array]:
    """The same of `draws` draws."""
    probs, scores = jnp.asarray(TIED_PROBS), jnp.asarray(TIED_SCORES)
    draws = jax.random.categorical(key, jnp.log(probs), shape=(config.draws, TIED_K))
    index = best_answers(scores[draws]).index
    chosen = jnp.take_along_axis(draws, index[:, None], axis=1)[:, 0]
    exact = best_of_law(probs, scores, n=TIED_K)
    same = scores[:, None] == scores
    return {
        "drawn": jnp.bincount(chosen, length=len(probs)) / config.draws,
        "exact": exact,
        "even": (same @ exact) / same.sum(1),
    }
