"""Texts with marked spans: plain rows, rows of `rlhf label`, and the errors of QA-feedback."""

from typing import Any

from rlhf_jax.data.fields import BadRow, Fields, field_of, present, text_field, type_name
from rlhf_jax.data.formats.prompts import Parsed, prompt_of
from rlhf_jax.data.formats.text_pairs import PREDICTIONS, qa_prompt
from rlhf_jax.data.records import Marked
from rlhf_jax.data.spans import MarkedSpan, check_spans

MARKED = PREDICTIONS[0]  # of the four answers of QA-feedback
ANSWER = ("answer", "completion", "response", "output")


def marked_answer(fields: Fields) -> Parsed:
    """An answer and its spans {"start", "end", "kind"}.

    A span of `rlhf label` is of its category, and is left out if its quality is good.
    """
    answer = text_field(fields, present(fields, ANSWER) or ANSWER[0])
    spans = []
    for span in field_of(fields, "spans", list):
        labelled = isinstance(span, dict) and "quality" in span
        if not (labelled and span["quality"] == "good"):
            spans.append(_span(span, "category" if labelled else "kind", "spans"))
    return _parsed(prompt_of(fields), answer, spans, "spans")


def qa_spans(fields: Fields) -> Parsed:
    """QA-feedback: the first answer, with the errors that people marked in it."""
    feedback = field_of(fields, "feedback", dict)
    errors = field_of(feedback, "errors", list)
    spans = [_span(error, "error type", "feedback.errors") for error in errors]
    return _parsed(qa_prompt(fields), text_field(fields, MARKED), spans, "feedback.errors")


def _span(span: Any, kind: str, field: str) -> MarkedSpan:
    """The span; whole numbers, and a kind that is not blank."""
    if not isinstance(span, dict):
        raise BadRow(f"field {field}: expected objects, found {type_name(span)} among them")
    ends = [span.get(name) for name in ("start", "end")]
    if any(type(x) is not int for x in ends):
        raise BadRow(f"field {field}: start and end must be whole numbers of characters")
    if not text_field(span, kind).strip():
        raise BadRow(f"field {field}: {kind} is empty; say what was marked")
    return MarkedSpan(*ends, span[kind])


def _parsed(prompt: Any, answer: str, spans: list[MarkedSpan], field: str) -> Parsed:
    try:
        check_spans(answer, spans)
    except ValueError as error:
        raise BadRow(f"field {field}: {error}") from error
    return Parsed([Marked(prompt, answer, tuple(spans))])
