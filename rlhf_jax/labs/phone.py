"""The text phone as a task: an action a turn, what the screen says next, a hybrid reward.

task = phone_task(0, count=400, heldout=64)
horizons = phone_horizons(task.splits["train"])
rows = curriculum_rows(task, horizons, steps=240, batch_size=12, seed=0)
lab = phone_lab(Size(), seed=0)
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from rlhf_jax.checks import check_range
from rlhf_jax.data.padding import pad_right
from rlhf_jax.data.tokenizer import encode_observation, standard_vocabulary, train_word_tokenizer
from rlhf_jax.envs import gui
from rlhf_jax.labs.size import Size
from rlhf_jax.ops.operations import operation_reward
from rlhf_jax.policies.language import language_trajectory
from rlhf_jax.recipes.episodes import RETURN
from rlhf_jax.recipes.lab import LanguageLab, make_lab, make_prompts
from rlhf_jax.recipes.task import Task
from rlhf_jax.sampling.turns import History
from rlhf_jax.types import Trajectory

NOT_READ = "not an action ."
OUT_OF_RANGE = "no such row ."


def phone_task(
    seed: int, *, count: int, heldout: int, dense: float = 0.2, longest: int = gui.MAX_HORIZON
) -> Task:
    """Tasks of 1 to `longest` actions in turn; held-out ones are on layouts of their own.

    A turn is paid its `operation_reward` beside the solver's action in the same state, so that the
    solver's whole episode sums to c, and 1 - c at the end if the task is done. An answer that is no
    action, an empty one among them, and an action out of range are turns that change nothing: the
    policy reads that, and the screen again.

    Args:
      count, heldout: prompts to train on, and held out.
      dense: c in [0, 1]; 0 is the outcome alone.
      longest: horizon, at most 8.
    """
    check_range("[1, inf)", count=count, heldout=heldout)
    check_range("[0, 1]", dense=dense)
    check_range(f"[1, {gui.MAX_HORIZON}]", longest=longest)

    def task_at(index: int) -> gui.GuiTask:
        return _task(seed, index, longest, index >= count)

    def texts(indices: np.ndarray) -> list[str]:
        found = [task_at(int(i)) for i in indices]
        return [f"{t.goal} . {gui.screen_text(t.phone, gui.first_state(t))}" for t in found]

    def step(index: int, history: History, answer: str) -> tuple[str, float, bool]:
        task = task_at(index)
        state = gui.first_state(task)
        for said, _ in history:
            state, _ = _acted(task, state, said)
        marks = gui.mark_action(answer, gui.next_action(task, state))
        state, problem = _acted(task, state, answer)
        steps = len(history) + 1
        reward = dense * _paid(*marks) / task.horizon if steps <= task.horizon else 0.0
        reward += (1.0 - dense) * gui.is_done(task, state)
        observation = f"{problem} {gui.screen_text(task.phone, state)}".strip()
        return observation, reward, gui.is_over(task, state, steps)

    splits = {"train": range(count), "heldout": range(count, count + heldout)}
    turns = longest + gui.EXTRA_STEPS
    return Task(texts, splits, None, RETURN, step=step, max_turns=turns)


def phone_horizons(
    indices: Sequence[int] | np.ndarray, *, longest: int = gui.MAX_HORIZON
) -> Int[np.ndarray, "N"]:
    """Actions of the solver in the tasks with these numbers."""
    return np.asarray(indices) % longest + 1


def phone_lab(
    size: Size, *, seed: int, prompt_words: int = 44, answer_words: int = 4
) -> LanguageLab:
    """A transformer with one id for each word of the phones of this seed.

    Args:
      prompt_words, answer_words: of a goal with its screen, and of an action, at most.
    """
    words = [*gui.gui_words(seed), *NOT_READ.split(), *OUT_OF_RANGE.split()]
    vocabulary = standard_vocabulary(train_word_tokenizer(words))
    return make_lab(
        size.transformer(vocab_size=vocabulary.size),
        vocabulary,
        prompt_length=prompt_words + 1,  # the <bos>
        answer_length=answer_words + 1,  # the <eos>
        seed=seed,
    )


def solver_episodes(
    lab: LanguageLab, task: Task, seed: int, indices: Sequence[int] | np.ndarray
) -> Trajectory:
    """The solver's episodes of training tasks of a `phone_task` of this seed, [B].

    Its actions are counted; what the screen says is read.
    """
    prompts = make_prompts(lab, task, np.asarray(indices))
    rows, counts = zip(*(_solver_tokens(lab, task, seed, int(i)) for i in indices), strict=True)
    width, pad_id = max(map(len, rows)), lab.vocabulary.pad_id
    ids, valid = pad_right(rows, width, pad_id=pad_id)
    counted = pad_right(counts, width).ids.astype(bool)
    return language_trajectory(*map(jnp.asarray, (*prompts.inputs, ids, counted, valid)))


def _solver_tokens(lab: LanguageLab, task: Task, seed: int, index: int) -> tuple[list, list]:
    """Ids after the prompt, and which of them are the solver's."""
    longest = task.max_turns - gui.EXTRA_STEPS
    ids, counted, history = [], [], ()
    assert task.step is not None
    for action in gui.solution(_task(seed, index, longest, False)):
        answer = gui.write_action(action)
        said = [*encode_observation(lab.vocabulary, answer), lab.vocabulary.stop_ids[0]]
        observation, _, done = task.step(index, history, answer)
        read = [] if done else encode_observation(lab.vocabulary, str(observation))
        ids += said + read
        counted += [1] * len(said) + [0] * len(read)
        history = (*history, (answer, observation))
    return ids, counted


@cache
def _task(seed: int, index: int, longest: int, heldout: bool) -> gui.GuiTask:
    length = int(phone_horizons([index], longest=longest)[0])
    return gui.gui_task(seed, index, (length,), heldout=heldout)


def _acted(task: gui.GuiTask, state: gui.GuiState, said: str) -> tuple[gui.GuiState, str]:
    """The state after what was said, and what is wrong with it."""
    action = gui.read_action(said)
    if action is None:
        return state, NOT_READ
    try:
        return gui.act(task.phone, state, action), ""
    except gui.GuiError:
        return state, OUT_OF_RANGE


@cache
def _paid(form: bool, kind: bool, argument: float) -> float:
    marks: Any = (jnp.asarray(float(x)) for x in (form, kind, argument))
    return float(operation_reward(*marks))
