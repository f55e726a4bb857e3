"""Several tries at each prompt, from `--turns`."""

from typing import Any

from rlhf_jax.cli.online_options import Retries
from rlhf_jax.recipes import Task, retry_task
from rlhf_jax.training import UserError


def check_retries(options: Retries, *, judge: str | None, overlap: bool, paid_within: bool) -> None:
    """UserError for options that need single answers.

    Args:
      paid_within: whether rewards are paid within an answer, by --step-rewards.
    """
    if options.turns == 1:
        return
    if judge is not None or paid_within:
        raise UserError("--turns needs --reward of whole answers: not --judge, --step-rewards")
    if overlap:
        raise UserError("--turns reads one answer before the next: leave out --overlap")
    if not options.feedback:
        raise UserError("--feedback must be a text: it follows a wrong answer")


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
