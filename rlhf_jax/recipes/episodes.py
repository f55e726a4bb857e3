"""Answers of a lab to the prompts of a task: single ones, or episodes where the task has a `step`.

    task = text_task(prompts, None, objective="return", heldout=64, step=guess, max_turns=3)

An episode is one row: answer, observation, answer, ... (`sampling.turns`). After a prompt of
messages the lab's chat template is written around an observation, a text being the user's. The
return of an episode, the sum of the rewards of its turns, is the score named "return", beside those
of `Task.score`, which is given the text of the whole episode. A turn with reward None or NaN leaves
the episode out.

Dr. GRPO's denominator and DAPO's penalty of long answers keep the lab's answer_length as their
length, while the tokens they count are those of all turns.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.checks import check_range
from rlhf_jax.data.chat import encode_reply
from rlhf_jax.data.messages import as_user
from rlhf_jax.data.tokenizer import decode_rows, encode_observation
from rlhf_jax.recipes.lab import LanguageLab, decode_texts
from rlhf_jax.recipes.task import Scores, Task, score_answers
from rlhf_jax.sampling.decode import SamplingConfig
from rlhf_jax.sampling.turns import ReadObservation, StepError, rollout_turns
from rlhf_jax.sharding import on_host, split_batch
from rlhf_jax.training import UserError
from rlhf_jax.training.processes import by_rows
from rlhf_jax.types import Params, Prompts, Rollout

RETURN = "return"  # the name of an episode's own score


class Turns(NamedTuple):
    """The turns of a rollout [B, K] of episodes, N at most.

    turn_ids, rewards, truncated: as in `sampling.turns.TurnRollout`; NaN for a turn without reward.
    """

    turn_ids: Int[Array, "B K T"]
    rewards: Float[Array, "B K N"]
    truncated: Bool[Array, "B K"]


class Transcripts(NamedTuple):
    """The part of a rollout that is read on the host.

    ids: [B, K, T]. valid: [B, K, T] True at the tokens of an episode, observations included; None
    for single answers, which end with their stop token. rewards: [B, K, N] of turns, or None.
    """

    ids: Array | np.ndarray
    valid: Array | np.ndarray | None
    rewards: Array | np.ndarray | None


def task_rollout(
    lab: LanguageLab,
    task: Task,
    params: Params | Sequence[Params],
    prompts: Prompts,
    key: jax.Array,
    samples: int,
    first: int = 0,
    *,
    sampling: SamplingConfig | None = None,
    episode_length: int | None = None,
    agents: int | None = None,
) -> tuple[Rollout, Turns | None]:
    """`lab.draw`, or `rollout_turns` of it where the task has a step; None for no turns.

    Args:
      sampling: of each turn, the lab's way if None.
      agents: who take turns, as in `sampling.turns.rollout_turns`.
      episode_length: T of a whole episode, at least max_turns answers of the longest kind; None
        leaves room for an observation of the lab's prompt_length between two of them.
    Raises:
      UserError: the step failed (chained); it names the prompt.
      ValueError: episode_length is too small, or the task has no step, or the lab has stop strings
        and the task has a step.
    """
    draw = lab.draw if sampling is None else partial(lab.draw, sampling=sampling)
    if task.step is None:
        if episode_length is not None:
            raise ValueError("episode_length is of a task with a step, and this one has none")
        if agents is not None:
            raise ValueError("agents take turns in a task with a step, and this one has none")
        return draw(params, prompts, key, samples, first), None
    if lab.stops:
        raise ValueError("stop strings end single answers, and this task has a step")
    turn_tokens = lab.answer_length if sampling is None else sampling.max_new_tokens
    answered = task.max_turns * turn_tokens
    if episode_length is None:
        episode_length = answered + (task.max_turns - 1) * lab.prompt_length
    check_range(f"[{answered}, inf)", episode_length=episode_length)
    read = _reader(lab, task)
    fixed = {"vocabulary": lab.vocabulary, "length": episode_length, "read": read}
    play = partial(rollout_turns, **fixed, over_rows=_over_rows)

    def draw_here(*given: Any) -> Rollout:
        return on_host(draw(*given))

    try:
        found = play(
            *(draw_here, params, prompts, key, samples, first),
            max_turns=task.max_turns,
            step=task.step,
            agents=agents,
        )
    except StepError as error:
        raise UserError(str(error)) from error
    if lab.mesh is not None:
        found = split_batch(found, lab.mesh)
    return found.rollout, Turns(found.turn_ids, found.rewards, found.truncated)


def _over_rows(work: Callable[..., list[Any]], *columns: Any) -> list[Any]:
    """Each process calls the step for its part of the rows."""

    def own(*rows: Any) -> list[Any]:
        try:
            return work(*rows)
        except StepError as error:
            raise UserError(str(error)) from error

    return by_rows(own, *columns)


def _reader(lab: LanguageLab, task: Task) -> ReadObservation:
    """An observation as the lab's template writes it after messages, and as it is after a text."""

    def read(index: int, observation: Any) -> list[int]:
        (prompt,) = task.texts(np.array([index]))
        if isinstance(prompt, str) and isinstance(observation, str):
            return encode_observation(lab.vocabulary, observation)
        if isinstance(prompt, str) or lab.chat is None:
            raise ValueError("messages follow a prompt of messages, and this one is a text")
        messages = as_user(observation) if isinstance(observation, str) else observation
        return encode_reply(lab.vocabulary, lab.chat, list(messages))

    return read


def transcripts(rollout: Rollout, turns: Turns | None) -> Transcripts:
    """Of a rollout, still on the device."""
    trajectory = rollout.trajectory
    if turns is None:
        return Transcripts(trajectory.actions, None, None)
    return Transcripts(trajectory.actions, trajectory.valid, turns.rewards)


def transcript_texts(lab: LanguageLab, found: Transcripts) -> list[str]:
    """B K texts in order; the observations of an episode are part of its text."""
    ids = np.asarray(found.ids)
    ids = ids.reshape(-1, ids.shape[-1])
    if found.valid is None:
        return decode_texts(lab, ids)
    said = np.asarray(found.valid).reshape(ids.shape) & ~np.isin(ids, lab.vocabulary.stop_ids)
    rows = (row[kept].tolist() for row, kept in zip(ids, said, strict=True))
    return decode_rows(lab.vocabulary, rows)


def score_transcripts(
    lab: LanguageLab, task: Task, indices: np.ndarray, found: Transcripts
) -> tuple[list[list[str]], Scores]:
    """Texts [B][K], and the scores of each by name, [B, K], with the return of an episode.

    Raises:
      UserError: as `score_answers`, or the task gives an episode a score named "return".
    """
    texts, samples = transcript_texts(lab, found), found.ids.shape[1]
    scores = score_answers(task, np.repeat(indices, samples), texts)
    named = {name: each.reshape(-1, samples) for name, each in scores.items()}
    if found.rewards is not None:
        if RETURN in named:
            raise UserError(f"the score {RETURN!r} is that of the steps: give yours another name")
        named[RETURN] = np.asarray(found.rewards, np.float64).sum(-1)
    return [texts[i : i + samples] for i in range(0, len(texts), samples)], named


def mask_unrewarded(scores: Float[Array, "B K"], turns: Turns) -> Float[Array, "B K"]:
    """The scores, NaN where a turn has no reward."""
    return jnp.where(jnp.isfinite(turns.rewards).all(-1), scores, jnp.nan)


def turn_metrics(turns: Turns) -> dict[str, Array]:
    """Turns that were taken, and the share of episodes that a length limit ended."""
    return {
        "episodes/turns": (jnp.max(turns.turn_ids, axis=-1) + 1).mean(),
        "episodes/truncated": turns.truncated.mean(),
    }
