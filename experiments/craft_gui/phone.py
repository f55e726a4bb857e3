"""The text phone: how far the solver and random actions get."""

from collections import Counter

import numpy as np

from experiments.craft_gui.config import Config
from rlhf_jax.envs import gui


def phone_study(config: Config) -> dict[str, np.ndarray]:
    """[2, 8] by split and horizon: tasks, success of the solver and of random actions."""
    splits = [
        [gui.gui_task(config.seed, i, (i % 8 + 1,), heldout=heldout) for i in range(count)]
        for heldout, count in ((False, config.phone_tasks), (True, config.phone_tasks // 4 + 8))
    ]
    return {
        "tasks": np.array([_by_horizon(Counter(t.horizon for t in tasks)) for tasks in splits]),
        "solver": np.array([_by_horizon(solver_rates(tasks)) for tasks in splits]),
        "random": np.array(
            [
                _by_horizon(
                    gui.success_rates(tasks, episodes=config.phone_episodes, seed=config.seed)
                )
                for tasks in splits
            ]
        ),
    }


def solver_rates(tasks: list[gui.GuiTask]) -> dict[int, float]:
    """Horizon -> share of tasks that the solver finishes in as many actions."""
    found: dict[int, list[bool]] = {}
    for task in tasks:
        state, actions = gui.first_state(task), gui.solution(task)
        for action in actions:
            state = gui.act(task.phone, state, action)
        right = gui.is_done(task, state) and len(actions) == task.horizon
        found.setdefault(task.horizon, []).append(right)
    return {length: sum(rows) / len(rows) for length, rows in found.items()}


def _by_horizon(values: dict[int, float] | Counter) -> list[float]:
    return [float(values.get(length, 0.0)) for length in range(1, gui.MAX_HORIZON + 1)]
