"""Actions as text, and how much of one is right."""

from collections import Counter
from typing import NamedTuple

DIRECTIONS = ("up", "down")


class GuiAction(NamedTuple):
    """kind: tap, type, scroll or answer. argument: number of a row, words, up or down, words."""

    kind: str
    argument: str


class ActionMarks(NamedTuple):
    """Of a text beside the right action: it is an action; of the right kind; and how much of its
    argument is right, in [0, 1], 0 where the kind is wrong."""

    form: bool
    kind: bool
    argument: float


def read_action(text: str) -> GuiAction | None:
    """The action that a text is; None for anything else, an empty text among it.

    >>> read_action("type  meet at noon"), read_action("tap the first")
    (GuiAction(kind='type', argument='meet at noon'), None)
    """
    kind, *words = text.split() or [""]
    argument = " ".join(words)
    valid = {
        "tap": len(words) == 1 and argument.isascii() and argument.isdigit() and len(argument) < 4,
        "scroll": argument in DIRECTIONS,
        "type": bool(words),
        "answer": bool(words),
    }
    return GuiAction(kind, argument) if valid.get(kind, False) else None


def write_action(action: GuiAction) -> str:
    """`read_action` of it is the action."""
    return f"{action.kind} {action.argument}"


def mark_action(text: str, target: GuiAction) -> ActionMarks:
    """The marks of any text. Of words the argument's is the F1 of tokens, of rows and directions
    equality.

    Reference: 2025, arXiv:2508.11360 (CRAFT-GUI), abstract; a reconstruction.
    """
    found = read_action(text)
    if found is None or found.kind != target.kind:
        return ActionMarks(found is not None, False, 0.0)
    if target.kind in ("type", "answer"):
        return ActionMarks(True, True, token_f1(found.argument, target.argument))
    return ActionMarks(True, True, float(found.argument == target.argument))


def token_f1(text: str, reference: str) -> float:
    """Harmonic mean of precision and recall of words, each counted as often as it stands there.

    >>> token_f1("meet at noon", "noon"), token_f1("a a", "a b")
    (0.5, 0.5)
    """
    said, wanted = Counter(text.split()), Counter(reference.split())
    both = (said & wanted).total()
    return 2.0 * both / max(said.total() + wanted.total(), 1)
