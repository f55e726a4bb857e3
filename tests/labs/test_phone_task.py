"""The text phone as a task: the solver's episode, bad actions, an empty turn."""

import numpy as np
import pytest

from rlhf_jax.envs import gui
from rlhf_jax.labs.phone import NOT_READ, OUT_OF_RANGE, phone_horizons, phone_task

TASK = phone_task(0, count=16, heldout=8)


def episode(task, index, answers):
    """(observation, reward, done) of these answers in turn."""
    assert task.step is not None
    history, found = (), []
    for answer in answers:
        found.append(task.step(index, history, answer))
        history = (*history, (answer, found[-1][0]))
    return found


def world_task(index):
    return gui.gui_task(0, index, (index % 8 + 1,), heldout=index >= 16)


@pytest.mark.parametrize("index", [0, 3, 5, 7, 16, 23])
def test_the_solvers_episode_is_worth_one(index):
    actions = [gui.write_action(action) for action in gui.solution(world_task(index))]
    found = episode(TASK, index, actions)
    assert [done for _, _, done in found] == [False] * (len(actions) - 1) + [True]
    assert sum(reward for _, reward, _ in found) == pytest.approx(1.0)
    np.testing.assert_allclose([r for _, r, _ in found[:-1]], 0.2 / len(actions), rtol=1e-6)
    assert len(actions) == phone_horizons([index])[0]


def test_a_turn_that_is_no_action_changes_nothing_and_is_told():
    screen = gui.screen_text(world_task(3).phone, gui.first_state(world_task(3)))
    for answer, problem, reward in (("", NOT_READ, 0.0), ("tap 99", OUT_OF_RANGE, None)):
        observation, paid, done = episode(TASK, 3, [answer])[0]
        assert observation == f"{problem} {screen}"
        assert not done
        # Of "tap 99" form and kind count: 0.4 of a quarter of 0.2.
        assert paid == pytest.approx(0.02 if reward is None else reward)


def test_the_outcome_alone_pays_nothing_before_the_end():
    task = phone_task(0, count=16, heldout=8, dense=0.0)
    actions = [gui.write_action(action) for action in gui.solution(world_task(2))]
    assert [reward for _, reward, _ in episode(task, 2, actions)] == [0.0, 0.0, 1.0]


def test_steps_beyond_the_horizon_are_not_paid_and_the_episode_ends():
    found = episode(TASK, 1, ["tap 0"] * 4)
    assert [done for _, _, done in found] == [False, False, False, True]
    assert [reward for _, reward, _ in found[2:]] == [0.0, 0.0]


def test_prompts_show_the_goal_and_the_screen():
    texts = TASK.texts(np.arange(24))
    assert all(" . screen " in text for text in texts)
    assert TASK.splits == {"train": range(16), "heldout": range(16, 24)}
    for options in ({"dense": 1.5}, {"count": 0}, {"heldout": 0}):
        with pytest.raises(ValueError, match="must be in"):
            phone_task(0, **{"count": 4, "heldout": 4} | options)
