"""What a row of feedback becomes: one of seven records, with texts or with lists of messages.

Prompt and answer are both text or both messages. As text, prompt + answer is the document; as
messages, prompt + answer is the dialogue, and the answer is what is learned: in `Answer` everything
from the first assistant message on, in the others what follows the last user message.
"""

from collections.abc import Callable, Mapping
from itertools import combinations
from types import MappingProxyType
from typing import Any, NamedTuple

from rlhf_jax.data.messages import Message, Messages, as_assistant, as_user
from rlhf_jax.data.spans import MarkedSpan

# str or Messages. A file has one of them throughout, so code for either needs no cast.
Text = Any
HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"


class Pair(NamedTuple):
    """One judgement: `chosen` was preferred to `rejected` as an answer to `prompt`.

    margin: how much better, in the file's own units (difference of scores), or None.
    tools: JSON schemas of the tools that the assistant has.
    user: who judged, or None.
    environment: where the pair comes from, e.g. its source or annotator group, or None.
    annotator: who was asked to judge, e.g. at `rlhf label`, or None.
    """

    prompt: Text
    chosen: Text
    rejected: Text
    margin: float | None = None
    tools: tuple[Any, ...] = ()
    user: str | int | None = None
    environment: str | int | None = None
    annotator: str | None = None


class Answer(NamedTuple):
    """An answer to imitate. A document without a prompt has the prompt ""."""

    prompt: Text
    answer: Text
    tools: tuple[Any, ...] = ()


class Labelled(NamedTuple):
    """An answer marked good (True) or bad (False) on its own.

    principle: what it is good or bad at, or None.
    """

    prompt: Text
    answer: Text
    label: bool
    tools: tuple[Any, ...] = ()
    principle: str | None = None


class Steps(NamedTuple):
    """An answer in steps, each with a label: 1 right, 0 wrong, or a probability between."""

    prompt: Text
    steps: tuple[str, ...]
    labels: tuple[float, ...]


class Marked(NamedTuple):
    """A text with marked spans, such as its errors; without spans, nothing was found in it."""

    prompt: Text
    answer: str
    spans: tuple[MarkedSpan, ...]


class Ranking(NamedTuple):
    """Several answers to a prompt; a higher score is better, equal scores are ties."""

    prompt: Text
    answers: tuple[Text, ...]
    scores: tuple[float, ...]


class PromptRecord(NamedTuple):
    """A prompt without an answer.

    reference: the right answer, for a verifier, or None. fields: the whole row.
    """

    prompt: Text
    reference: Any = None
    fields: Mapping[str, Any] = MappingProxyType({})


Record = Pair | Answer | Labelled | Steps | Marked | Ranking | PromptRecord
KINDS = {
    "pairs": Pair,
    "answers": Answer,
    "labelled": Labelled,
    "steps": Steps,
    "spans": Marked,
    "rankings": Ranking,
    "prompts": PromptRecord,
}


def pairs_of(ranking: Ranking) -> list[Pair]:
    """Every two answers with different scores; the margin is the difference."""
    scored = sorted(zip(ranking.scores, ranking.answers, strict=True), key=lambda x: -x[0])
    return [
        Pair(ranking.prompt, better, worse, margin=high - low)
        for (high, better), (low, worse) in combinations(scored, 2)
        if high > low
    ]


def _best(ranking: Ranking) -> list[Answer]:
    """The first answer with the highest score."""
    best = ranking.answers[ranking.scores.index(max(ranking.scores))]
    return [Answer(ranking.prompt, best)]


# (kind of the file, kind that is asked for) -> records of one record.
CONVERSIONS: dict[tuple[str, str], Callable[[Any], list[Any]]] = {
    ("rankings", "pairs"): pairs_of,
    ("rankings", "answers"): _best,
    ("pairs", "answers"): lambda pair: [Answer(pair.prompt, pair.chosen, pair.tools)],
    ("pairs", "labelled"): lambda pair: [
        Labelled(pair.prompt, pair.chosen, True, pair.tools),
        Labelled(pair.prompt, pair.rejected, False, pair.tools),
    ],
    ("labelled", "answers"): lambda x: [Answer(x.prompt, x.answer, x.tools)] if x.label else [],
    **{
        (kind, "prompts"): lambda record: [PromptRecord(record.prompt)]
        for kind in ("pairs", "rankings", "labelled", "spans")
    },
}


def with_messages(record: Any) -> Any:
    """The same record for a chat template: its texts as messages.

    A dialogue "\\n\\nHuman: ...\\n\\nAssistant:" becomes its turns; any other prompt is one user
    message. Answers lose the spaces at their ends. A document without a prompt stays text.

    >>> with_messages(Answer("\\n\\nHuman: Hi\\n\\nAssistant:", " Hello.")).prompt
    ({'role': 'user', 'content': 'Hi'},)
    """
    changed: dict[str, Any] = {}
    if isinstance(record, Answer) and record.prompt == "":
        return record
    for name in record._fields:
        value = getattr(record, name)
        if name == "prompt" and isinstance(value, str):
            changed[name] = dialogue_messages(value)
        elif name in ("answer", "chosen", "rejected") and isinstance(value, str):
            if isinstance(record, Marked):
                continue  # spans count the characters of the text
            changed[name] = as_assistant(value.strip())
        elif name == "answers":
            changed[name] = tuple(
                as_assistant(text.strip()) if isinstance(text, str) else text for text in value
            )
    return record._replace(**changed)


def in_one_form(records: list[Any]) -> list[Any]:
    """The records, all with messages if one of them has any."""
    if all(isinstance(record.prompt, str) for record in records):
        return records
    return [with_messages(x) if isinstance(x.prompt, str) else x for x in records]


def dialogue_messages(prompt: str) -> Messages:
    """Turns of a text prompt, without the open "Assistant:" at its end."""
    if not prompt.lstrip().startswith(HUMAN.strip()):
        return as_user(prompt)
    turns: list[Message] = []
    for part in f"\n\n{prompt.strip()}".split(HUMAN)[1:]:
        asked, *answered = part.split(ASSISTANT)
        turns.append({"role": "user", "content": asked.strip()})
        if text := ASSISTANT.join(answered).strip():
            turns.append({"role": "assistant", "content": text})
    return tuple(turns)
