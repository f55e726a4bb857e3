"""Several turns of a dialogue or of an agent with tools, as one trajectory per row.

The completion of a row is answer, observation, answer, ... The mask counts the tokens of the
policy. Tokens of an observation are valid: the policy reads them, and no loss counts them. Sampled
ids go into the trajectory unchanged, and an observation is tokenised once, so training sees exactly
the sampled tokens.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from threading import Thread
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from rlhf_jax.checks import check_range
from rlhf_jax.data.tokenizer import decode_rows, encode_observation
from rlhf_jax.policies.language import language_trajectory
from rlhf_jax.types import Draw, Params, Prompts, Rollout, Vocabulary

History = tuple[tuple[str, Any], ...]  # (answer, observation) of each turn

# Prompt indices are below 2^31, so no key of a later turn is a key of the first turn's prompts.
LATER_TURNS = 1 << 31


@runtime_checkable
class Step(Protocol):
    """The reaction of a task to one answer: a tool, an environment, or "try again".

    Called on the host with the index of the prompt, the (answer, observation) of each earlier turn,
    and the text of the answer without its stop token. The history holds everything a step needs to
    remember, so it can be a pure function.

    Returns:
      observation: the text that the policy reads before its next answer; None for no text. Where
        the prompt is messages the chat template is written around it, and it may also be messages.
      reward: of this turn; None and NaN leave the row out of training.
      done: True ends the episode; the observation is then not used.
    """

    def __call__(
        self, index: int, history: History, answer: str, /
    ) -> tuple[str | Sequence[dict[str, Any]] | None, float | None, bool]: ...


@runtime_checkable
class ReadObservation(Protocol):
    """The ids of an observation, not "" or None, for the prompt with this number."""

    def __call__(self, index: int, observation: Any, /) -> list[int]: ...


class StepError(ValueError):
    """The step of a task raised, or its output is invalid. The message names the prompt."""


class TurnRollout(NamedTuple):
    """Sampled episodes, N turns at most.

    rollout: trajectory, log-probs and finished. Log-probs are 0 where the mask is False, so also at
      observations; finished is True if the step returned done after an answer with a stop token.
    turn_ids: [*B, T] int32, the turn of each counted token, -1 elsewhere.
    rewards: [*B, N], one per turn, 0 for turns that were not taken; NaN if the step gave None.
    truncated: [*B] True if a length limit ended the row: an answer had no stop token, or there was
      no room for another turn. A row that used all its turns is not truncated.
    weights: [*B] float32, 0 where a reward is NaN, else 1.
    """

    rollout: Rollout
    turn_ids: Int[Array, "*B T"]
    rewards: Float[Array, "*B N"]
    truncated: Bool[Array, "*B"]
    weights: Float[Array, "*B"]


class _Board(NamedTuple):
    """The R rows so far, written in place. `used`: number of the T columns that hold tokens."""

    indices: Int[np.ndarray, "R"]
    ids: Int[np.ndarray, "R T"]
    turn_ids: Int[np.ndarray, "R T"]
    token_logps: Float[np.ndarray, "R T"]
    sampling_token_logps: Float[np.ndarray, "R T"]
    used: Int[np.ndarray, "R"]
    rewards: Float[np.ndarray, "R N"]
    going: Bool[np.ndarray, "R"]
    finished: Bool[np.ndarray, "R"]
    truncated: Bool[np.ndarray, "R"]
    histories: list[History]


def _at_once(work: Callable[..., list[Any]], *columns: Any) -> list[Any]:
    """The rows of one process."""
    return work(*columns)


def rollout_turns(
    draw: Draw,
    params: Params | Sequence[Params],
    prompts: Prompts,
    key: Key[Array, ""],
    samples: int = 1,
    first: int = 0,
    *,
    vocabulary: Vocabulary,
    length: int,
    max_turns: int = 1,
    agents: int | None = None,
    step: Step | None = None,
    read: ReadObservation | None = None,
    over_rows: Callable[..., list[Any]] = _at_once,
) -> TurnRollout:
    """Episodes of up to `max_turns` turns, numbered first .. first + samples - 1 for each prompt.

    Each turn draws all rows, then calls `step` for unfinished ones. The first turn is that of
    `draw(params, prompts, key, samples, first)`; as there, a row depends only on its own counters.
    A language draw is compiled twice: for the prompts [B, P], and for the contexts of later turns
    [B * samples, P + length - turn_tokens], which are processed again in each turn.

    Args:
      draw: e.g. `language_draw(decoder, config)`; turn_tokens is max_new_tokens of its config.
      prompts: inputs are ids and mask [B, P].
      length: T >= turn_tokens, tokens of a whole episode with its observations. A turn begins only
        if turn_tokens columns are left for it.
      max_turns: N >= 1.
      agents: A >= 1 who take turns, turn t by agent t mod A; params are then A of them, which may
        be the same. None for one policy, the params of which are given as they are.
      step: the step of the task; None ends every row after one answer, with reward 0.
      read: ids of an observation; None reads texts as they are.
      over_rows: `(work, *columns) -> work(*columns)`, which several processes may share.
    Returns:
      TurnRollout with leading axes [B, samples].
    Raises:
      ValueError: length < turn_tokens, or another number of params than of agents.
      StepError: the step raised (chained), did not return what `Step` says, or returned an
        observation that cannot be read.
    """
    read = read or _reader(vocabulary)
    check_range("[1, inf)", samples=samples, length=length, max_turns=max_turns)
    speakers = _speakers(params, agents)
    rows = jax.tree.map(lambda x: np.repeat(np.asarray(x), samples, axis=0), prompts)
    numbers = first + np.tile(np.arange(samples), np.size(prompts.indices))[:, None]
    board = _blank_board(rows.indices, length, max_turns, vocabulary.pad_id)
    answers = draw(speakers[0], prompts, key, samples, first)
    turn_tokens = answers.trajectory.actions.shape[-1]
    check_range(f"[{turn_tokens}, inf)", length=length)
    for turn in range(max_turns):
        if turn > 0:
            contexts = _contexts(rows, board, length - turn_tokens)
            turn_key = jax.random.fold_in(key, LATER_TURNS + turn)
            answers = draw(speakers[turn % len(speakers)], contexts, turn_key, 1, numbers)
        ask = partial(over_rows, partial(_ask_all, step or _single_turn))
        _take_turn(board, answers, turn, ask, read, vocabulary)
        if not board.going.any():
            break
    return _turn_rollout(rows, board, samples)


def time_limited(step: Step, seconds: float) -> Step:
    """The same step, which fails if it takes longer than `seconds` > 0: a tool that hangs.

    The call goes on in a thread of its own, which Python cannot end; it dies with the process.

    Raises:
      TimeoutError: inside the rollout, where it becomes a StepError that names the prompt.
    """
    check_range("(0, inf)", seconds=seconds)

    def step_in_time(index: int, history: History, answer: str) -> Any:
        found: Future[Any] = Future()

        def call() -> None:
            try:
                found.set_result(step(index, history, answer))
            # Whatever the step raises is raised where its result is read.
            except BaseException as error:
                found.set_exception(error)

        Thread(target=call, daemon=True).start()
        if not wait([found], timeout=seconds).done:
            raise TimeoutError(f"no outcome within {seconds:g} s")
        return found.result()

    return step_in_time


def _speakers(params: Any, agents: int | None) -> Sequence[Params]:
    """The params of each agent."""
    if agents is None:
        return [params]
    check_range("[1, inf)", agents=agents)
    if not isinstance(params, list | tuple) or len(params) != agents:
        got = len(params) if isinstance(params, list | tuple) else type(params).__name__
        raise ValueError(f"agents {agents} need a list or tuple of so many params, got {got}")
    return params


def _reader(vocabulary: Vocabulary) -> ReadObservation:
    """Reads texts as they are, and refuses messages."""

    def read(index: int, observation: Any) -> list[int]:
        if not isinstance(observation, str):
            raise ValueError("messages need a prompt of messages, and a chat template")
        return encode_observation(vocabulary, observation)

    return read


def _single_turn(index: int, history: History, answer: str) -> tuple[None, float, bool]:
    """The step of a single-turn task: done, with reward 0."""
    return None, 0.0, True


def _blank_board(indices: Int[np.ndarray, "R"], length: int, max_turns: int, pad_id: int) -> _Board:
    """Rows without tokens, all of them unfinished."""
    rows, columns = len(indices), (len(indices), length)
    return _Board(
        indices=indices,
        ids=np.full(columns, pad_id, np.int32),
        turn_ids=np.full(columns, -1, np.int32),
        token_logps=np.zeros(columns, np.float32),
        sampling_token_logps=np.zeros(columns, np.float32),
        used=np.zeros(rows, np.int32),
        rewards=np.zeros((rows, max_turns)),
        going=np.ones(rows, bool),
        finished=np.zeros(rows, bool),
        truncated=np.zeros(rows, bool),
        histories=[()] * rows,
    )


def _contexts(rows: Prompts, board: _Board, columns: int) -> Prompts:
    """Prompts and the tokens after them, [R, P + columns], with padding anywhere."""
    prompt_ids, prompt_mask = rows.inputs
    seen = np.arange(columns) < board.used[:, None]
    ids = np.concatenate([prompt_ids, board.ids[:, :columns]], axis=1)
    return Prompts((ids, np.concatenate([prompt_mask, seen], axis=1)), rows.indices)


def _take_turn(
    board: _Board,
    answers: Rollout,
    turn: int,
    ask: Callable[..., list[Any]],
    read: ReadObservation,
    vocabulary: Vocabulary,
) -> None:
    """Writes the answer of every unfinished row, and the observation of the step."""
    trajectory = answers.trajectory
    logps = (answers.token_logps, answers.sampling_token_logps)
    mask, stopped, *columns = (
        x.reshape(len(board.indices), -1)
        for x in jax.device_get((trajectory.mask, answers.finished, trajectory.actions, *logps))
    )
    going = np.flatnonzero(board.going).tolist()
    texts = decode_rows(vocabulary, [columns[0][row, mask[row]].tolist() for row in going])
    outcomes = ask(board.indices[going], [board.histories[row] for row in going], texts)
    for row, text, (observation, reward, done) in zip(going, texts, outcomes, strict=True):
        ids, *row_logps = (x[row, mask[row]] for x in columns)
        _write(board, row, ids, turn, *row_logps)
        board.rewards[row, turn] = reward
        board.finished[row] = done and stopped[row, 0]
        board.truncated[row] = not stopped[row, 0]
        board.going[row] = not done and stopped[row, 0] and turn + 1 < board.rewards.shape[1]
        if board.going[row]:
            _observe(board, row, (text, observation), read, room=mask.shape[1])


def _observe(
    board: _Board, row: int, said: tuple[str, Any], read: ReadObservation, *, room: int
) -> None:
    """Writes the observation of a row, or ends the row if no room is left after it."""
    try:
        ids = read(int(board.indices[row]), said[1]) if said[1] else []
    except ValueError as error:
        where = f"prompt {board.indices[row]}, turn {len(board.histories[row])}"
        reason = str(error).removeprefix("row 0: ")
        raise StepError(f"the observation at {where} cannot be read: {reason}") from error
    if board.used[row] + len(ids) + room > board.ids.shape[1]:
        board.truncated[row], board.going[row] = True, False
        return
    _write(board, row, ids)
    board.histories[row] = (*board.histories[row], said)


def _write(board: _Board, row: int, ids, turn: int = -1, logps=0.0, sampling_logps=0.0) -> None:
    """Tokens into the next columns of a row; turn -1 for tokens that do not count."""
    columns = slice(board.used[row], board.used[row] + len(ids))
    board.ids[row, columns] = ids
    board.turn_ids[row, columns] = turn
    board.token_logps[row, columns] = logps
    board.sampling_token_logps[row, columns] = sampling_logps
    board.used[row] += len(ids)


def _ask_all(
    step: Step, indices: Any, histories: Sequence[History], answers: Sequence[str]
) -> list[tuple[Any, float, bool]]:
    """Output of the step for each row."""
    rows = zip(indices, histories, answers, strict=True)
    return [_ask(step, *row) for row in rows]


def _ask(step: Step, index: np.integer, history: History, answer: str) -> tuple[Any, float, bool]:
    """Output of the step, with None as "" (text) and NaN (reward); StepError names the prompt."""
    where = f"prompt {index}, turn {len(history)}"
    try:
        found = step(int(index), history, answer)
    # Any exception: a step is the user's code or a service, and its author needs to know the prompt
    # and the turn to find the fault.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise StepError(f"the step failed at {where}: {reason}") from error
    if not _is_outcome(found):
        raise StepError(
            f"the step returned {found!r:.200} at {where}; expected (observation, reward, done): "
            "a text, messages or None, a finite number, NaN or None, and a bool"
        )
    observation, reward, done = found
    return observation or "", math.nan if reward is None else float(reward), bool(done)


def _is_outcome(found: object) -> bool:
    """Whether the output of a step has the types of `Step`."""
    if not isinstance(found, tuple) or len(found) != 3:
        return False
    observation, reward, done = found
    number = np.asarray(math.nan if reward is None else reward)
    numeric = number.ndim == 0 and number.dtype.kind in "biuf" and not np.isinf(number)
    messages = isinstance(observation, list | tuple) and all(
        isinstance(each, dict) and "role" in each for each in observation
    )
    readable = messages or isinstance(observation, str | None)
    return numeric and readable and isinstance(done, bool | np.bool_)


def _turn_rollout(rows: Prompts, board: _Board, samples: int) -> TurnRollout:
    """The board as arrays [B, samples, ...]."""
    valid = np.arange(board.ids.shape[1]) < board.used[:, None]
    tokens = (*rows.inputs, board.ids, board.turn_ids >= 0, valid)
    logps = (board.token_logps, board.sampling_token_logps)
    weights = np.isfinite(board.rewards).all(-1).astype(np.float32)
    ends = (board.turn_ids, board.rewards, board.truncated, weights)
    tokens, logps, finished, ends = jax.tree.map(
        lambda x: jnp.asarray(x.reshape(-1, samples, *x.shape[1:])),
        (tokens, logps, board.finished, ends),
    )
    return TurnRollout(Rollout(language_trajectory(*tokens), *logps, finished), *ends)
