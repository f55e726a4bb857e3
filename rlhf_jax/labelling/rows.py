"""From what the page sends to a row of the file, checked."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rlhf_jax.labelling.items import Item
from rlhf_jax.labelling.order import answer_order

CHOICES = ("left", "right", "tie", "both_bad")
QUALITIES = ("good", "bad")
SCALE = (1, 2, 3, 4, 5)
STRENGTHS = (1, 2, 3)  # slightly, clearly, much better
KINDS = ("pairs", "ratings", "spans")
MOST_SPANS = 1000


class BadLabel(Exception):
    """A judgement that is incomplete or does not fit its item."""


@dataclass(frozen=True)
class LabelTask:
    """What is asked.

    criteria: of ratings. categories: of spans. seed: of both orders.
    """

    kind: str
    criteria: tuple[str, ...] = ("overall",)
    categories: tuple[str, ...] = ("facts", "reasoning", "relevance", "style", "safety")
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        for name in ("criteria", "categories"):
            words = getattr(self, name)
            if not words or len(set(words)) < len(words) or not all(map(str.strip, words)):
                raise ValueError(f"{name} must be different names, at least one")


def label_row(
    task: LabelTask, item: Item, annotator: str, message: dict[str, Any]
) -> dict[str, Any]:
    """A row of the file, with the judgement first: by whom, of which item, in which order shown.

    Raises:
      BadLabel: the message lacks something or does not fit the item.
    """
    order = answer_order(item, seed=task.seed, annotator=annotator)
    judgement = {
        "kind": task.kind,
        "annotator": annotator,
        "item": item.key,
        "shown": order,
        "seed": task.seed,
        "seconds": _seconds(message.get("seconds")),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    make = {"pairs": _pair, "ratings": _ratings, "spans": _spans}[task.kind]
    tools = {"tools": list(item.tools)} if item.tools and task.kind == "pairs" else {}
    made = make(task, item, order, message)
    return {"judgement": judgement, "prompt": item.prompt, **made, **tools}


def _pair(task: LabelTask, item: Item, order: list[int], message: dict[str, Any]) -> dict[str, Any]:
    """Without a winner, "chosen" and "rejected" are null, so that nobody learns from them."""
    choice, strength = message.get("choice"), message.get("strength")
    if choice not in CHOICES:
        raise BadLabel(f"choice must be one of {', '.join(CHOICES)}")
    won = choice in ("left", "right")
    if strength is not None and not (won and _whole(strength) and strength in STRENGTHS):
        raise BadLabel("strength is 1, 2 or 3, of an answer that is better")
    left, right = (item.answers[i] for i in order)
    chosen, rejected = (left, right) if choice == "left" else (right, left)
    return {
        "chosen": chosen if won else None,
        "rejected": rejected if won else None,
        "choice": choice,
        "margin": strength,
        "answers": None if won else [left, right],
    }


def _ratings(
    task: LabelTask, item: Item, order: list[int], message: dict[str, Any]
) -> dict[str, Any]:
    """A rating of an answer is the mean of its criteria."""
    given = message.get("ratings")
    if not isinstance(given, dict) or given.keys() != {*task.criteria}:
        raise BadLabel(f"ratings are by {', '.join(task.criteria)}")
    columns = [given[name] for name in task.criteria]
    for column in columns:
        if not isinstance(column, list) or len(column) != len(order):
            raise BadLabel("every answer needs a rating by each criterion")
        if not all(_whole(value) and value in SCALE for value in column):
            raise BadLabel(f"ratings are from {SCALE[0]} to {SCALE[-1]}")
    inverse = sorted(range(len(order)), key=order.__getitem__)  # from positions shown to answers
    by_name = {
        name: [column[i] for i in inverse]
        for name, column in zip(task.criteria, columns, strict=True)
    }
    means = [sum(each) / len(each) for each in zip(*by_name.values(), strict=True)]
    return {"answers": list(item.answers), "ratings": means, "criteria": by_name}


def _spans(
    task: LabelTask, item: Item, order: list[int], message: dict[str, Any]
) -> dict[str, Any]:
    """Positions count characters of the answer (code points), the end excluded."""
    (answer,) = item.answers
    given = message.get("spans")
    if not isinstance(given, list) or len(given) > MOST_SPANS:
        raise BadLabel(f"spans are a list, at most {MOST_SPANS}")
    return {"answer": answer, "spans": [_span(task, answer, each) for each in given]}


def _span(task: LabelTask, answer: str, span: Any) -> dict[str, Any]:
    found = span if isinstance(span, dict) else {}
    start, end = (_position(found.get(name)) for name in ("start", "end"))
    if not 0 <= start < end <= len(answer):
        raise BadLabel("a span has a start and an end within the answer")
    if found.get("quality") not in QUALITIES or found.get("category") not in task.categories:
        raise BadLabel(f"a span is good or bad, by one of {', '.join(task.categories)}")
    return {
        "start": start,
        "end": end,
        "text": answer[start:end],
        "quality": found["quality"],
        "category": found["category"],
    }


def _position(value: Any) -> int:
    return value if _whole(value) else -1


def _seconds(value: Any) -> float | None:
    """Time spent on the item, if the page says so."""
    fits = isinstance(value, int | float) and 0 <= value < 1e6
    return round(float(value), 1) if fits else None


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
