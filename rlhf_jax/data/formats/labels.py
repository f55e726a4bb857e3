"""Rows of `rlhf label`: a choice between two answers, marks in one. Ratings are plain rankings."""

import re

from rlhf_jax.data.fields import BadRow, Fields, field_of, number_field, text_field, type_name
from rlhf_jax.data.formats.pairs import chosen_rejected
from rlhf_jax.data.formats.prompts import Parsed, prompt_of
from rlhf_jax.data.records import Steps

CHOICES = ("left", "right", "tie", "both_bad")
_SENTENCE = re.compile(r"\S(?:[^\n]*?[.!?](?=\s|$)|[^\n]*)")


def label_pair(fields: Fields) -> Parsed:
    """A choice; "tie" and "both_bad" have no winner, and null for chosen and rejected."""
    choice = text_field(fields, "choice")
    if choice not in CHOICES:
        raise BadRow(f"field choice: expected one of {', '.join(CHOICES)}")
    return chosen_rejected(fields) if choice in CHOICES[:2] else Parsed([], ties=1)


def label_spans(fields: Fields) -> Parsed:
    """Marks: a sentence or line is a step, wrong if a bad mark touches it and right otherwise."""
    answer, bad = text_field(fields, "answer"), []
    for span in field_of(fields, "spans", list):
        if not isinstance(span, dict):
            raise BadRow(f"field spans: expected objects, found {type_name(span)} among them")
        if text_field(span, "quality") == "bad":
            bad.append((number_field(span, "start"), number_field(span, "end")))
    steps = list(_SENTENCE.finditer(answer))
    labels = [
        float(not any(start < step.end() and step.start() < end for start, end in bad))
        for step in steps
    ]
    texts = tuple(step[0].strip() for step in steps)
    return Parsed([Steps(prompt_of(fields), texts, tuple(labels))])
