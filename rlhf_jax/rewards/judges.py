"""Judges: functions that say which of two answers to a prompt is better.

A judge runs on the host, `(indices [N], first, second) -> prefs [N]`. indices are the NumPy indices
of the prompts in their data set, first and second are trajectories [N] that answer them, and prefs
are P(first beats second). It may be a reward model, a preference model, a rule over texts or an
external service.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.rewards.checked import checked_judge, judge_failure
from rlhf_jax.types import Judge, Params, PreferenceFn, RewardFn, Trajectory

Compare = Callable[[str, str, str], float]  # (prompt, first, second) -> P(first beats second)


@runtime_checkable
class ComparePairs(Protocol):
    """N times P(first beats second) at a time, None where there is no verdict."""

    def __call__(
        self, prompts: Sequence[Any], first: Sequence[str], second: Sequence[str], /
    ) -> list[float | None]: ...


def reward_judge(reward: RewardFn, params: Params, *, beta: float | int = 1.0) -> Judge:
    """The Bradley-Terry judge of a reward model: P = sigmoid(beta (r(first) - r(second))).

    For a matrix over many answers, `envs.games.bradley_terry_game(beta * scores)` equals
    `judge_matrix` of this judge and scores each answer only once.

    Args:
      reward: any parametrisation. Compiled once per shape.
      beta: inverse temperature, in units of 1 / score.
    Returns:
      A judge. It returns NaN, which `checked_judge` refuses, if a score is not finite.
    """

    @jax.jit
    def prefs(params, first, second):
        scores = reward.scores(params, first), reward.scores(params, second)
        return _finite_sigmoid(beta * (scores[0] - scores[1]), *scores)

    return lambda indices, first, second: prefs(params, first, second)


def preference_judge(preference: PreferenceFn, params: Params) -> Judge:
    """The judge of a pairwise preference model: P = sigmoid(logit). Compiled once per shape.

    It returns NaN, which `checked_judge` refuses, if the logit is not finite.
    """

    @jax.jit
    def prefs(params, first, second):
        logits = preference.logits(params, first, second)
        return _finite_sigmoid(logits, logits)

    return lambda indices, first, second: prefs(params, first, second)


def text_judge(
    compare: Compare,
    *,
    prompt_texts: Callable[[np.ndarray], Sequence[str]],
    answer_texts: Callable[[Trajectory], Sequence[str]],
) -> Judge:
    """A judge from a function that compares two texts.

    Two equal texts get 1/2 without a call of `compare`.

    Args:
      compare: `(prompt, first, second) -> P(first beats second)`.
      prompt_texts: `indices [N] -> N` texts.
      answer_texts: `trajectory [N] -> N` texts.
    Returns:
      A judge. If `compare` raises, it raises a JudgeError (chained) that names the prompt.
    """

    def ask(indices: np.ndarray, first: Trajectory, second: Trajectory) -> np.ndarray:
        texts = (prompt_texts(indices), answer_texts(first), answer_texts(second))
        rows = zip(np.asarray(indices).tolist(), *texts, strict=True)
        return np.array([_compared(compare, *row) for row in rows], np.float64)

    return ask


def pairs_judge(
    compare: ComparePairs,
    *,
    prompt_texts: Callable[[np.ndarray], Sequence[str]],
    answer_texts: Callable[[Trajectory], Sequence[str]],
) -> Judge:
    """A judge from a function that compares many pairs of texts at a time, e.g. `chat_pairs`.

    Args:
      compare: `(prompts, first, second) -> N times P(first beats second)`; None, for no verdict,
        masks the comparison where a game is played and is refused elsewhere (`checked_judge`).
      prompt_texts, answer_texts: as in `text_judge`.
    """

    def ask(indices: np.ndarray, first: Trajectory, second: Trajectory) -> list[float | None]:
        return compare(prompt_texts(indices), answer_texts(first), answer_texts(second))

    return ask


def judge_matrix(
    judge: Judge, indices: np.ndarray, answers: Trajectory, *, chunk: int | None = None
) -> Float[Array, "B K K"]:
    """Preferences between all pairs of answers to each prompt.

    Each pair i < j is judged once, as (answer i, answer j): B K (K - 1) / 2 comparisons.
    P[j, i] = 1 - P[i, j] and P[i, i] = 1/2 need no call.

    Args:
      judge: any judge; its output is checked by `checked_judge`.
      indices: [B] prompt indices.
      answers: leading axes [B, K].
      chunk: number of comparisons per call; None makes one call. The last call is filled up with
        the first comparisons again, so a compiled judge sees one shape.
    Returns:
      [B, K, K] prefs, row beats column, P + P^T = 1.
    Raises:
      JudgeError: as `checked_judge`.
    """
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    asked = checked_judge(judge)
    batch, samples = answers.mask.shape[:2]
    one, other = np.triu_indices(samples, 1)
    prefs = np.full((batch, samples, samples), 0.5, np.float32)
    rows = np.repeat(np.arange(batch), len(one))
    i, j = np.tile(one, batch), np.tile(other, batch)
    size = chunk or max(len(rows), 1)
    for start in range(0, len(rows), size):
        part = np.take(np.arange(len(rows)), np.arange(start, start + size), mode="wrap")
        b, first, second = rows[part], i[part], j[part]
        here = asked(np.asarray(indices)[b], _take(answers, b, first), _take(answers, b, second))
        prefs[b, first, second] = here
        prefs[b, second, first] = 1.0 - np.asarray(here)
    return jnp.asarray(prefs)


def _finite_sigmoid(logits: Float[Array, "N"], *scores: Float[Array, "N"]) -> Float[Array, "N"]:
    """sigmoid(logits), or NaN if a score is not finite: an infinite score is not a certain win."""
    return jnp.where(jnp.isfinite(jnp.stack(scores)).all(0), jax.nn.sigmoid(logits), jnp.nan)


def _take(answers: Trajectory, rows: np.ndarray, samples: np.ndarray) -> Trajectory:
    """The answers [N] at these rows and samples."""
    return jax.tree.map(lambda x: x[rows, samples], answers)


def _compared(compare: Compare, index: int, prompt: str, first: str, second: str) -> float:
    """One comparison; a failure names its prompt."""
    if first == second:
        return 0.5
    try:
        return float(compare(prompt, first, second))
    except Exception as error:  # as in checked_judge
        raise judge_failure(f"comparing two answers to prompt {index}", error) from error
