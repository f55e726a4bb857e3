"""Process reward models: training on labels of steps, and held-out numbers.

Their folder is that of a reward model with a file PROCESS beside it.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from rlhf_jax.cli.frame import Opened, Training
from rlhf_jax.cli.measures import Numbers
from rlhf_jax.cli.reward_measures import grouped_mean, margin_quality
from rlhf_jax.cli.session import Start
from rlhf_jax.hf.vocabulary import read_object
from rlhf_jax.ops.steps import step_minimum, step_product
from rlhf_jax.recipes import LanguageLab, process_model, step_rows
from rlhf_jax.recipes.process import SEPARATOR, make_step_ends, scores_of, step_batch
from rlhf_jax.recipes.rows import in_chunks
from rlhf_jax.training import UserError, reading_input
from rlhf_jax.types import Params

PROCESS = "process_reward.json"  # {"separator": text between two steps}
COMBINED: dict[str, Callable[..., jax.Array]] = {
    "step_product": step_product,
    "step_minimum": step_minimum,
}


def step_training(opened: Opened, start: Start, *, batch_size: int) -> Training:
    """A score for each step of an answer, from labels of steps.

    Raises:
      UserError: answers would lose their first steps.
    """
    lab = start.lab
    if lab.long_answers == "truncate_left":
        raise UserError(
            "--long-answers truncate_left takes the first steps of an answer, so that labels no "
            "longer belong to their steps: choose error, drop or truncate_right"
        )

    def quality(params: Params) -> Numbers:
        if not opened.held:
            return {}
        found = scored_steps(lab, params, opened.held, batch_size=batch_size)
        return step_quality(found) | step_baselines(found, opened.records)

    return Training(
        lab=lab,
        first=start.params,
        recipe=process_model,
        rows=lambda _: step_rows(lab, opened.records, batch_size=batch_size),
        quality=quality,
        export=start.merge,
        files={PROCESS: json.dumps({"separator": SEPARATOR}).encode()},
    )


class ScoredSteps(NamedTuple):
    """N steps of answers that are read in full.

    scores: [N] logits of "right". right: [N] whether the label is above 1/2. answers: [N] number of
    the answer. numbers: [N] of the step within it, from 0. prompts: [N] number of the prompt.
    """

    scores: np.ndarray
    right: np.ndarray
    answers: np.ndarray
    numbers: np.ndarray
    prompts: np.ndarray


def scored_steps(
    lab: LanguageLab, params: Params, records: Sequence[dict], *, batch_size: int
) -> ScoredSteps:
    """The scores of all steps of these records.

    Raises:
      UserError: no step is read in full.
    """
    ends, score = make_step_ends(lab.vocabulary), jax.jit(scores_of(lab.scorer))

    def chunk(part: list[dict]) -> tuple[Any, ...]:
        batch = step_batch(lab, part, ends, SEPARATOR)
        return score(params, batch.trajectory), batch.ends, batch.labels

    scores, at, labels = in_chunks(chunk, records, size=batch_size)
    if not at.any():
        raise UserError(f"no step of an answer has at most {lab.answer_length} tokens")
    answers, _ = np.nonzero(at)
    texts = [json.dumps(row["prompt"]) for row in records]
    prompts = np.unique(texts, return_inverse=True)[1].reshape(-1)
    numbers = (np.cumsum(at, axis=1) - 1)[at]
    return ScoredSteps(
        scores[at].astype(float), labels[at] > 0.5, answers, numbers, prompts[answers]
    )


def step_quality(found: ScoredSteps) -> Numbers:
    """Accuracy, log loss and calibration of steps, and how often the first wrong one is found.

    A step is called right where its score is above 0, which is P(right) > 1/2. The first wrong step
    of an answer is found if it is the first one called wrong, or if there is none of both.
    """
    margins = np.where(found.right, found.scores, -found.scores)
    numbers = margin_quality(margins, found.prompts)
    answers, index = np.unique(found.answers, return_index=True)
    called, known = (
        _first_wrong(right, found)[answers] for right in (found.scores > 0, found.right)
    )
    return {f"step {name}": value for name, value in numbers.items()} | {
        "first wrong step found": grouped_mean(called == known, found.prompts[index])
    }


def step_baselines(found: ScoredSteps, records: Sequence[dict]) -> Numbers:
    """Accuracy of the commoner label of the training records: of all steps, and of each number."""
    labels = [np.asarray(row["labels"]) > 0.5 for row in records]
    right = np.concatenate(labels)
    numbers = np.concatenate([np.arange(len(each)) for each in labels])
    common = bool(right.mean() >= 0.5)
    known = {n: bool(right[numbers == n].mean() >= 0.5) for n in np.unique(numbers).tolist()}
    guesses = np.array([known.get(n, common) for n in found.numbers.tolist()])
    return {
        "commoner label": grouped_mean(found.right == common, found.prompts),
        "commoner label of the step's number": grouped_mean(found.right == guesses, found.prompts),
    }


def read_separator(folder: Path) -> str | None:
    """The text between two steps of a process reward model, None of another model.

    Raises:
      UserError: the file does not say it.
    """
    with reading_input():
        found = read_object(folder / PROCESS)
    if found and not (isinstance(found.get("separator"), str) and found["separator"].strip(" ")):
        raise UserError(f'{folder / PROCESS}: expected {{"separator": "text between two steps"}}')
    return found["separator"] if found else None


def _first_wrong(right: np.ndarray, found: ScoredSteps) -> np.ndarray:
    """Number of each answer's first wrong step, infinite if there is none."""
    first = np.full(found.answers.max() + 1, np.inf)
    np.minimum.at(first, found.answers[~right], found.numbers[~right])
    return first
