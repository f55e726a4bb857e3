"""Rounds of INPO on a table, exactly solved, on any pairs; and of iterative DPO beside it.

One game: P [n, n], log mu [n], log pi [n]. W [n, n] is what a round learns from: the share of pairs
that the first answer, the row, won against the second.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlhf_jax.losses.games import inpo_loss


class Game(NamedTuple):
    """P [n, n] and log mu [n], the KL weight beta (tau) and the step eta (the paper's 1 / eta)."""

    prefs: jax.Array
    ref_logps: jax.Array
    beta: jax.Array | float
    eta: jax.Array | float


def all_pairs(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """First and second [n, n] of every ordered pair, from [n]."""
    shape = (x.size, x.size)
    return jnp.broadcast_to(x[:, None], shape), jnp.broadcast_to(x[None, :], shape)


def mean_loss(game: Game, logps: jax.Array, old_logps: jax.Array, wins: jax.Array) -> jax.Array:
    """Eq. 8: the mean of `inpo_loss` over winners and losers."""
    old_first, old_second = all_pairs(old_logps)
    losses = inpo_loss(
        *all_pairs(logps),
        *all_pairs(game.ref_logps),
        old_first - old_second,
        beta=game.beta,
        eta=game.eta,
    )
    return jnp.sum(wins * losses)


def solve(game: Game, old_logps: jax.Array, wins: jax.Array) -> jax.Array:
    """The minimiser of Eq. 8 nearest to pi_t, as log-probs.

    The loss is quadratic in the log-probs, so one Newton step is all; an answer that no pair has
    stays where it was.
    """

    def loss(logps):
        return mean_loss(game, logps, old_logps, wins)

    inverse = jnp.linalg.pinv(jax.hessian(loss)(old_logps), hermitian=True)
    return jax.nn.log_softmax(old_logps - inverse @ jax.grad(loss)(old_logps))


def exact_wins(game: Game, logps: jax.Array) -> jax.Array:
    """W of all iid pairs from pi, labelled by P: (y, z) and (z, y) are the same pair."""
    return 2.0 * game.prefs * jnp.exp(sum(all_pairs(logps)))


def uniform_wins(game: Game) -> jax.Array:
    """W of uniform pairs: not the opponent's."""
    return 2.0 * game.prefs / game.prefs.size


def sampled_wins(game: Game, logps: jax.Array, key: jax.Array, pairs: int) -> jax.Array:
    """W of iid pairs from pi, each labelled once: a bit."""
    pair_key, label_key = jax.random.split(key)
    first, second = jax.random.categorical(pair_key, logps, shape=(2, pairs))
    won = jax.random.bernoulli(label_key, game.prefs[first, second])
    return counted(game, jnp.where(won, first, second), jnp.where(won, second, first))


def best_and_worst(game: Game, logps: jax.Array, key: jax.Array, pairs: int, k: int) -> jax.Array:
    """W of the best against the worst of k answers from pi, by their win rates among themselves.

    With k = 2 a pair whose label is not drawn: the better answer wins. Ties go to the first.
    """
    answers = jax.random.categorical(key, logps, shape=(pairs, k))
    scores = jnp.mean(game.prefs[answers[:, :, None], answers[:, None, :]], axis=-1)
    rows = jnp.arange(pairs)
    best, worst = answers[rows, scores.argmax(-1)], answers[rows, scores.argmin(-1)]
    return counted(game, best, worst)


def counted(game: Game, winners: jax.Array, losers: jax.Array) -> jax.Array:
    """Shares [n, n] of pairs [N]."""
    return jnp.zeros_like(game.prefs).at[winners, losers].add(1.0 / winners.size)


def dpo_round(game: Game, logps: jax.Array) -> jax.Array:
    """Iterative DPO solved: the Bradley-Terry fit r to all pairs of pi, then mu exp(r / beta).

    The fit by minorisation (Hunter 2004), in the population: the share of wins of an answer is
    (P pi)(y), and pi(y) itself cancels, so that it is defined at the vertices too.
    """
    probs, wins = jnp.exp(logps), game.prefs @ jnp.exp(logps)

    def improve(_, strengths):
        met = jnp.sum(probs / (strengths[:, None] + strengths[None, :]), axis=-1)
        strengths = wins / met
        return strengths / jnp.sum(strengths)

    strengths = jax.lax.fori_loop(0, 300, improve, jnp.full_like(probs, 1.0 / probs.size))
    return jax.nn.log_softmax(game.ref_logps + jnp.log(strengths) / game.beta)


def play(advance: Callable, start: jax.Array, key: jax.Array, rounds: int) -> jax.Array:
    """log pi [rounds + 1, *start] of `advance(logps, key) -> logps`, the start included."""

    def one(logps, t):
        return advance(logps, jax.random.fold_in(key, t)), logps

    return jax.lax.scan(one, start, jnp.arange(rounds + 1))[1]
