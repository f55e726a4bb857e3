"""A reward that reads a principle in words: does the answer follow it?

    records = asked_records(records)                    # {"prompt", "answer", "principle", "label"}
    rows = principle_rows(lab, records, batch_size=16)
    params = principle_model(stage, lab, rows, params, fit)
    scores = scores_by_principle(lab, params, prompts, answers, ["polite", "short"])    # [C, N]

The principle stands at the end of the prompt, so that a long answer is cut and never the principle.
The score is the log-odds of yes: the head of a reward model on the last token is W_yes - W_no of a
model that writes the verdict, the form in `recipes.entailment`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from rlhf_jax.algos import entailment as entailment_update
from rlhf_jax.algos.entailment import EntailmentBatch
from rlhf_jax.recipes.hosts import host_batches
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.recipes.offline import Fit, built, fit_rows, step_options
from rlhf_jax.recipes.refusals import quoted
from rlhf_jax.recipes.rows import Records, Rows, answer_batch, in_chunks
from rlhf_jax.training import Stage, UserError
from rlhf_jax.types import Params

TEMPLATE = "{prompt} principle : {principle}"


def asked_prompt(prompt: Any, principle: str, *, template: str = TEMPLATE) -> Any:
    """The prompt with the principle in it; of messages, in the last one.

    >>> asked_prompt("2 + 2 ?", "the answer is short .")
    '2 + 2 ? principle : the answer is short .'
    """
    if isinstance(prompt, str):
        return template.format(prompt=prompt, principle=principle)
    *before, last = prompt
    if not isinstance(last.get("content"), str):
        raise UserError(f"the last message must be a text to add a principle, got {last!r:.60}")
    text = asked_prompt(last["content"], principle, template=template)
    return (*before, {**last, "content": text})


def asked_records(records: Records, *, template: str = TEMPLATE) -> list[dict]:
    """Records of labelled answers with the principle in their prompts.

    Raises:
      UserError: one without a principle, or with a label that is neither true nor false; it quotes
        the prompt.
    """
    found = []
    for number in range(len(records)):
        record: Mapping[str, Any] = records[number]
        principle, label = principle_label(record)
        prompt = asked_prompt(record["prompt"], principle, template=template)
        found.append({**record, "prompt": prompt, "label": label})
    return found


def principle_label(record: Mapping[str, Any]) -> tuple[str, bool]:
    """The principle of a labelled answer, and whether it follows it.

    Raises:
      UserError: as `asked_records`.
    """
    about = f"the record with the prompt {quoted(record['prompt'])}"
    principle, label = record.get("principle"), record.get("label")
    if not (isinstance(principle, str) and principle.strip()):
        raise UserError(f'{about} has no principle: write it, in words, into "principle"')
    if not (isinstance(label, bool | int | float | np.bool_) and label in (0, 1)):
        raise UserError(
            f"{about}: the label must be true or false, whether the answer follows the "
            f"principle, got {label!r:.20}"
        )
    return principle, bool(label)


def principle_batch(lab: LanguageLab, records: Sequence[dict]) -> EntailmentBatch:
    """Asked records as one batch."""
    labels = np.array([record["label"] for record in records], bool)
    return EntailmentBatch(answer_batch(lab, records), jnp.asarray(labels))


def principle_rows(lab: LanguageLab, records: Records, *, batch_size: int) -> Rows:
    """Batches of asked records, in an order of the lab's seed."""
    return host_batches(lab, records, partial(principle_batch, lab), batch_size=batch_size)


def principle_model(stage: Stage, lab: LanguageLab, rows: Rows, params: Params, fit: Fit) -> Params:
    """The log-odds of yes from `principle_rows`; params from `on_trunk`, as of a reward model."""
    options = step_options(lab, fit, "reward")
    update = built(entailment_update.make_update, lab.reward, fit.optimizer, **options)
    return fit_rows(stage, lab, update, rows, params, fit, part="reward")


def log_odds(
    lab: LanguageLab, params: Params, records: Sequence[dict], *, batch_size: int
) -> np.ndarray:
    """[N] scores of records with prompts as they were learned."""

    def score(part: Sequence[dict]) -> Any:
        return lab.scores(params, answer_batch(lab, part))

    return np.asarray(in_chunks(score, records, size=batch_size), float)


def scores_by_principle(
    lab: LanguageLab,
    params: Params,
    prompts: Sequence[Any],
    answers: Sequence[Any],
    principles: Sequence[str],
    *,
    template: str = TEMPLATE,
    batch_size: int = 16,
) -> np.ndarray:
    """[C, N] log-odds that each answer follows each principle; they are chosen here.

    `ops.ensembles.mean_scores` and `worst_case_scores` make one number of the C.
    """
    rows = [
        {"prompt": asked_prompt(prompt, principle, template=template), "answer": answer}
        for principle in principles
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    found = log_odds(lab, params, rows, batch_size=batch_size)
    return found.reshape(len(principles), len(prompts))
