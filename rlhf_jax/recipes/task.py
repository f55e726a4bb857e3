"""A task: prompts by number, and what answers to them are worth. It knows no model.

    task = text_task(["name a colour", ...], lambda prompts, answers: {"short": [...]})

A world of `labs`, a JSONL file and a Python function with a list of prompts are all tasks, and
every recipe takes any of them.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from rlhf_jax.checks import check_range
from rlhf_jax.rewards import ComparePairs
from rlhf_jax.sampling.turns import Step
from rlhf_jax.training import UserError
from rlhf_jax.training.processes import divided

Scores = Mapping[str, np.ndarray]
_LARGEST = float(np.finfo(np.float32).max)


class Labels(NamedTuple):
    """What a teacher says of N pairs of answers.

    winners: [N] 0 or 1, the answer preferred. kept: [N] bool, False for pairs it tells nothing of.
    columns: name -> [N] floats to keep with each pair, e.g. the gold score of the chosen answer.
    """

    winners: np.ndarray
    kept: np.ndarray
    columns: Mapping[str, np.ndarray]


@runtime_checkable
class Teacher(Protocol):
    """Labels pairs of answers to the same prompts."""

    def __call__(
        self, key: jax.Array, indices: np.ndarray, first: Sequence[str], second: Sequence[str]
    ) -> Labels: ...


class Task(NamedTuple):
    """What is to be answered, and how answers are scored.

    texts: prompts' numbers [N] -> N prompts: texts, or lists of messages in a lab with a chat
      template.
    splits: name -> numbers of its prompts; "train" and "heldout" at least, disjoint.
    score: `(numbers [N], answers) -> {name: N numbers}`, on the host. None and NaN mask the answer.
      May be None for a task with a step.
    objective: the name of the score that is maximised, or name -> weight for a sum of several.
      "return" is the sum of the rewards of a step.
    teacher: labels pairs, or None where nobody does.
    step: reacts to each answer of an episode, see `recipes.episodes`; None for single answers.
    max_turns: answers of an episode, at most.
    """

    texts: Callable[[np.ndarray], list[Any]]
    splits: Mapping[str, range]
    score: Callable[[np.ndarray, Sequence[str]], Mapping[str, Sequence[Any]]] | None
    objective: str | Mapping[str, float]
    teacher: Teacher | None = None
    step: Step | None = None
    max_turns: int = 1


def text_task(
    prompts: Sequence[Any],
    score: Callable[[list[Any], Sequence[str]], Mapping[str, Sequence[Any]]] | None,
    *,
    objective: str | Mapping[str, float],
    heldout: int,
    teacher: Teacher | None = None,
    step: Step | None = None,
    max_turns: int = 1,
) -> Task:
    """A list of prompts and a Python function.

    Args:
      prompts: texts or lists of messages.
      score: `(prompts, answers) -> {name: one number per answer}`; may be None with a step.
      heldout: the last so many prompts are never trained on; at least 1, and fewer than there are.
      step, max_turns: as in `Task`.
    Raises:
      UserError: fewer than two prompts.
    """
    if len(prompts) < 2:
        raise UserError(
            f"a task needs at least 2 prompts, one to train on and one held out, got {len(prompts)}"
        )
    check_range(f"[1, {len(prompts) - 1}]", heldout=heldout)
    check_range("[1, 1]" if step is None else "[1, inf)", max_turns=max_turns)
    if step is None and score is None:
        raise ValueError("a task without a step needs a score")
    train = len(prompts) - heldout

    def texts(indices: np.ndarray) -> list[Any]:
        return [prompts[int(i)] for i in indices]

    return Task(
        texts=texts,
        splits={"train": range(train), "heldout": range(train, len(prompts))},
        score=None if score is None else lambda indices, answers: score(texts(indices), answers),
        objective=objective,
        teacher=teacher,
        step=step,
        max_turns=max_turns,
    )


def objective_teacher(task: Task) -> Teacher:
    """A teacher that always prefers the answer with the higher objective.

    Pairs with equal objectives and pairs with an answer left out are not kept.
    """

    def label(
        key: jax.Array, indices: np.ndarray, first: Sequence[str], second: Sequence[str]
    ) -> Labels:
        values = [overall(task, score_answers(task, indices, side)) for side in (first, second)]
        kept = np.isfinite(values).all(axis=0) & (values[0] != values[1])
        return Labels((values[1] > values[0]).astype(int), kept, {})

    return label


def compared_teacher(
    texts: Callable[[np.ndarray], Sequence[Any]], compare: ComparePairs
) -> Teacher:
    """A teacher that asks for the better of two texts, e.g. `rewards.chat_pairs` of a judge.

    Ties and pairs without a verdict are not kept.

    Args:
      texts: a task's, prompts' numbers [N] -> N prompts.
    """

    def label(
        key: jax.Array, indices: np.ndarray, first: Sequence[str], second: Sequence[str]
    ) -> Labels:
        prefs = np.array(compare(texts(indices), first, second), np.float64)
        return Labels((prefs < 0.5).astype(int), np.isfinite(prefs) & (prefs != 0.5), {})

    return label


def score_answers(task: Task, indices: np.ndarray, answers: Sequence[str]) -> Scores:
    """Every named score of each answer, [N] float64, NaN where the task gave None or NaN.

    With several processes each scores its part of the answers.

    Raises:
      UserError: the task raised anything (chained), gave no scores by name, another number of
        scores than answers, an infinite number or what is no number; it names the prompts.
    """
    indices = np.asarray(indices)

    def score(rows: slice) -> dict[str, list[float]]:
        return local_scores(task, indices[rows], answers[rows]) if rows.start < rows.stop else {}

    parts = [part for part in divided(score, len(indices)) if part]
    if any(part.keys() != parts[0].keys() for part in parts):
        names = sorted({name for part in parts for name in part})
        raise UserError(f"every answer must have the same scores; only some have all of {names}")
    return {
        name: np.concatenate([np.array(part[name], np.float64) for part in parts])
        for name in (parts or [{}])[0]
    }


def local_scores(task: Task, indices: np.ndarray, answers: Sequence[str]) -> dict[str, list[float]]:
    """`score_answers` in this process alone, as lists."""
    try:
        found = {} if task.score is None else task.score(indices, answers)
    # Everything, because scoring is the user's own code: the prompts are what its author needs.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"scoring answers to {_named(indices)} failed: {reason}") from error
    if not isinstance(found, Mapping):
        raise UserError(
            f"scoring answers to {_named(indices)} must give scores by name, "
            f'{{"name": [one number per answer]}}, got {found!r:.80}'
        )
    return {name: _numbers(name, values, indices).tolist() for name, values in found.items()}


def overall(task: Task, scores: Scores) -> np.ndarray:
    """The score that is maximised, [N]: the task's objective, or the weighted sum of several.

    Raises:
      UserError: a name that the task does not score.
    """
    weights = {task.objective: 1.0} if isinstance(task.objective, str) else task.objective
    if not weights:
        raise UserError(f"the objective must name a score of the task; it gives {sorted(scores)}")
    missing = [name for name in weights if name not in scores]
    if missing:
        raise UserError(
            f"the objective has the score {missing[0]!r}, which the task does not give; it gives "
            f"{sorted(scores)}"
        )
    return np.sum([weight * scores[name] for name, weight in weights.items()], axis=0)


def check_single_turn(task: Task, name: str) -> None:
    """Raises UserError for a task with a step, which the recipe of that name cannot follow."""
    if task.step is not None:
        raise UserError(f"{name} draws single answers, and this task has a step: use online")


def _numbers(name: str, values: Any, indices: np.ndarray) -> np.ndarray:
    """[N] float64; None becomes NaN."""
    # Arrays of any library; a list may mix numbers with None.
    values = np.asarray(values).tolist() if hasattr(values, "__array__") else values
    if not isinstance(values, Iterable):
        raise UserError(f"score {name!r} must have one number for each answer, got {values!r}")
    rows = list(values)
    if len(rows) != len(indices):
        raise UserError(
            f"score {name!r} has {len(rows)} numbers, expected {len(indices)}, one for each answer "
            f"to {_named(indices)}"
        )
    for index, value in zip(indices, rows, strict=True):
        number = value is None or isinstance(value, int | float | np.number | np.bool_)
        if not number or (value is not None and abs(value) > _LARGEST):
            raise UserError(
                f"score {name!r} of an answer to prompt {index} is {value!r}; expected a finite "
                "number of float32, or None to leave the answer out"
            )
    return np.array([math.nan if value is None else value for value in rows], np.float64)


def _named(indices: np.ndarray) -> str:
    """Prompts by number, the first few of many."""
    numbers = list(dict.fromkeys(np.asarray(indices).ravel().tolist()))
    more = f", ... ({len(numbers)} in all)" if len(numbers) > 8 else ""
    return f"prompt{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:8]))}{more}"
