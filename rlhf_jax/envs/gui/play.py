"""What an action does, and what is read of a screen."""

from typing import NamedTuple

from rlhf_jax.envs.gui.actions import DIRECTIONS, GuiAction
from rlhf_jax.envs.gui.phone import GuiRow, Phone

WINDOW = 6  # rows that are shown at a time


class GuiError(ValueError):
    """An action that the screen has no place for; the message names it and what there is."""


class GuiState(NamedTuple):
    """screen: by name. offset: number of the first row shown. focus: the field that is typed into.
    fields: (field, text) that are typed. facts: changed ones. answer: that was given."""

    screen: str
    offset: int = 0
    focus: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    answer: str | None = None


def shown_rows(phone: Phone, state: GuiState) -> tuple[GuiRow, ...]:
    """The rows in the window; "tap 0" is the first."""
    return phone.screens[state.screen].rows[state.offset : state.offset + WINDOW]


def act(phone: Phone, state: GuiState, action: GuiAction) -> GuiState:
    """The state after an action. A tap on text, a scroll at the end and typing without a field
    change nothing.

    Raises:
      GuiError: no such kind of action, no such row in the window, no such direction.
    """
    kind, argument = action
    if kind == "answer":
        return state._replace(answer=argument)
    if kind == "type":
        return state if not state.focus else _typed(state, argument)
    if kind == "scroll":
        return _scrolled(phone, state, argument)
    if kind != "tap":
        raise GuiError(f"no action is called {kind!r}: tap, type, scroll, answer")
    rows = shown_rows(phone, state)
    if not (argument.isdecimal() and int(argument) < len(rows)):
        raise GuiError(f"tap {argument} is out of range: the screen has rows 0 to {len(rows) - 1}")
    return _tapped(phone, state, rows[int(argument)])


def _typed(state: GuiState, text: str) -> GuiState:
    fields = dict(state.fields) | {state.focus: text}
    return state._replace(fields=tuple(sorted(fields.items())))


def _scrolled(phone: Phone, state: GuiState, direction: str) -> GuiState:
    if direction not in DIRECTIONS:
        raise GuiError(f"scroll {direction} is out of range: up or down")
    last = max(len(phone.screens[state.screen].rows) - WINDOW, 0)
    offset = state.offset + (WINDOW if direction == "down" else -WINDOW)
    return state._replace(offset=min(max(offset, 0), last))


def _tapped(phone: Phone, state: GuiState, row: GuiRow) -> GuiState:
    if row.kind == "open":
        return GuiState(row.target, facts=state.facts, answer=state.answer)
    if row.kind == "field":
        return state._replace(focus=row.target)
    if row.kind == "set":
        return _with_fact(phone, state, row.target, row.value)
    if row.kind == "save":
        written = " ; ".join(text for _, text in state.fields)
        parent = phone.screens[state.screen].parent
        return _with_fact(phone, GuiState(parent, facts=state.facts), row.target, written)
    return state


def _with_fact(phone: Phone, state: GuiState, fact: str, value: str) -> GuiState:
    """With the changed fact; one that is as it was at first is not changed."""
    facts = dict(state.facts) | {fact: value}
    changed = {name: each for name, each in facts.items() if phone.facts.get(name) != each}
    return state._replace(facts=tuple(sorted(changed.items())))


def screen_text(phone: Phone, state: GuiState) -> str:
    """The title and the rows in the window by number, what is typed, and whether there is more."""
    screen, typed = phone.screens[state.screen], dict(state.fields)
    rows = []
    for number, row in enumerate(shown_rows(phone, state)):
        words = f"{number} {row.label}"
        if row.kind == "field":
            words += f" field {typed.get(row.target, 'empty')}"
            words += " here" if row.target == state.focus else ""
        rows.append(words)
    below = state.offset + WINDOW < len(screen.rows)
    more = ["more above"] * (state.offset > 0) + ["more below"] * below
    return f"screen {screen.title} : {' , '.join([*rows, *more])} ."
