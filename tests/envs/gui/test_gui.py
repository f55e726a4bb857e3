"""The text phone: actions, screens, the solver against a search, the checker, baselines."""

from collections import deque
from random import Random

import pytest

from rlhf_jax.envs import gui
from rlhf_jax.envs.gui import GuiAction, GuiError, GuiState
from rlhf_jax.envs.gui.actions import token_f1
from rlhf_jax.envs.gui.phone import HOME, Screen
from rlhf_jax.envs.gui.play import shown_rows
from rlhf_jax.envs.gui.tasks import HELDOUT_LAYOUTS, LAYOUTS, Wish

PHONE = gui.make_phone(0, 0)


def follow(phone, state, *actions):
    for text in actions:
        action = gui.read_action(text)
        assert action is not None
        state = gui.act(phone, state, action)
    return state


def tap(phone, state, label):
    """The number of the row with this label, scrolling to it."""
    rows = phone.screens[state.screen].rows
    place = next(i for i, row in enumerate(rows) if row.label == label)
    while not state.offset <= place < state.offset + gui.WINDOW:
        state = follow(phone, state, "scroll down" if place > state.offset else "scroll up")
    return follow(phone, state, f"tap {place - state.offset}")


@pytest.mark.parametrize("text", ["tap 3", "type meet at noon", "scroll up", "answer 4 1 7"])
def test_actions_are_read_and_written(text):
    action = gui.read_action(f"  {text} ")
    assert action is not None
    assert gui.write_action(action) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "tap", "tap x", "tap -1", "tap 1 2", "tap ²", "tap 1000", "type", "scroll left"),
        *("scroll", "answer", "go home", "Tap 1"),
    ],
)
def test_what_is_no_action(text):
    assert gui.read_action(text) is None


def test_marks_by_hand():
    target = GuiAction("tap", "3")
    assert gui.mark_action("tap 3", target) == (True, True, 1.0)
    assert gui.mark_action("tap 4", target) == (True, True, 0.0)
    assert gui.mark_action("type 3", target) == (True, False, 0.0)  # the gate
    assert gui.mark_action("", target) == (False, False, 0.0)
    # Of "at noon" and "noon": precision 1/2, recall 1, F1 = 2/3.
    assert gui.mark_action("type at noon", GuiAction("type", "noon"))[2] == pytest.approx(2 / 3)
    assert token_f1("", "") == 0.0


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (GuiAction("tap", "6"), r"tap 6 is out of range: the screen has rows 0 to 5"),
        (GuiAction("tap", "-1"), "tap -1 is out of range"),
        (GuiAction("tap", ""), "tap  is out of range"),
        (GuiAction("tap", "²"), "tap ² is out of range"),
        (GuiAction("scroll", "left"), "scroll left is out of range: up or down"),
        (GuiAction("swipe", "up"), "no action is called 'swipe'"),
    ],
)
def test_an_action_out_of_range_is_named(action, message):
    with pytest.raises(GuiError, match=message):
        gui.act(PHONE, GuiState(HOME), action)


def test_a_window_scrolls_to_both_ends():
    state = GuiState(HOME)
    assert len(shown_rows(PHONE, state)) == gui.WINDOW == 6
    assert gui.screen_text(PHONE, state).endswith("more below .")
    down = follow(PHONE, state, "scroll down")
    assert shown_rows(PHONE, down) == PHONE.screens[HOME].rows[2:]  # eight apps
    assert gui.screen_text(PHONE, down).endswith("more above .")
    assert follow(PHONE, down, "scroll down") == down
    assert follow(PHONE, down, "scroll up", "scroll up") == state


def test_a_setting_that_is_set_back_is_not_changed():
    was = PHONE.facts["wifi"]
    other = "off" if was == "on" else "on"
    state = tap(PHONE, GuiState("setting wifi"), other)
    assert state.facts == (("wifi", other),)
    assert tap(PHONE, state, was).facts == ()


def test_a_form_is_typed_where_it_was_tapped():
    state = GuiState("compose")
    assert follow(PHONE, state, "type lost") == state  # nothing is tapped yet
    state = follow(PHONE, tap(PHONE, state, "to"), "type ada")
    assert "1 to field ada here" in gui.screen_text(PHONE, state)
    assert "2 text field empty" in gui.screen_text(PHONE, state)
    state = follow(PHONE, tap(PHONE, state, "text"), "type bring cake")
    sent = tap(PHONE, state, "save")
    assert (sent.screen, sent.facts) == ("inbox", (("sent", "bring cake ; ada"),))
    assert tap(PHONE, state, "back").fields == ()  # leaving forgets them


def test_screens_lead_back_home_and_are_of_every_type():
    assert len(gui.SCREEN_TYPES) == 19
    for layout in (0, 5, LAYOUTS):
        phone = gui.make_phone(0, layout)
        assert {screen.type for screen in phone.screens.values()} == set(gui.SCREEN_TYPES)
        for name, screen in phone.screens.items():
            assert isinstance(screen, Screen)
            if name != HOME:
                assert screen.rows[0][1:3] == ("open", screen.parent)
            for row in screen.rows:
                assert row.kind != "open" or row.target in phone.screens


TASKS = [gui.gui_task(0, i, (i % 8 + 1,)) for i in range(240)]


def test_two_hundred_tasks_of_every_horizon():
    said = {
        (task.goal, task.start, gui.screen_text(task.phone, gui.first_state(task)))
        for task in TASKS
    }
    assert len(said) >= 200
    assert {task.horizon for task in TASKS} == set(range(1, 9))
    kinds = {action.kind for task in TASKS for action in gui.solution(task)}
    assert kinds == {"tap", "type", "scroll", "answer"}
    assert len({task.phone.screens[task.start].type for task in TASKS}) >= 12
    assert TASKS[17] == gui.gui_task(0, 17, (2,))


def test_the_solver_is_right_and_no_step_too_many():
    for task in TASKS:
        actions = gui.solution(task)
        assert len(actions) == task.horizon
        state = follow(task.phone, gui.first_state(task), *map(gui.write_action, actions[:-1]))
        assert not gui.is_done(task, state)
        assert gui.is_done(task, gui.act(task.phone, state, actions[-1]))


def shortest(task, limit):
    """Actions of the shortest way, by search over all taps, scrolls, and the words of the task.

    An answer is given only where it can be read; a guess would be shorter.
    """
    typed = [GuiAction("type", text) for wish in task.wishes for _, text in wish.fields]
    first = gui.first_state(task)
    queue, seen = deque([(first, 0)]), {first}
    while queue:
        state, steps = queue.popleft()
        if gui.is_done(task, state):
            return steps
        rows = range(len(shown_rows(task.phone, state)))
        taps = [GuiAction("tap", str(i)) for i in rows]
        scrolls = [GuiAction("scroll", way) for way in ("up", "down")]
        known = [w for w in task.wishes if not w.fact and w.screen == state.screen]
        words = [*typed, *(GuiAction("answer", wish.value) for wish in known)]
        for action in [*taps, *scrolls, *words] if steps < limit and state.answer is None else []:
            new = gui.act(task.phone, state, action)
            if new not in seen:
                seen.add(new)
                queue.append((new, steps + 1))
    return None


def test_no_way_is_shorter_than_the_solvers():
    for task in TASKS[:40]:
        if task.horizon <= 4:
            assert shortest(task, task.horizon) == task.horizon


def test_the_solver_goes_on_from_any_state():
    """After three random actions that changed no fact it still ends right."""
    for number, task in enumerate(TASKS[::6]):
        rng, state = Random(number), gui.first_state(task)
        for _ in range(3):
            new = gui.act(task.phone, state, gui.random_action(task, state, rng))
            state = new if not new.facts and new.answer is None else state
        for _ in range(20):
            if not gui.is_done(task, state):
                state = gui.act(task.phone, state, gui.next_action(task, state))
        assert gui.is_done(task, state)


def test_a_fact_that_nobody_wished_for_is_not_done():
    task = next(task for task in TASKS if task.wishes[0].fact and not task.wishes[0].fields)
    wish = task.wishes[0]
    assert isinstance(wish, Wish)
    state = GuiState(wish.screen, facts=tuple((w.fact, w.value) for w in task.wishes if w.fact))
    asked = [w.value for w in task.wishes if not w.fact]
    state = state._replace(answer=asked[0] if asked else None, facts=tuple(sorted(state.facts)))
    assert gui.is_done(task, state)
    assert not gui.is_done(task, state._replace(facts=(*state.facts, ("called", "nobody"))))
    assert not gui.is_done(task, state._replace(answer="what"))


def test_an_episode_ends_with_an_answer_or_out_of_steps():
    task = TASKS[0]
    state = gui.first_state(task)
    assert not gui.is_over(task, state, task.horizon + gui.EXTRA_STEPS - 1)
    assert gui.is_over(task, state, task.horizon + gui.EXTRA_STEPS)
    assert gui.is_over(task, state._replace(answer="wrong"), 1)


def test_heldout_tasks_are_on_layouts_of_their_own():
    phones = [gui.make_phone(0, layout) for layout in range(LAYOUTS)]
    unseen = [gui.make_phone(0, LAYOUTS + i) for i in range(HELDOUT_LAYOUTS)]
    assert all(task.phone in phones for task in TASKS[:20])
    for i in range(20):
        phone = gui.gui_task(0, i, heldout=True).phone
        assert phone in unseen
        assert phone not in phones


def test_random_actions_do_short_tasks_sometimes_and_long_ones_hardly_ever():
    rates = gui.success_rates(TASKS[:80], episodes=10)
    assert set(rates) == set(range(1, 9))
    assert 0.01 < rates[1] < 0.4
    assert max(rates[length] for length in range(4, 9)) < 0.02


def test_lengths_out_of_range_are_named():
    for lengths in ((), (0,), (1, 9)):
        with pytest.raises(ValueError, match="lengths must be between 1 and 8"):
            gui.gui_task(0, 0, lengths)
