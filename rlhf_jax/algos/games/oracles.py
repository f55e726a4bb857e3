"""Oracles of a preference game: `oracle(opponent_logps [*B, n], key) -> win rates [*B, n]`.

u(y) = P(y > q), the probability that an answer beats one drawn from the opponent q, or an unbiased
estimate of it. Methods know the game only through this call, so a learned model with the same
signature can replace a matrix. Leading axes of `prefs` broadcast against those of the opponent. For
opponents with a player axis, [*B, N, n], give prefs [*B, 1, n, n], or [*B, N, n, n] if each player
has a game of its own.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlhf_jax.algos.games.many import (
    answers_first,
    answers_last,
    columnwise_win_rates,
    many_small,
)
from rlhf_jax.checks import check_range
from rlhf_jax.ops.games import win_rates
from rlhf_jax.ops.multiplayer import players_win_rates

Oracle = Callable[[Array, jax.Array], Array]


def exact_oracle(prefs: Float[Array, "*P n n"]) -> Oracle:
    """Win rates from the matrix: u = P q. The key is not used.

    Args:
      prefs: [*P, n, n], row beats column, in [0, 1], P + P^T = 1.
    Returns:
      `oracle(opponent_logps [*B, n], key) -> [*B, n]` in [0, 1], multiplied at full precision on
      every device.
    """
    # Turned here, outside the loop that calls the oracle.
    columns = answers_first(prefs, 2) if many_small(prefs[..., 0]) else None

    def oracle(opponent_logps: Float[Array, "*B n"], key: jax.Array | None) -> Float[Array, "*B n"]:
        del key
        if columns is not None and opponent_logps.shape == prefs.shape[:-1]:
            probs = jnp.exp(answers_first(opponent_logps))
            return answers_last(columnwise_win_rates(columns, probs))
        return win_rates(prefs, jnp.exp(opponent_logps))

    return oracle


def sampled_oracle(prefs: Float[Array, "*P n n"], *, samples: int) -> Oracle:
    """Win probabilities against a few answers of the opponent.

    u(y) = (1/m) sum_k P(y > y_k),   y_1 .. y_m drawn from q, the same ones for every y.

    Args:
      prefs: [*P, n, n], row beats column, in [0, 1], P + P^T = 1.
      samples: m >= 1, number of answers drawn from the opponent in each call.
    Returns:
      `oracle(opponent_logps [*B, n], key) -> [*B, n]` in [0, 1], with mean P q.
    """
    _check_samples(samples)

    def oracle(opponent_logps: Float[Array, "*B n"], key: jax.Array) -> Float[Array, "*B n"]:
        answers = _draw(opponent_logps, key, samples)
        drawn = jax.nn.one_hot(answers, opponent_logps.shape[-1], dtype=opponent_logps.dtype)
        return win_rates(prefs, jnp.mean(drawn, axis=-2))

    return oracle


def labelled_oracle(prefs: Float[Array, "*P n n"], *, samples: int) -> Oracle:
    """Share of wins against a few answers of the opponent, from binary labels like a human judge's.

    u(y) = (1/m) sum_k I_k(y),   y_k drawn from q, I_k(y) = 1 with probability P(y > y_k).

    Args:
      prefs: [*P, n, n], row beats column, in [0, 1], P + P^T = 1.
      samples: m >= 1, number of answers drawn from the opponent in each call, shared by all y.
    Returns:
      `oracle(opponent_logps [*B, n], key) -> [*B, n]`, multiples of 1 / m, with mean P q; the
      labels of a call are independent given the answers.
    """
    _check_samples(samples)

    def oracle(opponent_logps: Float[Array, "*B n"], key: jax.Array) -> Float[Array, "*B n"]:
        answer_key, label_key = jax.random.split(key)
        answers = _draw(opponent_logps, answer_key, samples)
        size = opponent_logps.shape[-1]
        games = jnp.broadcast_to(prefs, (*opponent_logps.shape, size))
        chances = jnp.take_along_axis(games, answers[..., None, :], axis=-1)
        wins = jax.random.bernoulli(label_key, chances)
        return jnp.mean(wins, axis=-1, dtype=opponent_logps.dtype)

    return oracle


def players_oracle(prefs: Float[Array, "*P"]) -> Oracle:
    """Exact chances against many: u_i(y) = P_i(y > one answer of each other player).

    With it `mirror_descent` gives each player of Eq. 7 of MNPO a step from its own policy, and
    `ht_mnpo` one from the mean of the others. Players that start alike and share a game stay alike:
    self-play. The key is not used.

    Args:
      prefs: [*P, N, A, ..., A] or [*P, 1, A, ..., A] with N axes of answers, see `ops.multiplayer`.
    Returns:
      `oracle(logps [*B, N, A], key) -> [*B, N, A]`, of all players, none of them left out.
    Reference: Wu et al. 2025, arXiv:2509.23102, Eqs. 5 to 7.
    """

    def oracle(logps: Float[Array, "*B N A"], key: jax.Array | None) -> Float[Array, "*B N A"]:
        del key
        return players_win_rates(prefs, jnp.exp(logps))

    return oracle


def named_oracle(prefs: Float[Array, "*A"], *, samples: int) -> Oracle:
    """Self-play on calls of a judge that names the best of n answers of one policy.

    u(y) = share of the copies of y that were named, 1 / n where no call has y.

    Each of m calls draws n answers from the policy and names one of them: a call of two players is
    a binary label. Given that y was drawn, u(y) has the mean P(y > n - 1 answers of the policy).

    Args:
      prefs: [A, ..., A], n axes of answers, see `ops.multiplayer`.
      samples: m >= 1, calls of the judge in each call of the oracle.
    Returns:
      `oracle(logps [*B, A], key) -> [*B, A]` in [0, 1].
    """
    _check_samples(samples)
    players = prefs.ndim

    def oracle(logps: Float[Array, "*B A"], key: jax.Array) -> Float[Array, "*B A"]:
        answer_key, judge_key = jax.random.split(key)
        drawn = _draw(logps, answer_key, samples * players)
        seats = drawn.reshape(*drawn.shape[:-1], samples, players)
        turned = [jnp.roll(seats, -seat, axis=-1) for seat in range(players)]
        chances = jnp.stack([prefs[tuple(jnp.moveaxis(y, -1, 0))] for y in turned], axis=-1)
        named = jax.random.categorical(judge_key, jnp.log(chances), axis=-1)
        won = jax.nn.one_hot(named, players, dtype=logps.dtype)
        there = jax.nn.one_hot(seats, logps.shape[-1], dtype=logps.dtype)  # [*B, m, n, A]
        copies = jnp.sum(there, axis=(-3, -2))
        wins = jnp.sum(there * won[..., None], axis=(-3, -2))
        return jnp.where(copies > 0, wins / jnp.maximum(copies, 1.0), 1.0 / players)

    return oracle


def _draw(logps: Float[Array, "*B n"], key: jax.Array, samples: int) -> Int[Array, "*B m"]:
    """Answers of the opponent."""
    shape = (samples, *logps.shape[:-1])
    return jnp.moveaxis(jax.random.categorical(key, logps, axis=-1, shape=shape), 0, -1)


def _check_samples(samples: int) -> None:
    check_range("[1, inf)", samples=samples)
