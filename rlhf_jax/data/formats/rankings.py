"""Several answers to one prompt, with scores or ranks."""

import re
from collections.abc import Callable
from typing import Any

from rlhf_jax.data.fields import (
    BadRow,
    Fields,
    field_of,
    filled_field,
    number_field,
    present,
    text_field,
    texts_field,
    type_name,
)
from rlhf_jax.data.formats.prompts import Parsed, alike, prompt_of
from rlhf_jax.data.messages import Messages, as_user, check_order
from rlhf_jax.data.records import Ranking, Text

SCORES = ("scores", "ratings", "rewards")
_TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")


def answers_scores(fields: Fields) -> Parsed:
    """Lists of texts and numbers, as long as each other; ranks count from the best, 1."""
    name = present(fields, ("answers", "completions", "responses")) or "answers"
    answers, scored = texts_field(fields, name), present(fields, SCORES)
    numbers = field_of(fields, scored or "ranks", list)
    if len(numbers) != len(answers):
        raise BadRow(
            f"field {scored or 'ranks'}: {len(numbers)} numbers for {len(answers)} answers"
        )
    sign = 1.0 if scored else -1.0
    scores = tuple(
        sign * number_field({f"{scored or 'ranks'}[{i}]": x}, f"{scored or 'ranks'}[{i}]")
        for i, x in enumerate(numbers)
    )
    return _ranked(prompt_of(fields), answers, scores)


def ultrafeedback(fields: Fields) -> Parsed:
    """`fine-grained_score` of each completion (mean of four ratings), else `overall_score`."""
    return _objects(fields, "completions", "response", _ultrafeedback_score)


def nectar(fields: Fields) -> Parsed:
    """Answers with a rank each, 1 the best."""
    return _objects(fields, "answers", "answer", lambda item: -number_field(item, "rank"))


def stack_exchange(fields: Fields) -> Parsed:
    """`pm_score`: log2(1 + votes) rounded, and 1 more for an answer that was accepted."""
    return _objects(fields, "answers", "text", lambda item: number_field(item, "pm_score"))


def helpsteer2(fields: Fields) -> Parsed:
    """One answer a row, scored by `helpfulness`; rows with the same prompt follow one another."""
    answer, score = text_field(fields, "response"), number_field(fields, "helpfulness")
    return _ranked(_turns(filled_field(fields, "prompt")), [answer], (score,))


def _ultrafeedback_score(item: Fields) -> float:
    name = present(item, ("fine-grained_score", "overall_score"))
    return number_field(item, name or "fine-grained_score")


def _objects(fields: Fields, name: str, text: str, score: Callable[[Fields], float]) -> Parsed:
    """A ranking of the objects in a list."""
    items: list[Any] = field_of(fields, name, list)
    answers, scores = [], []
    for i, item in enumerate(items):
        if not isinstance(item, dict):
            raise BadRow(f"field {name}[{i}]: expected an object, found {type_name(item)}")
        try:
            answers.append(text_field(item, text))
            scores.append(score(item))
        except BadRow as error:
            raise BadRow(f"in {name}[{i}], {error}") from error
    return _ranked(prompt_of(fields), answers, tuple(scores))


def _ranked(prompt: Text, answers: list[str], scores: tuple[float, ...]) -> Parsed:
    """A ranking of texts, or of messages if the prompt is a dialogue."""
    given = tuple(alike(prompt, answer)[1] for answer in answers)
    return Parsed([Ranking(prompt, given, scores)])


def _turns(prompt: str) -> Text:
    """A HelpSteer 2 prompt of several turns "...<extra_id_1>Assistant\\n..." as messages."""
    first, *rest = _TURN.split(prompt)
    if not rest:
        return prompt
    messages: Messages = as_user(first)
    for role, content in zip(rest[::2], rest[1::2], strict=True):
        messages = (*messages, {"role": role.lower(), "content": content})
    check_order(messages, "field prompt")
    return messages
