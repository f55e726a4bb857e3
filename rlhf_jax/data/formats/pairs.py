"""Two answers to one prompt: a chosen and a rejected one, or two with a preference between them."""

import math
from typing import Any

from rlhf_jax.data.fields import (
    BadRow,
    Fields,
    field_of,
    filled_field,
    label_field,
    number_field,
    present,
    text_field,
    texts_field,
)
from rlhf_jax.data.formats.prompts import PROMPT, Parsed, answer_of, dialogue_of, prompt_of
from rlhf_jax.data.formats.text_pairs import parted, text_pair
from rlhf_jax.data.messages import (
    Messages,
    as_assistant,
    as_user,
    check_answered,
    read_messages,
    read_tools,
    shared_turns,
)
from rlhf_jax.data.records import Pair, Ranking, Text

CHOSEN = ("chosen", "chosen_messages", "preferred_output", "response_j")
REJECTED = ("rejected", "rejected_messages", "non_preferred_output", "response_k")
MARGINS = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen-rating", "rejected-rating"),
)


def chosen_rejected(fields: Fields) -> Parsed:
    """With a prompt in any column, or a dialogue to be continued, or neither (whole dialogues)."""
    dialogue = present(fields, ("messages", "conversations", "prompt_messages"))
    if present(fields, PROMPT):
        prompt: Text | None = prompt_of(fields)
    else:
        prompt = dialogue_of(fields, dialogue) if dialogue else None
    sides = [answer_of(fields, present(fields, names) or names[0]) for names in (CHOSEN, REJECTED)]
    return _made(prompt, sides, _margin(fields), read_tools(fields), **_origin(fields))


def input_outputs(fields: Fields) -> Parsed:
    """OpenAI and Azure: {"input": {"messages", "tools"}, "preferred_output", ...}."""
    asked = field_of(fields, "input", dict)
    sides = [read_messages(fields, names[2]) for names in (CHOSEN, REJECTED)]
    return _made(read_messages(asked, "messages"), [*sides], None, read_tools(asked))


def text_chosen_rejected(fields: Fields) -> Parsed:
    """Texts only, as `preference_files` reads them."""
    chosen, rejected = (text_field(fields, name) for name in ("chosen", "rejected"))
    return text_pair(Pair(filled_field(fields, "prompt"), chosen, rejected))


def text_dialogues(fields: Fields) -> Parsed:
    """Texts only: two whole dialogues."""
    chosen, rejected = (filled_field(fields, name) for name in ("chosen", "rejected"))
    return Parsed([parted(Pair("", chosen, rejected))])


def chosen_rejected_lists(fields: Fields) -> Parsed:
    """RewardBench 2: each of several chosen answers beats each of several rejected ones."""
    chosen, rejected = texts_field(fields, "chosen"), texts_field(fields, "rejected")
    scores = (1.0,) * len(chosen) + (0.0,) * len(rejected)
    return Parsed([Ranking(prompt_of(fields), (*chosen, *rejected), scores)])


def helpsteer3(fields: Fields) -> Parsed:
    """overall_preference from -3, response 1 is much better, to 3, response 2 is."""
    answers = [text_field(fields, name) for name in ("response1", "response2")]
    strength = number_field(fields, "overall_preference")
    return _compared(read_messages(fields, "context"), answers, -strength, abs(strength))


def helpsteer2_preference(fields: Fields) -> Parsed:
    """preference_strength from -3, response 1 is much better, to 3, response 2 is."""
    answers = [text_field(fields, name) for name in ("response_1", "response_2")]
    strength = number_field(fields, "preference_strength")
    return _compared(prompt_of(fields), answers, -strength, abs(strength))


def alpaca_preference(fields: Fields) -> Parsed:
    """preference 1 or 2, the better output; a number between them from several annotators."""
    answers = [text_field(fields, name) for name in ("output_1", "output_2")]
    preference = number_field(fields, "preference")
    if preference != 0 and not 1 <= preference <= 2:
        raise BadRow(f"field preference: expected 1 or 2, or 0 for a tie, found {preference:g}")
    strength = 0.0 if preference == 0 else 1.5 - preference
    return _compared(prompt_of(fields), answers, strength, None)


def shp(fields: Fields) -> Parsed:
    """labels 1: answer A is preferred, 0: B is; the margin is the difference of their votes."""
    answers = [text_field(fields, name) for name in ("human_ref_A", "human_ref_B")]
    better = 1.0 if label_field(fields, "labels") else -1.0
    margin = None
    if fields.get("score_A") is not None and fields.get("score_B") is not None:
        margin = abs(number_field(fields, "score_A") - number_field(fields, "score_B"))
    return _compared(prompt_of(fields, ("history",)), answers, better, margin)


def tldr_comparison(fields: Fields) -> Parsed:
    """Summaries of a Reddit post or an article; choice 0 or 1 is the better one."""
    info, summaries = field_of(fields, "info", dict), field_of(fields, "summaries", list)
    if len(summaries) != 2 or not all(isinstance(one, dict) for one in summaries):
        raise BadRow("field summaries: expected two objects with a text; correct the row")
    answers = [text_field(one, "text") for one in summaries]
    second = label_field(fields, "choice")
    return _compared(_post(info), answers, -1.0 if second else 1.0, None)


def _post(info: Fields) -> str:
    """The prompt of Stiennon et al. 2020: subreddit, title and post; or the article."""
    if info.get("post") is None:
        return f"Article: {filled_field(info, 'article')}\n\nTL;DR:"
    lines = [
        f"{label}{text_field(info, name)}"
        for label, name in (("SUBREDDIT: r/", "subreddit"), ("TITLE: ", "title"))
        if info.get(name)
    ]
    return "\n\n".join([*lines, f"POST: {filled_field(info, 'post')}", "TL;DR:"])


def _compared(prompt: Text, answers: list[str], better: float, margin: float | None) -> Parsed:
    """The first of two answers is better if `better` > 0, neither if it is 0."""
    if better == 0:
        return Parsed([], ties=1)
    chosen, rejected = answers if better > 0 else reversed(answers)
    return _made(prompt, [chosen, rejected], margin, ())


def _margin(fields: Fields) -> float | None:
    """The column margin, or the difference of the scores of the two answers."""
    if fields.get("margin") is not None:
        return number_field(fields, "margin")
    for high, low in MARGINS:
        values = [fields.get(name) for name in (high, low)]
        if all(isinstance(x, float) and math.isnan(x) for x in values) or None in values:
            continue
        return number_field(fields, high) - number_field(fields, low)
    return None


def _origin(fields: Fields) -> dict[str, Any]:
    """The columns user, environment and annotator; None for what is no text or whole number, since
    most uses read none of them. `rlhf label` writes the annotator into the judgement."""
    judgement = fields.get("judgement")
    told = judgement.get("annotator") if isinstance(judgement, dict) else None
    annotator = _name(fields.get("annotator", told))
    return {
        "user": _name(fields.get("user")),
        "environment": _name(fields.get("environment")),
        "annotator": None if annotator is None else str(annotator) or None,
    }


def _name(value: Any) -> str | int | None:
    return value if isinstance(value, str | int) and not isinstance(value, bool) else None


def _made(
    prompt: Text | None,
    sides: list[Text],
    margin: float | None,
    tools: tuple[object, ...],
    **origin: Any,
) -> Parsed:
    """A pair of texts if all of it is text, and of messages otherwise. origin: of `_origin`."""
    chosen, rejected = sides
    if isinstance(chosen, str) and isinstance(rejected, str) and not isinstance(prompt, tuple):
        pair = Pair(prompt or "", chosen, rejected, margin, tools)._replace(**origin)
        return text_pair(pair) if prompt else Parsed([parted(pair)])
    if isinstance(chosen, str) != isinstance(rejected, str) and not prompt:
        raise BadRow(f"chosen is {_form(chosen)} but rejected is {_form(rejected)}; use one form")
    given = [as_assistant(side) if isinstance(side, str) else side for side in sides]
    asked, answers, removed = _turns(prompt, *given)
    for name, answer in zip(("chosen", "rejected"), answers, strict=True):
        check_answered(asked, answer, name)
    chosen, rejected = answers
    pair = Pair(asked, chosen, rejected, margin, tools)._replace(**origin)
    return Parsed([pair], removed=removed)


def _turns(
    prompt: Text | None, chosen: Messages, rejected: Messages
) -> tuple[Messages, list[Messages], int]:
    """Prompt, answers, and 1 if the answers began with the prompt."""
    if isinstance(prompt, tuple):
        cut = len(prompt)
        repeated = chosen[:cut] == prompt == rejected[:cut]
        return prompt, [side[cut * repeated :] for side in (chosen, rejected)], int(repeated)
    cut = shared_turns(chosen, rejected)
    if prompt is None:
        return chosen[:cut], [chosen[cut:], rejected[cut:]], 0
    if cut == 0:
        return as_user(prompt), [chosen, rejected], 0
    if not any(prompt.strip() in message["content"] for message in chosen[:cut]):
        raise BadRow("chosen and rejected begin with the same messages, but not with the prompt")
    return chosen[:cut], [chosen[cut:], rejected[cut:]], 1


def _form(value: Text) -> str:
    return "text" if isinstance(value, str) else "messages"
