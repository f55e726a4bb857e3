"""Prompts from easy to hard, from `--difficulty`."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

from rlhf_jax.cli.online_options import Curriculum
from rlhf_jax.recipes import Task, curriculum_rows, prompt_rows
from rlhf_jax.recipes.rows import Rows
from rlhf_jax.training import UserError


def difficulties(options: Curriculum, records: Sequence[dict[str, Any]]) -> list[float]:
    """The difficulty of each record; [] without --difficulty.

    Raises:
      UserError: a record without a number.
    """
    name = options.difficulty
    if name is None:
        return []
    found = []
    for number, record in enumerate(records):
        value = record.get(name)
        if not isinstance(value, Real) or not math.isfinite(value):
            raise UserError(f"--difficulty {name}: prompt {number} has {value!r}, not a number")
        found.append(float(value))
    return found


def staged_rows(
    options: Curriculum,
    task: Task,
    difficulty: Sequence[float],
    *,
    steps: int,
    batch_size: int,
    seed: int,
) -> Rows:
    """The prompts of each step: of the stages of --difficulty, or each once before any again."""
    if options.difficulty is None:
        return prompt_rows(task, batch_size=batch_size, seed=seed)
    return curriculum_rows(
        task,
        difficulty[: len(task.splits["train"])],
        stages=options.stages,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        replay=options.replay,
    )
