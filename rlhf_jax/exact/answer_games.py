"""Preference games among sampled answers: how exploitable is a policy that can only be sampled?

For each prompt a pool of M answers: the policy's own samples and whatever may beat them (samples of
other policies, best-of-n). The pool's preferences are a game [M, M], the policy is the empirical
one on its own samples, and the best response is looked for in the pool.

On the host, NumPy float64 out. Bad input is refused by the number of its row.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float64

from rlhf_jax.envs.games import check_prefs
from rlhf_jax.exact.nash import maximal_lotteries
from rlhf_jax.exact.tournaments import condorcet_winner, has_cycle
from rlhf_jax.ops.statistics import mean_with_interval

EQUAL_DIGITS = 6  # answers whose preferences agree to so many digits are one answer


class AnswerGames(NamedTuple):
    """One game for each of N prompts.

    Attributes:
      gap: [N] exploitability, two-sided, of the empirical policy within the pool, in [0, 1]. Too
        high in the mean, for the answer that exploits these samples best is judged on them.
      crossfit_gap: [N] the same, chosen on one half of the samples and judged on the other; in
        [-1, 1]. Its mean is at most that of the policy's true exploitability.
      nash: [N, M] maximal lottery of the pool; equal answers count as one, the first.
      nash_win_rate: [N] of that lottery over the empirical policy, >= 1/2.
      cycle: [N] whether some answers of the pool beat each other in a circle.
      condorcet: [N] whether some answer of the pool beats every other; its equals are itself.
    """

    gap: Float64[np.ndarray, "N"]
    crossfit_gap: Float64[np.ndarray, "N"]
    nash: Float64[np.ndarray, "N M"]
    nash_win_rate: Float64[np.ndarray, "N"]
    cycle: Bool[np.ndarray, "N"]
    condorcet: Bool[np.ndarray, "N"]


def solve_answer_games(prefs: ArrayLike, own: ArrayLike) -> AnswerGames:
    """Solves the game among the sampled answers to each prompt.

    One linear program for each prompt: some seconds for 256 prompts with 40 answers.

    Args:
      prefs: [N, M, M], row beats column, e.g. from `rewards.judge_matrix`.
      own: [N, M] bool, the samples of the policy, or their weights >= 0. One entry for each draw:
        an answer drawn twice stands in the pool twice, since the halves must be independent.
    Raises:
      ValueError: as `check_prefs`; shapes that do not fit; a weight that is negative or not finite;
        fewer than two samples for some row.
      RuntimeError: as `maximal_lotteries`.
    """
    check_prefs(prefs)
    values = np.asarray(prefs, np.float64)
    weights = _checked_weights(own, values.shape)
    policy = _normalised(weights)
    wins = _win_rates(values, policy)
    distinct = _distinct_game(values)
    nash = maximal_lotteries(distinct)[0]
    return AnswerGames(
        gap=2.0 * wins.max(-1) - 1.0,
        crossfit_gap=crossfit_gaps(values, weights),
        nash=nash,
        nash_win_rate=np.sum(nash * wins, axis=-1),
        cycle=np.asarray(has_cycle(jnp.asarray(distinct))),
        condorcet=np.asarray(condorcet_winner(jnp.asarray(distinct)) >= 0),
    )


def crossfit_gaps(prefs: ArrayLike, own: ArrayLike) -> Float64[np.ndarray, "N"]:
    """Exploitability without the bias of choosing and judging on the same samples.

    The samples are dealt into halves a and b. The answer y_a that beats half a most often, among
    all answers but half b, is judged against half b, and the other way round:

      gap = P(y_a > b) + P(y_b > a) - 1.

    Half b is independent of y_a, so that E P(y_a > b) = E P(y_a > pi) <= max_y P(y > pi): the mean
    is at most the true exploitability, as `gap` of `AnswerGames` is not. What is lost is that y_a
    need not be the best answer, and that the best answer need not be in the pool. It needs the rest
    of the pool to be drawn without regard to the samples. A single gap may be negative, and is not
    raised to 0: that would bring the bias back. With unequal weights the means over a half are
    self-normalised, and the bound holds up to their bias.

    Args and errors: as `solve_answer_games`.
    """
    check_prefs(prefs)
    values = np.asarray(prefs, np.float64)
    weights = _checked_weights(own, values.shape)
    turn = np.cumsum(weights > 0, axis=-1) % 2
    halves = [np.where(turn == parity, weights, 0.0) for parity in (1, 0)]
    gaps = np.full(len(values), -1.0)
    for chosen_on, judged_on in (halves, halves[::-1]):
        rates = _win_rates(values, _normalised(chosen_on))
        best = np.argmax(np.where(judged_on > 0, -1.0, rates), axis=-1)
        judged = _win_rates(values, _normalised(judged_on))
        gaps += judged[np.arange(len(values)), best]
    return gaps


def summarise(games: AnswerGames) -> dict[str, Float64[np.ndarray, "3"]]:
    """[mean, low, high] over the prompts of every number in `games`, with a 95% normal interval;
    of "cycle" and "condorcet" the mean is the share of prompts.

    Raises:
      ValueError: fewer than two prompts.
    """
    numbers = {name: column for name, column in games._asdict().items() if name != "nash"}
    return {
        name: np.asarray(mean_with_interval(jnp.asarray(column, float)), np.float64)
        for name, column in numbers.items()
    }


def _checked_weights(own: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """[N, M] weights, once they are seen to fit."""
    weights = np.asarray(own, np.float64)
    if len(shape) != 3 or weights.shape != shape[:2]:
        raise ValueError(
            f"expected preferences [N, M, M] and samples [N, M]; got {shape} and {weights.shape}"
        )
    wrong = ~(np.isfinite(weights) & (weights >= 0)).all(-1)
    if wrong.any():
        raise ValueError(f"row {np.argmax(wrong)}: weights must be finite and >= 0")
    count = np.sum(weights > 0, axis=-1)
    if (count < 2).any():
        row = int(np.argmax(count < 2))
        raise ValueError(f"row {row}: needs at least 2 samples of the policy, got {count[row]}")
    return weights


def _normalised(weights: np.ndarray) -> np.ndarray:
    """Probabilities."""
    return weights / weights.sum(-1, keepdims=True)


def _win_rates(prefs: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """[N, M] win rate of each answer against the policy, in float64."""
    return np.einsum("nab,nb->na", prefs, probs)


def _distinct_game(prefs: np.ndarray) -> np.ndarray:
    """The game in which an answer equal to an earlier one loses to all that are not.

    So the Nash policies and the winner are those of the distinct answers, in one shape.
    """
    extra = np.ones(prefs.shape[:2], bool)
    for game, mask in zip(np.round(prefs, EQUAL_DIGITS), extra, strict=True):
        mask[np.unique(game, axis=0, return_index=True)[1]] = False
    beaten = 0.5 + 0.5 * (extra[:, None, :] * 1.0 - extra[:, :, None])
    return np.where(extra[:, None, :] | extra[:, :, None], beaten, prefs)
