"""Prompts that show an answer to improve (PIT), from `--improve`, and the curriculum of them."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rlhf_jax.cli.data import Chat, read_answers, read_pairs
from rlhf_jax.cli.job import Job
from rlhf_jax.cli.online_options import Improvement
from rlhf_jax.cli.options import Model
from rlhf_jax.cli.rewards import heldout_count, scored_task
from rlhf_jax.cli.session import open_lab, vocabulary_of
from rlhf_jax.hf import Pretrained
from rlhf_jax.recipes import (
    LanguageLab,
    StagedRows,
    Task,
    fitting_references,
    improve_prompt,
    improvement_records,
    improving_task,
    make_lab,
    prompt_rows,
    reference_records,
)
from rlhf_jax.recipes.rows import Rows
from rlhf_jax.training import UserError

FIELDS = ("chosen", "rejected")  # of the pairs in --prompts, each an answer to improve
DATA, OWN = "data", "own"  # splits of the curriculum


def read_improvements(path: Path, chat: Chat, scratch: Path | None = None) -> list[dict]:
    """Pairs as records of `rlhf sft --improve`: read the rejected answer, write the chosen one."""
    return improvement_records(read_pairs(path, chat))


def open_improving(job: Job, base: Pretrained) -> tuple[LanguageLab, Task]:
    """A lab, and the task of all prompts with an answer to improve.

    Splits are "train", "heldout", and of the training "data" and, with `--own-answers`, "own". Held
    out are the last prompts of the file, with own answers where they have any.

    Raises:
      UserError: a prompt without an answer to improve; none that fits, or under "error" one that
        does not.
    """
    scoring = job.scoring
    pairs = read_pairs(scoring.prompts, base.chat)
    rows = [dict(pairs[i]) for i in range(len(pairs))]
    count = heldout_count(scoring.heldout, len(rows))
    train, held = rows[:-count], rows[-count:]
    parts = {DATA: reference_records(train, FIELDS)}
    asked = {repr(row["prompt"]) for row in held}
    own: Sequence[dict] = ()
    if (path := job.improvement.own_answers) is not None:
        own = reference_records(read_answers(path, base.chat), ["answer"])
        parts[OWN] = [row for row in own if repr(row["prompt"]) not in asked]
    own = [row for row in own if repr(row["prompt"]) in asked]
    parts["heldout"] = own or reference_records(held, FIELDS)
    window = make_lab(
        base.config,
        vocabulary_of(base),
        prompt_length=job.model.prompt_length,
        answer_length=job.model.answer_length,
        chat=base.chat,
    )
    records, splits = [], {}
    for name, part in parts.items():
        fitting = fitted(job.model, window, name, part)
        splits[name] = range(len(records), len(records) + len(fitting))
        records += fitting
    splits["train"] = range(splits["heldout"].start)
    shown = [{"prompt": improve_prompt(row["prompt"], row["reference"])} for row in records]
    lab, _ = open_lab(job, base, [(scoring.prompts, shown)], answers=False)
    task = scored_task(scoring.reward, records, heldout=scoring.heldout)
    references = [row["reference"] for row in records]
    return lab, improving_task(task._replace(splits=splits), references)


def fitted(options: Model, window: LanguageLab, name: str, records: Sequence[dict]) -> list[dict]:
    """Those with a reference answer within the window, with a note; UserError under "error"."""
    long = "error" if "error" in (options.long_prompts, options.long_answers) else "drop"
    try:
        found = fitting_references(window, records, long=long)
    except UserError as error:
        raise UserError(f"answers to improve, {name}: {error}") from error
    if found.dropped:
        print(
            f"note: answers to improve, {name}: {found.dropped} of {len(records)} are longer than "
            "the window, or empty, and dropped"
        )
    return found.records


def course_rows(
    task: Task, options: Improvement, *, steps: int, batch_size: int, seed: int
) -> Rows:
    """Prompts of each step; with own answers those of the data first, then these."""
    make = partial(prompt_rows, task, batch_size=batch_size, seed=seed)
    if OWN not in task.splits:
        return make()
    first = steps - round(options.own_share * steps)
    data, own = (make(split=name) for name in (DATA, OWN))
    return StagedRows([(data, first), (own, steps - first)])
