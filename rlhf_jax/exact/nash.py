"""Nash policies and maximal lotteries of preference games, by linear programs with a certificate.

On the host: arrays of any kind and precision in, NumPy float64 out. Preferences are first made
exactly complementary, (P + 1 - P^T) / 2, because float32 matrices are not. Then margins are scaled
so that the largest is 1/2: Nash policies do not depend on the scale, but the tolerances of a linear
program do.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy
from jax.typing import ArrayLike
from jaxtyping import Bool, Float64, Int

from rlhf_jax.envs.games import check_prefs

LP_TOLERANCE = 1e-10  # the smallest that HiGHS accepts
NASH_TOLERANCE = 1e-8  # largest accepted violation of a linear program's policy
RANK_TOLERANCE = 1e-7  # a singular value or a margin below it may be zero


class NashCertificate(NamedTuple):
    """How far a policy is from a Nash policy, measured on the preferences themselves.

    Attributes:
      violation: [*B] max(0, 1/2 - min_y P(pi > y)); half the exploitability.
      negativity: [*B] max(0, -min_y pi(y)).
      sum_error: [*B] |sum_y pi(y) - 1|.
    """

    violation: Float64[np.ndarray, "*B"]
    negativity: Float64[np.ndarray, "*B"]
    sum_error: Float64[np.ndarray, "*B"]


class LotterySet(NamedTuple):
    """Facts about the set of all maximal lotteries of a game.

    Attributes:
      violation: [*B] as in NashCertificate, of the lottery returned.
      support: [*B, n] answers in some maximal lottery; all others lose to the lottery returned.
      margin: [*B] smallest of pi(y) in the support and of P(pi > y) - 1/2 outside it, after scaling
        the largest margin of two answers to 1/2.
      dimension: [*B] of the set of maximal lotteries: 0 if it is unique, -1 if the margin or the
        rank is too close to zero to decide.
    """

    violation: Float64[np.ndarray, "*B"]
    support: Bool[np.ndarray, "*B n"]
    margin: Float64[np.ndarray, "*B"]
    dimension: Int[np.ndarray, "*B"]


def skew_part(prefs: ArrayLike) -> Float64[np.ndarray, "*B n n"]:
    """(P - P^T) / 2 = P - 1/2, the margins of a game, exactly skew-symmetric."""
    check_prefs(prefs)
    values = np.asarray(prefs, dtype=np.float64)
    return 0.5 * (values - np.swapaxes(values, -1, -2))


def _to_scale(skew: np.ndarray) -> np.ndarray:
    """Margins [*B, n, n] scaled so that the largest of each game is 1/2, or all are 0."""
    largest = np.max(np.abs(skew), axis=(-2, -1), keepdims=True)
    return 0.5 * skew / np.where(largest > 0, largest, 0.5)


def game_name(index: tuple[int, ...]) -> str:
    """Name of a game, by its index in the leading axes, for messages."""
    return f"game {index[0] if len(index) == 1 else index}" if index else "the game"


def certify_nash(prefs: ArrayLike, probs: ArrayLike) -> NashCertificate:
    """Measures how far policies are from Nash, independently of any solver.

    The value of the game is known to be 1/2, so a policy without violation is optimal; no dual
    solution is needed to prove it.

    Args:
      prefs: [*B, n, n], row beats column.
      probs: [*B, n].
    Raises:
      ValueError: as `check_prefs`.
    """
    values = np.asarray(probs, dtype=np.float64)
    wins = np.einsum("...a,...ab->...b", values, skew_part(prefs))
    return NashCertificate(
        np.asarray(np.maximum(0.0, -wins.min(-1)) + 0.0),
        np.asarray(np.maximum(0.0, -values.min(-1)) + 0.0),
        np.asarray(np.abs(values.sum(-1) - 1.0)),
    )


def nash_lp(prefs: ArrayLike) -> tuple[Float64[np.ndarray, "*B n"], NashCertificate]:
    """A Nash policy (von Neumann winner, minimax winner) by linear programming.

    max v subject to P(pi > y) >= 1/2 + v for all y, pi a distribution. The optimum is v = 0. If the
    Nash policy is not unique, the result is a vertex of their set; see `maximal_lotteries`.

    Args:
      prefs: [*B, n, n], row beats column; one program per game, in a loop.
    Returns:
      probs: [*B, n].
      certificate: NashCertificate of probs.
    Raises:
      ValueError: as `check_prefs`.
      RuntimeError: the solver failed, or its violation exceeds 1e-8 of twice the largest margin;
        it names the game.
    """
    skew = _to_scale(skew_part(prefs))
    probs = _for_each(skew, lambda game: _maximise(game, np.zeros(len(game)), 0.0))
    return probs, _accepted(prefs, probs)


def maximal_lotteries(prefs: ArrayLike) -> tuple[Float64[np.ndarray, "*B n"], LotterySet]:
    """A maximal lottery in the interior of their set, and the dimension of the set.

    max t subject to P(pi > y) >= 1/2 and pi(y) + P(pi > y) - 1/2 >= t for all y. By Tucker's
    theorem on skew-symmetric systems t > 0: an answer with probability 0 in this lottery loses to
    it, so it has probability 0 in all maximal lotteries. All of them solve one linear system on the
    support, and its rank gives the dimension.

    Args:
      prefs: [*B, n, n], row beats column; one program per game, in a loop.
    Returns:
      probs: [*B, n].
      lotteries: LotterySet.
    Raises:
      ValueError: as `check_prefs`.
      RuntimeError: the solver failed, or its violation exceeds 1e-8 of twice the largest margin;
        it names the game.
    Reference: Fishburn 1984, "Probabilistic social choice based on simple voting comparisons".
    """
    skew = _to_scale(skew_part(prefs))
    probs = _for_each(skew, lambda game: _maximise(game, np.ones(len(game)), 1.0))
    wins = np.einsum("...a,...ab->...b", probs, skew)
    support = probs > wins
    margin = np.min(np.where(support, probs, wins), axis=-1)
    dimension = np.empty(margin.shape, int)
    for index in np.ndindex(margin.shape):
        within = skew[index][np.ix_(support[index], support[index])]
        known = margin[index] > RANK_TOLERANCE
        dimension[index] = _nullity(within) - 1 if known else -1
    return probs, LotterySet(_accepted(prefs, probs).violation, support, margin, dimension)


def _nullity(matrix: np.ndarray) -> int:
    """Dimension of the kernel; 0 (impossible for a support) if the rank cannot be decided."""
    values = np.linalg.svd(matrix, compute_uv=False)
    if np.any((values > LP_TOLERANCE) & (values < RANK_TOLERANCE)):
        return 0
    return int(np.sum(values <= LP_TOLERANCE))


def _for_each(skew: np.ndarray, solve: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """One solution per game; an error names its game."""
    probs = np.empty(skew.shape[:-1])
    for index in np.ndindex(skew.shape[:-2]):
        try:
            probs[index] = solve(skew[index])
        except RuntimeError as error:
            raise RuntimeError(f"Nash policy of {game_name(index)}: {error}") from error
    return probs


def _maximise(skew: np.ndarray, weights: np.ndarray, lead: float) -> np.ndarray:
    """The policy with the largest t such that A^T p + w p >= t and, if lead is 1, A^T p >= 0."""
    n = len(skew)
    rows = [np.hstack([skew - np.diag(weights), np.ones((n, 1))])]
    if lead:
        rows.append(np.hstack([skew, np.zeros((n, 1))]))
    constraints = np.vstack(rows)
    result = scipy.optimize.linprog(
        np.r_[np.zeros(n), -1.0],
        A_ub=constraints,
        b_ub=np.zeros(len(constraints)),
        A_eq=np.r_[np.ones(n), 0.0][None],
        b_eq=[1.0],
        bounds=[(0.0, 1.0)] * n + [(None, None)],
        method="highs",
        options={
            "primal_feasibility_tolerance": LP_TOLERANCE,
            "dual_feasibility_tolerance": LP_TOLERANCE,
        },
    )
    if result.x is None:
        raise RuntimeError(f"the linear program was not solved: {result.message}")
    probs = np.maximum(result.x[:n], 0.0)
    return probs / probs.sum()


def _accepted(prefs: ArrayLike, probs: np.ndarray) -> NashCertificate:
    """The certificate; RuntimeError if its violation is too large."""
    certificate = certify_nash(prefs, probs)
    scales = 2.0 * np.max(np.abs(skew_part(prefs)), axis=(-2, -1))
    for index, violation in np.ndenumerate(certificate.violation):
        if not violation <= NASH_TOLERANCE * scales[index]:
            raise RuntimeError(
                f"Nash policy of {game_name(index)}: the linear program's policy loses by "
                f"{violation:.1e}, more than {NASH_TOLERANCE} of {scales[index]:.1e}"
            )
    return certificate
