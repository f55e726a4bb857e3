"""The text phone as a task: an action a turn, what the screen says next, a hybrid reward.

task = phone_task(0, count=400, heldout=64)
horizons = phone_horizons(task.splits["train"])
rows = curriculum_rows(task, horizons, steps=240, batch_size=12, seed=0)
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from rlhf_jax.checks import check_range
from rlhf_jax.envs import gui
from rlhf_jax.ops.operations import operation_reward
from rlhf_jax.recipes.episodes import RETURN
from rlhf_jax.recipes.task import Task
from rlhf_jax.sampling.turns import History

NOT_READ = "not an action ."
OUT_OF_RANGE = "no such row ."


def phone_task(seed: int, *, count: int, heldout: int, dense: float = 0.2) -> Task:
    """Tasks of 1 to 8 actions in turn; held-out ones are on layouts that training never shows.

    A turn is paid its `operation_reward` beside the solver's action in the same state, so that the
    solver's whole episode sums to c, and 1 - c at the end if the task is done. An answer that is no
    action, an empty one among them, and an action out of range are turns that change nothing: the
    policy reads that, and the screen again.

    Args:
      count, heldout: prompts to train on, and held out.
      dense: c in [0, 1]; 0 is the outcome alone.
    """
    check_range("[1, inf)", count=count, heldout=heldout)
    check_range("[0, 1]", dense=dense)

    def texts(indices: np.ndarray) -> list[str]:
        found = [_task(seed, int(i), count) for i in indices]
        return [f"{t.goal} . {gui.screen_text(t.phone, gui.first_state(t))}" for t in found]

    def step(index: int, history: History, answer: str) -> tuple[str, float, bool]:
        task = _task(seed, index, count)
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
    turns = gui.MAX_HORIZON + gui.EXTRA_STEPS
    return Task(texts, splits, None, RETURN, step=step, max_turns=turns)


def phone_horizons(indices: Sequence[int] | np.ndarray) -> Int[np.ndarray, "N"]:
    """Actions of the solver in the tasks with these numbers."""
    return np.asarray(indices) % gui.MAX_HORIZON + 1


@cache
def _task(seed: int, index: int, count: int) -> gui.GuiTask:
    length = int(phone_horizons([index])[0])
    return gui.gui_task(seed, index, (length,), heldout=index >= count)


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
