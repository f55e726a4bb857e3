"""Preference games among sampled answers: exploitability of a policy that can only be sampled.

Each prompt has a pool of M answers: samples of the policy, and answers that may beat them (samples
of other policies, best-of-n). The preferences in the pool are a game [M, M], the policy is the
empirical one on its own samples, and the best response is searched in the pool.

On the host; results are NumPy float64. Errors name the row.
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

EQUAL_DIGITS = 6  # answers with preferences equal to so many digits count as one answer


class AnswerGames(NamedTuple):
    """One game for each of N prompts.

    Attributes:
      gap: [N] two-sided exploitability of the empirical policy within the pool, in [0, 1]. Biased
        upwards, because the best response is chosen and judged on the same samples.
      crossfit_gap: [N] the same, chosen on one half of the samples and judged on the other; in
        [-1, 1]. Its mean is at most the mean of the policy's true exploitability.
      nash: [N, M] maximal lottery of the pool; of equal answers only the first counts.
      nash_win_rate: [N] win rate of that lottery over the empirical policy, >= 1/2.
      cycle: [N] whether some answers of the pool beat each other in a cycle.
      condorcet: [N] whether one answer of the pool beats every other (equal ones excepted).
    """

    gap: Float64[np.ndarray, "N"]
    crossfit_gap: Float64[np.ndarray, "N"]
    nash: Float64[np.ndarray, "N M"]
    nash_win_rate: Float64[np.ndarray, "N"]
    cycle: Bool[np.ndarray, "N"]
    condorcet: Bool[np.ndarray, "N"]


def solve_answer_games(prefs: ArrayLike, own: ArrayLike) -> AnswerGames:
    """Solves the game among the sampled answers to each prompt.

    It solves one linear program per prompt, a few seconds for 256 prompts with 40 answers.

    Args:
      prefs: [N, M, M], row beats column, e.g. from `rewards.judge_matrix`.
      own: [N, M] bool, the samples of the policy, or their weights >= 0. One entry per draw: an
        answer that was drawn twice is in the pool twice, because the halves must be independent.
    Raises:
      ValueError: as `check_prefs`; shapes do not fit; a weight is negative or not finite; a row has
        fewer than two samples.
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

    The samples are split into halves a and b. The answer y_a that beats half a most often, among
    all answers except half b, is judged against half b, and vice versa:

        gap = P(y_a > b) + P(y_b > a) - 1.

    Half b is independent of y_a, so E P(y_a > b) = E P(y_a > pi) <= max_y P(y > pi): on average the
    gap is at most the true exploitability, unlike `gap` of `AnswerGames`. It is lower if y_a is not
    the best answer, or if the best answer is not in the pool. The rest of the pool must be drawn
    independently of the samples. A single gap may be negative; raising it to 0 would bring the bias
    back. With unequal weights the means over a half are self-normalised, and the bound holds up to
    their bias.

    Args, Raises: as `solve_answer_games`.
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
    """[mean, low, high] over the prompts of each field of `games` (except nash), with a 95% normal
    interval. The mean of "cycle" and "condorcet" is the share of prompts."""
    numbers = {name: column for name, column in games._asdict().items() if name != "nash"}
    return {
        name: np.asarray(mean_with_interval(jnp.asarray(column, float)), np.float64)
        for name, column in numbers.items()
    }


def _checked_weights(own: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """[N, M] weights, after checking them."""
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
    """The game in which every duplicate of an earlier answer loses to all answers that are not.

    Its Nash policies and its Condorcet winner are those of the distinct answers, with fixed shapes.
    """
    extra = np.ones(prefs.shape[:2], bool)
    for game, mask in zip(np.round(prefs, EQUAL_DIGITS), extra, strict=True):
        mask[np.unique(game, axis=0, return_index=True)[1]] = False
    beaten = 0.5 + 0.5 * (extra[:, None, :] * 1.0 - extra[:, :, None])
    return np.where(extra[:, None, :] | extra[:, :, None], beaten, prefs)
