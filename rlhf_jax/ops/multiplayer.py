"""Games of n players: one answer against n - 1 others, and who of the n is named the best.

Shared arguments and results:
  prefs: [*P, A, ..., A], n axes of A answers: the chance that the answer of the first axis is named
    among n. It is symmetric in the other axes, and the chances of n answers sum to 1. With n = 2 it
    is the matrix of `ops.games`.
  probs, logps: [*B, n, A] the policies of the n players, the last axis but one. Leading axes
    broadcast; a game for each player is [*B, n, A, ..., A], one game for all of them has an axis of
    one there.
  ref_logps: [*R, A] log mu, in nats. beta: KL weight, > 0; the paper's tau. May be traced.
Reference: Wu et al. 2025, arXiv:2509.23102, Eqs. 5 to 9.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_range
from rlhf_jax.ops.kl import exact_kl
from rlhf_jax.ops.logprobs import tempered
from rlhf_jax.types import Scalar


def plackett_luce_prefs(scores: Float[Array, "*B A"], players: int) -> Float[Array, "..."]:
    """One answer against many under Plackett-Luce, for every tuple of answers, Eq. 6.

    P(y_1 > {y_2, ..., y_n}) = exp r(y_1) / sum_i exp r(y_i).

    With two players it is Bradley-Terry, sigmoid(r_i - r_j). A mean over the scores of several
    judges is a preference of their population, which no scores need to explain.

    Args:
      scores: [*B, A] r.
      players: n >= 2.
    Returns:
      [*B, A, ..., A] with n axes of answers.
    """
    check_range("[2, inf)", players=players)
    lead, answers = scores.shape[:-1], scores.shape[-1]
    shape = (*lead, *(answers,) * players)
    rows = [
        jnp.broadcast_to(scores.reshape(*lead, *_one_axis(answers, i, players)), shape)
        for i in range(players)
    ]
    return jax.nn.softmax(jnp.stack(rows), axis=0)[0]


def one_vs_many_win_rates(
    prefs: Float[Array, "*P"], other_probs: Float[Array, "*B M A"]
) -> Float[Array, "*C A"]:
    """Chance that each answer is named against one answer of each of M = n - 1 other players.

    u(y) = sum_{y_2, ..., y_n} P(y > {y_2, ..., y_n}) pi_2(y_2) ... pi_n(y_n),   exact.

    Args:
      prefs: n = M + 1 axes of answers, see the module.
      other_probs: [*B, M, A] policies of the others.
    """
    others, answers = other_probs.shape[-2:]
    for left in range(others, 0, -1):  # the last axis of answers is summed over
        probs = other_probs[..., left - 1, :]
        ones = (1,) * left
        prefs = jnp.sum(prefs * probs.reshape(*probs.shape[:-1], *ones, answers), axis=-1)
    return prefs


def players_win_rates(
    prefs: Float[Array, "*P"], probs: Float[Array, "*B n A"]
) -> Float[Array, "*C n A"]:
    """u_i [*C, n, A]: for each player, its answers' chances against the policies of the others.

    Args:
      prefs: [*P, n, A, ..., A] or [*P, 1, A, ..., A]: a game of each player, or one for all.
    Raises:
      ValueError: the axes of answers are not n + 1 with that of the players.
    """
    count, answers = probs.shape[-2:]
    sizes = prefs.shape[-count - 1 :]
    if sizes[:1] not in ((1,), (count,)) or sizes[1:] != (answers,) * count:
        raise ValueError(
            f"{count} players with {answers} answers need prefs [..., {count} or 1, "
            f"{', '.join([str(answers)] * count)}], got {prefs.shape}"
        )
    each = jnp.arange(count)
    others = (each[:, None] + jnp.arange(1, count)) % count  # [n, n - 1]
    return one_vs_many_win_rates(prefs, probs[..., others, :])


def players_gap(
    prefs: Float[Array, "*P"],
    logps: Float[Array, "*B n A"],
    ref_logps: Float[Array, "*R A"],
    *,
    beta: Scalar,
) -> Float[Array, "*C n"]:
    """What each player gains with its best response to the others, Eq. 9; one-sided.

    DualGap_i = max_q J_i(q) - J_i(pi_i) = beta KL(pi_i || best response),
    J_i(q) = E_q u_i - beta KL(q || mu),   best response = softmax(log mu + u_i / beta).

    All are 0 at an equilibrium only. Two players with one policy and one game have half of
    `ops.games.regularised_gap` each.

    Args:
      prefs: as in `players_win_rates`.
    """
    check_range("(0, inf)", beta=beta)
    rates = players_win_rates(prefs, jnp.exp(logps))
    best = jax.nn.log_softmax(ref_logps + tempered(rates, temperature=beta), axis=-1)
    return beta * exact_kl(*jnp.broadcast_arrays(logps, best))


def players_exploitability(
    prefs: Float[Array, "*P"], probs: Float[Array, "*B n A"]
) -> Float[Array, "*C n"]:
    """The same without KL: max_y u_i(y) - E_pi u_i, in [0, 1].

    Two players with one policy and one game have half of `ops.games.exploitability` each.
    """
    rates = players_win_rates(prefs, probs)
    return jnp.max(rates, axis=-1) - jnp.sum(probs * rates, axis=-1)


def _one_axis(size: int, axis: int, count: int) -> tuple[int, ...]:
    """A shape of `count` axes, all 1 but this one."""
    return tuple(size if i == axis else 1 for i in range(count))
