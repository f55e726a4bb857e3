"""Preference games: win rates, exploitability and the duality gap, from a matrix and a policy.

Shared arguments and results, unless a function says otherwise:
  prefs: [*P, n, n] P(row beats column), with P + P^T = 1.
  probs, other_probs: [*B, n] pi and [*D, n] pi', each sums to 1.
  logps, other_logps, ref_logps: [*B, n] log pi, [*D, n] log pi' and [*R, n] log mu, in nats.
  beta: KL weight, > 0; a paper's tau. May be traced.
Leading axes broadcast to *C: one game [n, n] and the policies of a run [T, n] give [T].
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.checks import check_range
from rlhf_jax.ops.kl import exact_kl
from rlhf_jax.ops.logprobs import tempered
from rlhf_jax.ops.masking import masked_mean
from rlhf_jax.types import Scalar


def win_rates(prefs: Float[Array, "*P n n"], probs: Float[Array, "*B n"]) -> Float[Array, "*C n"]:
    """Win rate of each answer against a policy: (P pi)(y) = P(y > pi), in [0, 1]."""
    # By default a GPU may round float32 factors to 10 bits.
    return jnp.einsum("...ab,...b->...a", prefs, probs, precision=jax.lax.Precision.HIGHEST)


def answer_win_rates(
    prefs: Float[Array, "*B K M"], mask: Bool[Array, "*B K M"] | None = None
) -> Float[Array, "*B K"]:
    """Win rate of each answer over the comparisons made: the reward of SPO.

    r_i = mean_j P(y_i > y_j),   over the j that the mask counts.

    Answers drawn from pi and compared with other answers from pi make it an unbiased estimate of
    P(y_i > pi). The mask says who is compared with whom:

        all pairs          None, K (K - 1) / 2 comparisons
        neighbours, ring   n | n.T,  n = jnp.roll(jnp.eye(K, dtype=bool), 1, axis=1); K comparisons
        a queue of M       jnp.ones((K, M), bool), False where an answer meets itself

    Args:
      prefs: [*B, K, M] in [0, 1], row beats column, a probability or a label; a tie is 1/2. Entries
        that the mask does not count never matter, NaN included.
      mask: [*B, K, M] True for comparisons that count. None: the columns are the answers
        themselves, M = K, and all pairs count except an answer with itself.
    Returns:
      [*B, K] in [0, 1]; 1/2 for an answer without comparisons. If P + P^T = 1 and the mask is
      symmetric, their mean, weighted by the number of comparisons, is 1/2. Payoffs in [-1, 1] are
      2 r - 1.
    Raises:
      ValueError: M != K and no mask (at trace time).
    Reference: Swamy et al. 2024, arXiv:2401.04056, for the reward and the queue.
    Departs: the paper's reward is the payoff 2 r - 1, spread evenly over the steps of a trajectory.
    """
    if mask is None:
        rows, columns = prefs.shape[-2:]
        if rows != columns:
            raise ValueError(f"prefs [..., {rows}, {columns}] is not square: a mask is needed")
        mask = jnp.broadcast_to(~jnp.eye(rows, dtype=bool), prefs.shape)
    # Measured from 1/2: the mean of no comparisons is 0.
    return 0.5 + masked_mean(prefs - 0.5, mask, axis=-1)


def score_win_rates(
    scores: Float[Array, "*B K"], reference_scores: Float[Array, "*B M"]
) -> Float[Array, "*B K"]:
    """Win rate of each answer over a reference set, under a Bradley-Terry model of the scores.

    r_i = mean_j sigmoid(s_i - s_j).

    In [0, 1] whatever the unit of the scores, and blind to a constant added to all of them: one
    scale for all users, as a policy that is conditioned on the user needs.

    Args:
      scores, reference_scores: [*B, K] s_i and [*B, M] s_j, e.g. of answers from the data.
    Reference: Poddar et al. 2024, arXiv:2408.10075 (VPL-SPO).
    Departs: the paper learns P(i beats j | z) by a classifier of both answers.
    """
    prefs = jax.nn.sigmoid(scores[..., :, None] - reference_scores[..., None, :])
    return answer_win_rates(prefs, jnp.ones_like(prefs, bool))


def win_rate(
    prefs: Float[Array, "*P n n"], probs: Float[Array, "*B n"], other_probs: Float[Array, "*D n"]
) -> Float[Array, "*C"]:
    """Win rate of one policy against another: P(pi > pi') = pi^T P pi', 1/2 against itself."""
    return jnp.sum(probs * win_rates(prefs, other_probs), axis=-1)


def exploitability(
    prefs: Float[Array, "*P n n"], probs: Float[Array, "*B n"]
) -> Float[Array, "*C"]:
    """Exploitability, two-sided: the gain of both players from a best response, the duality gap.

    gap = max_q P(q > pi) - min_q P(pi > q) = 2 (max_y P(y > pi) - 1/2).

    One side alone is half of it, and in payoffs 2 P - 1 it is twice as large. It is in [0, 1], and
    0 up to rounding exactly at a Nash policy.
    """
    best = jnp.max(win_rates(prefs, probs), axis=-1)
    # Not minus 1: probs, and with them the win rates, sum to 1 only up to rounding.
    return 2.0 * best - jnp.sum(probs, axis=-1)


def regularised_payoff(
    prefs: Float[Array, "*P n n"],
    logps: Float[Array, "*B n"],
    other_logps: Float[Array, "*D n"],
    ref_logps: Float[Array, "*R n"],
    *,
    beta: Scalar,
) -> Float[Array, "*C"]:
    """Payoff of the regularised game, to the player of pi against pi'.

    J(pi, pi') = P(pi > pi') - beta KL(pi || mu) + beta KL(pi' || mu).

    The sum is constant, J(pi, pi') + J(pi', pi) = 1. At the Nash policy pi* and any pi,
    J(pi*, pi) = 1/2 + beta KL(pi || pi*).

    Args:
      beta: KL weight, >= 0.
    Reference: Munos et al. 2023, arXiv:2312.00886, Eq. 2.
    """
    check_range("[0, inf)", beta=beta)
    rate = win_rate(prefs, jnp.exp(logps), jnp.exp(other_logps))
    shape = jnp.broadcast_shapes(logps.shape, other_logps.shape, ref_logps.shape)
    first, second, ref = (jnp.broadcast_to(x, shape) for x in (logps, other_logps, ref_logps))
    return rate - beta * exact_kl(first, ref) + beta * exact_kl(second, ref)


def regularised_best_response(
    prefs: Float[Array, "*P n n"],
    logps: Float[Array, "*B n"],
    ref_logps: Float[Array, "*R n"],
    *,
    beta: Scalar,
) -> Float[Array, "*C n"]:
    """Log-probs of the best response of the regularised game: log_softmax(log mu + P pi / beta).

    The Nash policy is its fixed point.
    """
    check_range("(0, inf)", beta=beta)
    rates = win_rates(prefs, jnp.exp(logps))
    return jax.nn.log_softmax(ref_logps + tempered(rates, temperature=beta), axis=-1)


def regularised_gap(
    prefs: Float[Array, "*P n n"],
    logps: Float[Array, "*B n"],
    ref_logps: Float[Array, "*R n"],
    *,
    beta: Scalar,
) -> Float[Array, "*C"]:
    """Duality gap of the regularised game, two-sided, in closed form.

    gap = max_q J(q, pi) - min_q J(pi, q) = 2 [beta log sum_y mu(y) e^(P(y > pi) / beta) - 1/2
    + beta KL(pi || mu)] = 2 beta KL(pi || best response to pi).

    It is at least 2 beta KL(pi || pi*), 0 at the Nash policy only, and infinite where pi has mass
    and mu has none. An answer that the reference never gives may have -inf in both log-probs.
    """
    # The last form, a sum of terms >= 0, resolves gaps far below the rounding of 1/2.
    best = regularised_best_response(prefs, logps, ref_logps, beta=beta)
    return 2.0 * beta * _close_kl(*jnp.broadcast_arrays(logps, best))


def _close_kl(logps: Float[Array, "*B n"], other_logps: Float[Array, "*B n"]) -> Float[Array, "*B"]:
    """KL(p || q) of two nearly equal policies: sum_y p (e^d - 1 - d), d = log q - log p."""
    probs, other = jnp.exp(logps), jnp.exp(other_logps)
    given = logps > -jnp.inf
    gap = jnp.where(given, other_logps, 0.0) - jnp.where(given, logps, 0.0)
    # expm1(d) - d keeps its digits for small d; for large d exp(d) could overflow.
    near = jnp.abs(gap) < 1.0
    small = jnp.where(near, gap, 0.0)
    terms = jnp.where(near, probs * (jnp.expm1(small) - small), other - probs - probs * gap)
    return jnp.sum(jnp.maximum(jnp.where(given, terms, other), 0.0), axis=-1)
