"""A queue of past answers to each prompt: the opponents of SPO."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from rlhf_jax.types import Trajectory


class AnswerQueue(NamedTuple):
    """The last Q answers to each of N prompts, the newest first.

    Attributes:
      answers: trajectory with leading axes [N, Q].
      rounds: [N, Q] int32, the round in which each was drawn; -1 in an empty place.
    """

    answers: Trajectory
    rounds: Int[Array, "N Q"]


def empty_queue(answers: Trajectory, *, prompt_count: int, size: int) -> AnswerQueue:
    """An empty queue shaped for these answers.

    Args:
      answers: [B, K], only their shapes and dtypes are used.
      prompt_count: N, number of prompts in the data set; prompt indices are below it.
      size: Q, answers kept per prompt.
    """
    rooms = jax.tree.map(lambda x: jnp.zeros((prompt_count, size, *x.shape[2:]), x.dtype), answers)
    return AnswerQueue(rooms, jnp.full((prompt_count, size), -1, jnp.int32))


def push_answers(
    queue: AnswerQueue,
    indices: Int[Array, "B"],
    answers: Trajectory,
    now: Int[Array, ""] | int,
) -> AnswerQueue:
    """A new queue with these answers in front; the oldest are dropped when it is full.

    Args:
      indices: [B] prompt indices in [0, N), each at most once.
      answers: [B, K].
      now: the round in which they were drawn.
    """
    size = queue.rounds.shape[1]
    fresh = jnp.full(answers.mask.shape[:2], now, jnp.int32)

    def pushed(room: Array, new: Array) -> Array:
        row = jnp.concatenate([new, room[indices]], axis=1)[:, :size]
        return room.at[indices].set(row.astype(room.dtype))

    return jax.tree.map(pushed, queue, AnswerQueue(answers, fresh))
