"""PIT: a model that reads a prompt with an answer and writes a better one, from pairs alone.

    records, lost = fitting_references(lab, reference_records(pairs, ("chosen", "rejected")))
    first = supervised(stage, lab, answer_rows(lab, improvement_records(pairs), ...), base, fit)
    gap = gap_model(stage, lab, pair_rows(lab, pairs, batch_size=16), on_trunk(lab, base, key), fit)
    task = improving_task(task, [row["reference"] for row in records])   # paid by `gap_scores`
    rows = StagedRows([(data_rows, 200), (own_rows, 200)])               # the curriculum
    params = online(stage, lab, task, method, task_reward(lab, task), first, rows, fit, key=key)
    better = improve(lab, params, prompts, answers, key, rounds=2)

A reference is an answer to be improved. In the curriculum references are first answers of the data,
then answers of the policy that will be improved, frozen. Both are rows of one task, and KL is
measured to one reference policy, the model after supervised fine-tuning, given the same (x, y_ref).

Reference: Wang et al. 2023, arXiv:2310.00898.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from rlhf_jax.checks import check_range
from rlhf_jax.recipes.lab import LanguageLab, encoded_cases
from rlhf_jax.recipes.principles import asked_prompt
from rlhf_jax.recipes.refusals import quoted
from rlhf_jax.recipes.rows import Records, Rows
from rlhf_jax.recipes.task import Task, check_single_turn
from rlhf_jax.recipes.texts import sample_texts
from rlhf_jax.recipes.tokens import Case, answer_text, token_rows
from rlhf_jax.sampling.decode import SamplingConfig
from rlhf_jax.training import UserError
from rlhf_jax.types import Params, PyTree

TEMPLATE = "{prompt} answer : {principle} better :"
COPIED = "copied"  # the name of "the answer is the reference" among the scores of a task


def improve_prompt(prompt: Any, reference: Any, *, template: str = TEMPLATE) -> Any:
    """The prompt with the answer to improve; of messages, in the last one.

    >>> improve_prompt("2 + 2 ?", "5")
    '2 + 2 ? answer : 5 better :'
    """
    return asked_prompt(prompt, answer_text(reference), template=template)


def improvement_records(pairs: Records, *, template: str = TEMPLATE) -> list[dict]:
    """Records for `supervised`: the rejected answer is read and the chosen one written."""
    return [
        {
            **{name: value for name, value in pair.items() if name not in ("chosen", "rejected")},
            "prompt": improve_prompt(pair["prompt"], pair["rejected"], template=template),
            "answer": pair["chosen"],
        }
        for pair in (pairs[i] for i in range(len(pairs)))
    ]


def reference_records(records: Sequence[dict], fields: Sequence[str]) -> list[dict]:
    """The records with each of these fields that they have as a text "reference", side by side.

    Raises:
      UserError: a record with none of the fields; it quotes the prompt.
    """
    found = []
    for record in records:
        named = [field for field in fields if record.get(field)]
        if not named:
            raise UserError(
                f"the record with the prompt {quoted(record['prompt'])} has no answer to improve: "
                f"it needs a field {' or '.join(map(repr, fields))}"
            )
        found += [{**record, "reference": answer_text(record[field])} for field in named]
    return found


class FittingReferences(NamedTuple):
    """Records whose reference the lab reads whole, and how many others were dropped."""

    records: list[dict]
    dropped: int


def fitting_references(
    lab: LanguageLab,
    records: Sequence[dict],
    *,
    long: str = "drop",
    template: str = TEMPLATE,
) -> FittingReferences:
    """The records without those whose reference is longer than the window, or has no token.

    A reference is at most the lab's answer_length, its stop token included, and the prompt with it
    at most prompt_length. None is cut: a part of an answer is another answer.

    Args:
      records: of "prompt" and "reference".
      long: "drop" counts those that do not fit, "error" names the first.
    Raises:
      UserError: no record is left, or under "error" the first one that does not fit.
    """
    if long not in ("error", "drop"):
        raise ValueError(f"long must be 'error' or 'drop', got {long!r}")
    kept, most = [], (lab.prompt_length, lab.answer_length)
    for row in records:
        lengths = _window(lab, row["prompt"], row["reference"], template)
        if all(0 < n <= limit for n, limit in zip(lengths, most, strict=True)):
            kept.append(row)
        elif long == "error":
            raise UserError(
                f"the reference answer {row['reference']!r:.60} has {lengths[1]} tokens, "
                f"{lengths[0]} with its prompt; 1 to answer_length {most[1]}, and prompt_length "
                f"{most[0]}, fit: raise them, or drop such references"
            )
    if not kept:
        raise UserError(
            f"none of {len(records)} reference answers fits into answer_length {most[1]}, and with "
            f"its prompt into prompt_length {most[0]}: raise them"
        )
    return FittingReferences(kept, len(records) - len(kept))


def _window(lab: LanguageLab, prompt: Any, reference: str, template: str) -> tuple[int, int]:
    """Tokens of the prompt that shows the reference, and of the reference with its stop token."""
    shown = improve_prompt(prompt, reference, template=template)
    case = Case(shown, reference if reference.strip() else ".")  # an empty text has no tokens
    (row,) = encoded_cases(partial(token_rows, lab.vocabulary, lab.chat), [case])
    return len(row.prompt), len(row.answer) if reference.strip() else 0


def improving_task(task: Task, references: Sequence[str], *, template: str = TEMPLATE) -> Task:
    """The task with prompts that show an answer to improve; scores are of the answer, as before.

    The score "copied" is 1 for an answer that is its reference.

    Args:
      references: of the task's prompts, by their numbers.
    Raises:
      UserError: a prompt without a reference, or a task with a step.
    """
    check_single_turn(task, "improving_task")
    last = max(part.stop for part in task.splits.values())
    if len(references) < last:
        raise UserError(f"prompt {len(references)} has no reference: give one for each of {last}")
    scored = task.score

    def texts(indices: np.ndarray) -> list[Any]:
        prompts = zip(task.texts(indices), np.asarray(indices), strict=True)
        return [improve_prompt(x, references[int(i)], template=template) for x, i in prompts]

    def score(indices: np.ndarray, answers: Sequence[str]) -> Mapping[str, Any]:
        found = {} if scored is None else scored(indices, answers)
        asked = (references[int(i)] for i in np.asarray(indices))
        copied = [float(a.split() == b.split()) for a, b in zip(answers, asked, strict=True)]
        return {**found, COPIED: copied}

    return task._replace(texts=texts, score=score, teacher=None)


@dataclass(frozen=True)
class StagedRows:
    """The batches of several parts one after the other, e.g. of a curriculum.

    parts: rows and the steps that they last; the last part goes on.
    """

    parts: Sequence[tuple[Rows, int]]

    def __getitem__(self, step: int, /) -> PyTree:
        for rows, steps in self.parts[:-1]:
            if step < steps:
                return rows[step]
            step -= steps
        return self.parts[-1][0][step]


class Improved(NamedTuple):
    """Answers after 0, 1, ... rounds, `texts[round][n]`, and how many each round had to keep.

    kept: [rounds] answers that stayed as they were: with their prompts they are longer than the
    window, or they have no token.
    """

    texts: list[list[str]]
    kept: list[int]


def improve(
    lab: LanguageLab,
    params: Params,
    prompts: Sequence[Any],
    answers: Sequence[str],
    key: jax.Array,
    *,
    rounds: int,
    sampling: SamplingConfig | None = None,
    template: str = TEMPLATE,
) -> Improved:
    """y_{k+1} ~ pi(. | x, y_k), k = 0, ..., rounds - 1, from given answers y_0.

    The rounds are a Markov chain: its stationary law bounds what more of them bring.

    Args:
      params: of the policy that was trained on an `improving_task`.
      sampling: how answers are drawn, the lab's way if None; the paper's temperature is 0.4 to 0.6.
    """
    check_range("[1, inf)", rounds=rounds)
    texts, kept = [list(answers)], []
    for number in range(rounds):
        now = texts[-1]
        fits = []
        for n, (prompt, answer) in enumerate(zip(prompts, now, strict=True)):
            read, written = _window(lab, prompt, answer, template)
            fits += [n] if written and read <= lab.prompt_length else []
        here = jax.random.fold_in(key, number)
        asked = [improve_prompt(prompts[n], now[n], template=template) for n in fits]
        drawn = sample_texts(lab, params, asked, here, samples=1, sampling=sampling)
        better = list(now)
        for n, (text,) in zip(fits, drawn, strict=True):
            better[n] = text
        texts.append(better)
        kept.append(len(now) - len(fits))
    return Improved(texts, kept)
