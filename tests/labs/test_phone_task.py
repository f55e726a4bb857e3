"""The text phone as a task: the solver's episode, bad actions, an empty turn."""

import numpy as np
import pytest

from rlhf_jax.envs import gui
from rlhf_jax.labs.phone import (
    NOT_READ,
    OUT_OF_RANGE,
    phone_horizons,
    phone_lab,
    phone_task,
    solver_episodes,
)
from rlhf_jax.labs.size import Size

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


def test_tasks_up_to_a_longest_horizon():
    task = phone_task(0, count=6, heldout=3, longest=3)
    assert task.max_turns == 3 + gui.EXTRA_STEPS
    assert phone_horizons(range(7), longest=3).tolist() == [1, 2, 3, 1, 2, 3, 1]
    actions = gui.solution(gui.gui_task(0, 8, (3,), heldout=True))
    found = episode(task, 8, map(gui.write_action, actions))
    assert [done for _, _, done in found] == [False, False, True]
    with pytest.raises(ValueError, match=r"longest must be in \[1, 8\]"):
        phone_task(0, count=4, heldout=4, longest=9)


def test_the_solvers_episodes_are_read_back_word_by_word():
    lab = phone_lab(Size(d_model=16, num_layers=1), seed=0)
    found = solver_episodes(lab, TASK, 0, [1, 6])
    tokenizer = lab.vocabulary.tokenizer
    for row, index in enumerate((1, 6)):
        task = world_task(index)
        actions = [gui.write_action(action) for action in gui.solution(task)]
        said = np.asarray(found.actions)[row, np.asarray(found.mask)[row]].tolist()
        end = lab.vocabulary.stop_ids[0]
        assert said.count(end) == len(actions)
        words = " ".join("" if i == end else tokenizer.id_to_token(i) for i in said)
        assert words.split() == " ".join(actions).split()
        read = np.asarray(found.valid)[row] & ~np.asarray(found.mask)[row]
        screens = [tokenizer.id_to_token(int(i)) for i in np.asarray(found.actions)[row, read]]
        assert screens.count("screen") == len(actions) - 1
        assert "<unk>" not in screens


def test_every_word_that_can_be_read_has_an_id():
    lab = phone_lab(Size(d_model=16, num_layers=1), seed=0)
    known = set(gui.gui_words(0))
    assert {"tap", "type", "field", "more", "ideas", "noon", "0"} <= known
    for text in TASK.texts(np.arange(24)):
        assert set(text.split()) <= known
        assert len(text.split()) < lab.prompt_length
    for word in [*NOT_READ.split(), *OUT_OF_RANGE.split()]:
        assert lab.vocabulary.tokenizer.token_to_id(word) is not None
