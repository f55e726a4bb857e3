"""Wishes on a phone: tasks of 1 to 8 actions, their solver, their checker, and baselines."""

from collections.abc import Sequence
from functools import cache
from random import Random
from typing import NamedTuple

from rlhf_jax.envs.gui.actions import GuiAction
from rlhf_jax.envs.gui.phone import DAYS, EVENTS, HOME, PEOPLE, SAYINGS, TIMES, Phone, make_phone
from rlhf_jax.envs.gui.play import WINDOW, GuiState, act, shown_rows

MAX_HORIZON = 8
LAYOUTS = 24  # that training shows; held-out ones follow
HELDOUT_LAYOUTS = 8
EXTRA_STEPS = 2  # that an episode may take beyond the solver's
TRIES = 5000
SAID = {  # of a screen with a row that sets a fact
    "setting": "turn {title} {value}",
    "product": "buy {title}",
    "message": "delete the message {title}",
    "contact": "call {title}",
}
ASKED = {  # of a screen with a row that answers
    "message": "read the message {title}",
    "contact": "find the {asked} of {title}",
    "day": "find when {asked} is on {title}",
    "product": "find the {asked} of {title}",
}


class Wish(NamedTuple):
    """text: said by the user. screen: where it is done. fact, value: what a row there must set, or
    the form must save; fact "" asks for the value. fields: (field, text) of a form, in order."""

    text: str
    screen: str
    fact: str
    value: str
    fields: tuple[tuple[str, str], ...] = ()


class GuiTask(NamedTuple):
    """goal: what the user says. phone, start: where and from which screen. wishes: in order, one
    that asks is the last. horizon: actions of the solver."""

    goal: str
    phone: Phone
    start: str
    wishes: tuple[Wish, ...]
    horizon: int


def gui_task(
    seed: int,
    index: int,
    lengths: tuple[int, ...] = tuple(range(1, MAX_HORIZON + 1)),
    *,
    heldout: bool = False,
) -> GuiTask:
    """The task with this index, a function of the arguments only.

    Args:
      lengths: possible horizons, 1 to 8; a curriculum chooses them.
      heldout: on layouts that no other task has.
    Raises:
      ValueError: a length out of range.
    """
    if not lengths or not all(1 <= length <= MAX_HORIZON for length in lengths):
        raise ValueError(f"lengths must be between 1 and {MAX_HORIZON}, got {lengths}")
    rng = Random(f"gui task/{seed}/{index}/{lengths}/{heldout}")
    length = rng.choice(lengths)
    for _ in range(TRIES):
        layout = LAYOUTS + rng.randrange(HELDOUT_LAYOUTS) if heldout else rng.randrange(LAYOUTS)
        phone = _phone(seed, layout)
        wishes = _draw_wishes(rng, seed, layout, 1 if length < 5 else rng.choice((1, 2)))
        start = rng.choice(_way(phone, wishes[0].screen))
        task = GuiTask(" , then ".join(wish.text for wish in wishes), phone, start, wishes, length)
        if len(solution(task, limit=length)) == length and _is_solved(task, length):
            return task
    raise RuntimeError(f"no task of {length} actions in {TRIES} draws")


@cache
def _phone(seed: int, layout: int) -> Phone:
    return make_phone(seed, layout)


@cache
def _wishes(seed: int, layout: int) -> tuple[Wish, ...]:
    """Every wish that this phone can fulfil, and whose fact is not so at first."""
    found = []
    for name, screen in _phone(seed, layout).screens.items():
        for row in screen.rows:
            if row.kind == "set":
                text = SAID[screen.type].format(title=screen.title, value=row.value)
                found.append(Wish(text, name, row.target, row.value))
            elif row.kind == "text" and screen.type in ASKED:
                asked, _, value = row.label.partition(" at " if screen.type == "day" else " ")
                text = ASKED[screen.type].format(asked=asked, title=screen.title)
                found.append(Wish(text, name, "", value))
        found += _forms(name)
    facts = _phone(seed, layout).facts
    return tuple(wish for wish in found if facts.get(wish.fact) != wish.value)


def gui_words(seed: int) -> list[str]:
    """Every word of goals, screens and actions on all layouts of this seed, sorted."""
    found = {"tap", "type", "scroll", "answer", "up", "down"}
    found |= {"screen", "field", "empty", "here", "more", "above", "below"}
    found |= {":", ",", ".", "then", *map(str, range(WINDOW))}
    for layout in range(LAYOUTS + HELDOUT_LAYOUTS):
        for name, screen in _phone(seed, layout).screens.items():
            texts = [name, screen.title, *(row.label for row in screen.rows)]
            found.update(" ".join(texts).split())
        for wish in _wishes(seed, layout):
            found.update(f"{wish.text} {wish.value}".split())
    return sorted(found)


def _forms(name: str) -> list[Wish]:
    """What can be typed on the form of this name."""
    if name == "editor":
        return [Wish(f"note {x}", name, "noted", x, (("text", x),)) for x in SAYINGS]
    if name == "alarm":
        return [Wish(f"wake me at {x}", name, "alarm", x, (("time", x),)) for x in TIMES]
    if name == "compose":
        return [
            Wish(f"write {x} to {who}", name, "sent", f"{x} ; {who}", (("to", who), ("text", x)))
            for who in PEOPLE
            for x in SAYINGS
        ]
    if name in [f"event {day}" for day in DAYS]:
        return [Wish(f"add {x} to {name}", name, name, x, (("title", x),)) for x in EVENTS]
    return []


def _draw_wishes(rng: Random, seed: int, layout: int, count: int) -> tuple[Wish, ...]:
    """Different wishes by kind of screen, one that asks last."""
    known = _wishes(seed, layout)
    by_kind: dict[str, list[Wish]] = {}
    for wish in known:
        kind = f"{wish.screen.partition(' ')[0]} {wish.fact == ''}"
        by_kind.setdefault(kind, []).append(wish)
    found = [rng.choice(by_kind[kind]) for kind in rng.sample(sorted(by_kind), count)]
    return tuple(sorted(found, key=lambda wish: wish.fact == ""))


def _way(phone: Phone, screen: str) -> list[str]:
    """Screens from home to this one."""
    way = [screen]
    while way[-1] != HOME:
        way.append(phone.screens[way[-1]].parent)
    return way[::-1]


def first_state(task: GuiTask) -> GuiState:
    """Nothing done yet."""
    return GuiState(task.start)


def is_done(task: GuiTask, state: GuiState) -> bool:
    """Every wish is fulfilled, its answer given exactly, and nothing else is changed."""
    wanted = {wish.fact: wish.value for wish in task.wishes if wish.fact}
    asked = [wish.value for wish in task.wishes if not wish.fact]
    return dict(state.facts) == wanted and state.answer == (asked[0] if asked else None)


def is_over(task: GuiTask, state: GuiState, steps: int) -> bool:
    """Done, an answer given, or `EXTRA_STEPS` more than the solver takes."""
    spent = steps >= task.horizon + EXTRA_STEPS
    return spent or state.answer is not None or is_done(task, state)


def next_action(task: GuiTask, state: GuiState) -> GuiAction:
    """What the solver does here, in any state: the first wish that is not fulfilled."""
    facts = dict(state.facts)
    left = [wish for wish in task.wishes if not wish.fact or facts.get(wish.fact) != wish.value]
    wish = left[0] if left else task.wishes[-1]
    if state.screen != wish.screen:
        way = _way(task.phone, wish.screen)
        onward = state.screen in way
        target = way[way.index(state.screen) + 1] if onward else _parent(task.phone, state)
        return _tap(task.phone, state, ("open", target, ""))
    if not wish.fact:
        return GuiAction("answer", wish.value)
    typed = dict(state.fields)
    for field, text in wish.fields:
        if typed.get(field) != text:
            focused = state.focus == field
            return (
                GuiAction("type", text)
                if focused
                else _tap(task.phone, state, ("field", field, ""))
            )
    end = ("save", wish.fact, "") if wish.fields else ("set", wish.fact, wish.value)
    return _tap(task.phone, state, end)


def _parent(phone: Phone, state: GuiState) -> str:
    return phone.screens[state.screen].parent


def _tap(phone: Phone, state: GuiState, wanted: tuple[str, str, str]) -> GuiAction:
    """A tap on the row of this kind, target and value, or a scroll towards it."""
    rows = phone.screens[state.screen].rows
    place = next(i for i, row in enumerate(rows) if row[1:] == wanted)
    if state.offset <= place < state.offset + WINDOW:
        return GuiAction("tap", str(place - state.offset))
    return GuiAction("scroll", "down" if place >= state.offset else "up")


def solution(task: GuiTask, *, limit: int = MAX_HORIZON) -> list[GuiAction]:
    """The solver's actions from the start, at most `limit`."""
    state, found = first_state(task), []
    while len(found) < limit and not is_done(task, state):
        found.append(next_action(task, state))
        state = act(task.phone, state, found[-1])
    return found


def _is_solved(task: GuiTask, length: int) -> bool:
    state = first_state(task)
    for action in solution(task, limit=length):
        state = act(task.phone, state, action)
    return is_done(task, state)


def random_action(task: GuiTask, state: GuiState, rng: Random) -> GuiAction:
    """A kind at random, then a row in the window, a direction, or words of the goal or of a row."""
    rows, kind = shown_rows(task.phone, state), rng.choice(("tap", "type", "scroll", "answer"))
    if kind == "tap":
        return GuiAction("tap", str(rng.randrange(len(rows))))
    if kind == "scroll":
        return GuiAction("scroll", rng.choice(("up", "down")))
    words = task.goal.split() if kind == "type" else rng.choice(rows).label.split()
    count = rng.randrange(1, min(3, len(words)) + 1)
    place = rng.randrange(len(words) - count + 1)
    return GuiAction(kind, " ".join(words[place : place + count]))


def success_rates(tasks: Sequence[GuiTask], *, episodes: int, seed: int = 0) -> dict[int, float]:
    """Horizon -> share of episodes that random actions finish right; a solver has 1."""
    rates: dict[int, list[bool]] = {}
    for number, task in enumerate(tasks):
        rng = Random(f"random gui/{seed}/{number}")
        for _ in range(episodes):
            state, steps = first_state(task), 0
            while not is_over(task, state, steps):
                state, steps = act(task.phone, state, random_action(task, state, rng)), steps + 1
            rates.setdefault(task.horizon, []).append(is_done(task, state))
    return {length: sum(rows) / len(rows) for length, rows in sorted(rates.items())}
