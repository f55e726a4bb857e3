"""Prompts that show a direction between two rewards, from `--directions`."""

from collections.abc import Sequence

from rlhf_jax.cli.online_options import Directions, Scoring
from rlhf_jax.data.lengths import LengthPolicy
from rlhf_jax.recipes import Task, directed_prompt, directed_task, direction_grid, write_direction
from rlhf_jax.training import UserError
from rlhf_jax.types import Vocabulary


def check_directed(options: Directions, scoring: Scoring, long_prompts: LengthPolicy) -> None:
    """UserError unless there are names for two rewards, and prompts keep their end."""
    names, rewards = options.directions, scoring.reward
    if not names:
        return
    if len(names) != 2 or len(rewards) != 2:
        raise UserError(
            f"--directions needs two names for two --reward, got {len(names)} for {len(rewards)}"
        )
    if long_prompts == "truncate_right":
        raise UserError("--directions end a prompt: leave out --long-prompts truncate_right")


def direction_texts(options: Directions) -> list[str]:
    """What the prompts show; none without `--directions`."""
    if not options.directions:
        return []
    grid = direction_grid(options.direction_count, options.direction_angle)
    return [write_direction(options.directions, direction) for direction in grid]


def longest_prompts(
    options: Directions, records: Sequence[dict], vocabulary: Vocabulary
) -> list[dict]:
    """Each record, in "record", and its prompt in the direction that has the most tokens."""
    texts = direction_texts(options)
    if not texts:
        return [{"prompt": record["prompt"], "record": record} for record in records]
    longest = max(texts, key=lambda text: len(vocabulary.tokenizer.encode(text).ids))
    return [
        {"prompt": directed_prompt(record["prompt"], longest), "record": record}
        for record in records
    ]


def directed(options: Directions, task: Task) -> Task:
    """The task in all directions; the task itself without `--directions`."""
    if not options.directions:
        return task
    grid = direction_grid(options.direction_count, options.direction_angle)
    return directed_task(task, grid, names=options.directions)
