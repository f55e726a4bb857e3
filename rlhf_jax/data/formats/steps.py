"""Answers in steps, each with a label: 1 right, 0 wrong."""

import re
from typing import Any

from rlhf_jax.data.fields import (
    BadRow,
    Fields,
    field_of,
    filled_field,
    shown,
    text_field,
    texts_field,
    type_name,
)
from rlhf_jax.data.formats.prompts import Parsed, prompt_of
from rlhf_jax.data.records import Record, Steps

SHEPHERD_TAG = "ки"  # after every step of MATH-Shepherd's `input`
_FIRST_STEP = re.compile(r"\s*\bStep 1:")

Labelled = tuple[str, float]  # a step and its label


def stepwise(fields: Fields) -> Parsed:
    """Steps of one answer in a list, and as many labels."""
    steps, labels = texts_field(fields, "completions"), field_of(fields, "labels", list)
    if len(steps) != len(labels):
        raise BadRow(f"field labels: {len(labels)} labels for {len(steps)} completions")
    return Parsed([Steps(prompt_of(fields), tuple(steps), _step_labels(labels))])


def rated_steps(fields: Fields) -> Parsed:
    """PRM800K as a list of {"step", "rating"}: 1 is right, 0 neutral and -1 wrong."""
    items = _objects(field_of(fields, "steps", list), "steps")
    steps = [(text_field(item, "step"), _rating(item, "steps")) for item in items]
    return Parsed([_solution(prompt_of(fields), steps)])


def prm800k(fields: Fields) -> Parsed:
    """PRM800K as it was published: several completions of each step, and the one that was taken.

    One record for the solution that was taken to its end, and one for each other rated completion:
    the steps before it, then itself. Where no completion was right and a person wrote the step,
    that text goes on, and is right. Completions without a rating are left out.
    """
    prompt = filled_field(field_of(fields, "question", dict), "problem")
    taken: list[Labelled] = []
    records: list[Record] = []
    others: list[Record] = []
    for i, step in enumerate(_objects(_label_steps(fields), "label.steps")):
        place = f"label.steps[{i}]"
        rated, chosen = _rated(step, place), step.get("chosen_completion")
        others = [_solution(prompt, [*taken, x]) for j, x in rated.items() if j != chosen]
        records += others
        following = rated.get(chosen) if chosen is not None else _written(step, place)
        if following is None:
            break
        taken, others = [*taken, following], []
    return Parsed(records if others else [*records, _solution(prompt, taken)])


def math_shepherd(fields: Fields) -> Parsed:
    """MATH-Shepherd: `input` has a tag after every step where `label` has + or -."""
    *steps, rest = text_field(fields, "input").split(SHEPHERD_TAG)
    marked, at, labels = text_field(fields, "label"), 0, []
    for number, step in enumerate(steps, start=1):
        at += len(step)
        if marked[at - len(step) : at] != step or marked[at : at + 1] not in ("+", "-"):
            raise BadRow(f"field label: expected the text of input with + or - after step {number}")
        labels.append(float(marked[at] == "+"))
        at += 1
    first = _FIRST_STEP.search(steps[0]) if steps else None
    if first is None or not first.start():
        raise BadRow(f"field input: expected a problem, then steps 'Step 1: ... {SHEPHERD_TAG}'")
    if rest.strip():
        raise BadRow(f"field input: text after the last {SHEPHERD_TAG}, which has no label")
    texts = [step.strip() for step in (steps[0][first.start() :], *steps[1:])]
    return Parsed([Steps(steps[0][: first.start()], tuple(texts), tuple(labels))])


def _solution(prompt: Any, steps: list[Labelled]) -> Steps:
    texts, labels = zip(*steps, strict=True) if steps else ((), ())
    return Steps(prompt, texts, labels)


def _label_steps(fields: Fields) -> list[Any]:
    """The steps of PRM800K's label; a row that was given up may have none."""
    label = field_of(fields, "label", dict)
    return field_of(label, "steps", list)


def _rated(step: Fields, place: str) -> dict[int, Labelled]:
    """Number of a completion -> its text and label."""
    found = {}
    for j, item in enumerate(_objects(step.get("completions") or [], f"{place}.completions")):
        if item.get("rating") is not None:
            label = _rating(item, f"{place}.completions[{j}]")
            found[j] = (text_field(item, "text"), label)
    chosen, number = step.get("chosen_completion"), len(step.get("completions") or [])
    if chosen is not None and (type(chosen) is not int or not 0 <= chosen < number):
        raise BadRow(
            f"field {place}.chosen_completion: expected null or a number below {number}, found "
            f"{shown(chosen)}"
        )
    return found


def _written(step: Fields, place: str) -> Labelled | None:
    """The step that a person wrote, if any."""
    item = step.get("human_completion")
    if item is None:
        return None
    if not isinstance(item, dict):
        raise BadRow(f"field {place}.human_completion: expected an object, found {type_name(item)}")
    return text_field(item, "text"), 1.0


def _rating(item: Fields, place: str) -> float:
    """1 of a right or neutral step, 0 of a wrong one."""
    rating = item.get("rating")
    if isinstance(rating, bool) or rating not in (-1, 0, 1):
        raise BadRow(f"field {place}: expected ratings -1, 0 or 1, found {shown(rating)}")
    return float(rating >= 0)


def _step_labels(labels: list[Any]) -> tuple[float, ...]:
    """True, False, or numbers from 0 to 1."""
    for i, label in enumerate(labels):
        if not isinstance(label, bool | int | float) or not 0 <= label <= 1:
            raise BadRow(
                f"field labels[{i}]: expected true, false or a number from 0 to 1, found "
                f"{shown(label)}"
            )
    return tuple(float(label) for label in labels)


def _objects(items: Any, name: str) -> list[Fields]:
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        found = type_name(items)
        raise BadRow(f"field {name}: expected a list of objects, found {found}")
    return items
