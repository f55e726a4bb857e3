"""A labelling session: which item comes next, and what happens to a judgement. No HTTP here."""

from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from rlhf_jax.labelling.items import Item, shown_answer, shown_prompt
from rlhf_jax.labelling.label_file import LabelFile
from rlhf_jax.labelling.order import answer_order, row_order
from rlhf_jax.labelling.rows import BadLabel, LabelTask, label_row

LONGEST_NAME = 64


@dataclass(frozen=True)
class LabelSession:
    """Items, and the file their judgements go to; several annotators may work at once.

    items: by key. annotator: name of those who give none.
    """

    task: LabelTask
    items: dict[str, Item]
    labels: LabelFile
    annotator: str = ""
    lock: Any = field(default_factory=Lock)


def show_next(session: LabelSession, message: dict[str, Any]) -> dict[str, Any]:
    """{"done", "total", "item"}: the annotator's next item, None when all are judged.

    Skipped items come last, in the order of skipping.

    Args:
      message: {"annotator", "skipped": keys}.
    """
    annotator, skipped = _annotator(session, message), message.get("skipped", [])
    if not isinstance(skipped, list) or not all(isinstance(key, str) for key in skipped):
        raise BadLabel("skipped is a list of keys")
    with session.lock:
        done = _done(session, annotator)
    order = row_order(session.items.values(), seed=session.task.seed, annotator=annotator)
    left = [item for item in order if item.key not in done]
    later = {key: place for place, key in enumerate(skipped)}
    left.sort(key=lambda item: later.get(item.key, -1))
    item = _shown(session, left[0], annotator) if left else None
    return {"done": len(order) - len(left), "total": len(order), "item": item}


def judge(session: LabelSession, message: dict[str, Any]) -> dict[str, Any]:
    """Saves a judgement; {"saved": key} once it is on disk.

    Args:
      message: {"annotator", "key", "seconds"} and {"choice", "strength"}, {"ratings"} or {"spans"}.
    Raises:
      BadLabel: incomplete, of no item, or of one that the annotator has judged.
      OSError: it could not be saved.
    """
    annotator, key = _annotator(session, message), message.get("key")
    item = session.items.get(key) if isinstance(key, str) else None
    if item is None:
        raise BadLabel("no such item; load the page again")
    row = label_row(session.task, item, annotator, message)
    with session.lock:
        if key in _done(session, annotator):
            raise BadLabel("this item is judged already, perhaps in another tab; load again")
        session.labels.append(row)
    return {"saved": key}


def undo(session: LabelSession, message: dict[str, Any]) -> dict[str, Any]:
    """Takes back the annotator's last judgement; {"undone": key or None, "item": to judge again}.

    Raises:
      OSError: the file could not be changed.
    """
    annotator, rows = _annotator(session, message), session.labels.rows
    with session.lock:
        own = [i for i, row in enumerate(rows) if row["judgement"]["annotator"] == annotator]
        known = [i for i in own if rows[i]["judgement"]["item"] in session.items]
        if not known:
            return {"undone": None, "item": None}
        key = session.labels.remove(known[-1])["judgement"]["item"]
    return {"undone": key, "item": _shown(session, session.items[key], annotator)}


def describe_task(session: LabelSession, message: dict[str, Any]) -> dict[str, Any]:
    """What the page asks, before it shows any item."""
    task = session.task
    return {
        "kind": task.kind,
        "criteria": task.criteria,
        "categories": task.categories,
        "annotator": session.annotator,
    }


def _shown(session: LabelSession, item: Item, annotator: str) -> dict[str, Any]:
    """What the page sees of an item: texts, in the annotator's order."""
    order = answer_order(item, seed=session.task.seed, annotator=annotator)
    return {
        "key": item.key,
        "prompt": shown_prompt(item.prompt),
        "answers": [shown_answer(item.answers[i]) for i in order],
    }


def _done(session: LabelSession, annotator: str) -> set[str]:
    """Keys of the items that the annotator has judged."""
    judged = (row["judgement"] for row in session.labels.rows)
    return {found["item"] for found in judged if found["annotator"] == annotator}


def _annotator(session: LabelSession, message: dict[str, Any]) -> str:
    name = message.get("annotator") or session.annotator
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME:
        raise BadLabel(f"give your name, at most {LONGEST_NAME} characters")
    if not name.isprintable():
        raise BadLabel("a name has no control characters")
    return name.strip()
