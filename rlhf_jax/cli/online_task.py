"""What a command on fresh answers trains on: lab, policy, task and the prompts of each step."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from rlhf_jax.cli.curricula import difficulties, staged_rows
from rlhf_jax.cli.data import read_prompts
from rlhf_jax.cli.directions import directed, longest_prompts
from rlhf_jax.cli.improvement import course_rows, open_improving
from rlhf_jax.cli.job import Job
from rlhf_jax.cli.limits import cost_specs
from rlhf_jax.cli.retries import retried
from rlhf_jax.cli.rewards import scored_task
from rlhf_jax.cli.session import open_lab, start_policy, vocabulary_of
from rlhf_jax.hf import Pretrained
from rlhf_jax.recipes import LanguageLab, Task, stopped_lab
from rlhf_jax.recipes.rows import Rows
from rlhf_jax.types import Params


class OnlineTask(NamedTuple):
    """lab, first, merge: as of `start_policy`. asked: the task without terms that only train.

    rows: `rows(steps=...)`, the prompts of each step.
    """

    lab: LanguageLab
    first: Params
    merge: Callable[[Params], Params]
    task: Task
    asked: Task
    rows: Callable[..., Rows]


def open_online(job: Job, base: Pretrained) -> OnlineTask:
    """The prompts with their rewards, or with answers to improve.

    Raises:
      UserError: prompts that do not fit the options.
    """
    order = {"batch_size": job.optimizer.batch_size, "seed": job.model.seed}
    if job.improvement.improve:
        lab, task = open_improving(job, base)
        asked, rows = task, partial(course_rows, task, job.improvement, **order)
    else:
        lab, records = _open_prompts(job, base)
        hardness = difficulties(job.curriculum, records)
        scoring = job.scoring
        costs = {name: spec.scorer for name, spec in cost_specs(job.costs).items()}
        one = scored_task(scoring.reward, records, heldout=scoring.heldout, costs=costs)
        one = directed(job.directions, one)
        task, asked = (retried(job.retries, one, terms=terms) for terms in (True, False))
        rows = partial(staged_rows, job.curriculum, task, hardness, **order)
    lab, first, merge = start_policy(job.adapter, lab, base)
    return OnlineTask(stopped_lab(lab, job.sampling.stop), first, merge, task, asked, rows)


def _open_prompts(job: Job, base: Pretrained) -> tuple[LanguageLab, list[dict]]:
    """A lab, and the prompts that fit into it, with the other fields of their rows."""
    path = job.scoring.prompts
    field = job.curriculum.difficulty
    found = read_prompts(path, base.chat, used=() if field is None else (field,))
    shown = longest_prompts(job.directions, found, vocabulary_of(base))
    lab, (shown,) = open_lab(job, base, [(path, shown)], answers=False)
    return lab, [row["record"] for row in shown]
