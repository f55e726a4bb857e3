"""Try again: a task of single answers as episodes with one bit of feedback (UFO).

    task = retry_task(task, turns=5, decay=0.5, repetition=0.5, malformed_reward=-0.1)
    params = online(stage, lab, task, grpo(lab, samples=16), task_reward(lab, task), ...)

A wrong answer is followed by the same words, whatever it was, and a right one ends the episode: so
nothing but "wrong" ever enters the context. The rewards of the turns sum to `ops.retry_return` of
the turns so far, also where a length limit ends the episode. Every token of every turn shares that
return, as in the paper; `reinforce_turns` gives turns their own credit.

Reference: Liu et al. 2025, arXiv:2507.14295 (UFO), read in its code.
Departs: one answer a turn; an empty answer is a turn, malformed; no number of tries left and no
reward are shown.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from rlhf_jax.checks import check_range
from rlhf_jax.ops.retries import retry_return
from rlhf_jax.recipes.episodes import RETURN
from rlhf_jax.recipes.task import Task, check_single_turn, local_scores, overall
from rlhf_jax.rewards.verifiers import extract_result
from rlhf_jax.sampling.turns import History

TRY_AGAIN = "That is wrong. Try again."


class _Terms(NamedTuple):
    """Keyword arguments of `retry_return`."""

    decay: float
    repetition: float
    malformed_reward: float


@runtime_checkable
class ReadResult(Protocol):
    """The result that an answer gives, None where it has none: the answer is malformed."""

    def __call__(self, answer: str, /) -> str | None: ...


def result_of(answer: str) -> str | None:
    """What `rewards.verifiers.extract_result` finds, else the whole answer; None for no text."""
    found = extract_result(answer)
    return (answer if found is None else found).strip() or None


def same_result(result: str) -> str:
    """A result as it is compared with earlier ones: lower case, no white space."""
    return "".join(result.split()).lower()


def retry_task(
    task: Task,
    *,
    turns: int = 5,
    feedback: Any = TRY_AGAIN,
    decay: float = 1.0,
    repetition: float = 0.0,
    malformed_reward: float = 0.0,
    solved: float = 1.0,
    read_result: ReadResult = result_of,
) -> Task:
    """The same prompts with up to `turns` tries each, and the return of an episode as objective.

    Args:
      task: of single answers. Answers are scored one at a time: for verifiers and functions.
      turns: N >= 1; with 1, and none of the terms, an episode is worth 1 if it is right, else 0.
      feedback: after a wrong answer; a text, or messages after a prompt of messages.
      decay, repetition, malformed_reward: of `retry_return`. With 1, 0 and 0 the return says
        whether the episode was solved, and `solved_within` counts Succ@k.
      solved: the least objective of a right answer. An answer without a score leaves its episode
        out of training.
      read_result: what counts as one answer; a malformed answer is never right.
    Raises:
      UserError: a task with a step.
    """
    check_single_turn(task, "retry_task")
    check_range("[1, inf)", turns=turns)
    check_range("(-inf, inf)", solved=solved)
    terms = _Terms(decay, repetition, malformed_reward)
    _return_of([], terms)  # refuses terms out of range
    if not feedback:
        raise ValueError(f"feedback must be a text or messages, got {feedback!r}")

    def step(index: int, history: History, answer: str) -> tuple[Any, float | None, bool]:
        results = [read_result(text) for text, _ in history]
        result = read_result(answer)
        right = False
        if result is not None:
            scores = local_scores(task, np.array([index]), [answer])
            value = overall(task, {name: np.array(x) for name, x in scores.items()})[0]
            if not np.isfinite(value):
                return None, None, True
            right = bool(value >= solved)
        now = _return_of([*results, result], terms, solved=right)
        return feedback, now - _return_of(results, terms), right

    return task._replace(score=None, objective=RETURN, step=step, max_turns=turns)


def _return_of(results: Sequence[str | None], terms: _Terms, *, solved: bool = False) -> float:
    """`retry_return` of the tries so far, the last of which solved it or none did."""
    known = [same_result(result) for result in results if result is not None]
    counts = len(known), len(set(known)), len(results) - len(known)
    return _known_return(len(results) - 1 if solved else -1, *counts, terms)


@cache
def _known_return(
    solved_at: int, valid: int, distinct: int, malformed: int, terms: _Terms
) -> float:
    """`retry_return` rounded to a multiple of 2^-20: differences and their sums are then exact in
    float32, and episodes of equal worth have equal returns."""
    counts = (jnp.asarray(x) for x in (solved_at, valid, distinct, malformed))
    found = retry_return(*counts, **terms._asdict())
    return round(float(found) * 2**20) / 2**20


def solved_within(rewards: Float[np.ndarray, "*B N"]) -> Bool[np.ndarray, "*B N"]:
    """Whether an episode was solved in k turns, k = 1 ... N; the mean over B is Succ@k.

    Args:
      rewards: of the turns of a `retry_task` without decay and terms, `episodes.Turns.rewards`.
    """
    return np.cumsum(np.asarray(rewards) > 0, axis=-1) > 0
