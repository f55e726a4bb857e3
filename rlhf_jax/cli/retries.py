"""Several tries at each prompt, from `--turns`."""

from typing import Any

from rlhf_jax.cli.online_options import Retries
from rlhf_jax.recipes import Task, retry_task


def retried(options: Retries, task: Task, *, terms: bool) -> Task:
    """The task with several tries; the task itself with --turns 1.

    Args:
      terms: False leaves out decay and penalties: an episode is worth 1 if it is solved, else 0.
    """
    if options.turns == 1:
        return task
    kept: dict[str, Any] = {
        "turns": options.turns,
        "feedback": options.feedback,
        "solved": options.solved,
    }
    if not terms:
        return retry_task(task, **kept)
    return retry_task(
        task,
        decay=options.turn_decay,
        repetition=options.repetition,
        malformed_reward=options.malformed,
        **kept,
    )
