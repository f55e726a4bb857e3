"""What is judged: prompts with answers, of any file of feedback or of answers not judged yet."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from rlhf_jax.data.containers import parse_rows, raw_rows
from rlhf_jax.data.fields import BadRow, Fields, described, field_of, present, text_field
from rlhf_jax.data.formats import FORMATS, read_rows
from rlhf_jax.data.formats.prompts import PROMPT, alike, prompt_of
from rlhf_jax.data.formats.reading import fits
from rlhf_jax.data.messages import is_blank, is_messages, read_messages, read_tools
from rlhf_jax.data.records import Answer, Labelled, Pair, Ranking, Text, dialogue_messages

LISTS = ("answers", "completions", "responses")
TWO = ("answer", "response", "output", "completion")  # answer_a and answer_b, or answer_1 and ...
ENDS = (("_a", "_b"), ("_1", "_2"), ("1", "2"))
TEXTS = ("text", "answer", "response", "completion", "content")  # of an object in a list
ANSWERED = ("pairs", "rankings", "labelled", "answers")
EXAMPLE = '{"prompt": "2+2?", "answers": ["4", "5"]}'


class Item(NamedTuple):
    """One thing to judge.

    key: of its texts, so that it is the same item in any order, file or run.
    answers: sorted, so that their order says nothing about where they come from.
    tools: of the assistant.
    """

    key: str
    prompt: Text
    answers: tuple[Text, ...]
    tools: tuple[Any, ...] = ()


class Answers(NamedTuple):
    """Answers to one prompt in a file."""

    prompt: Text
    answers: tuple[Text, ...]
    tools: tuple[Any, ...] = ()


class Items(NamedTuple):
    """What a file has to judge.

    by_key: each once. note: one line on what was read and left out.
    """

    by_key: dict[str, Item]
    note: str


def read_items(path: Path | str, kind: str) -> Items:
    """The items of a file, without repetition.

    Every two different answers of a prompt are an item of kind "pairs", all answers of a prompt
    one of "ratings", and each answer one of "spans".

    Args:
      path: pairs, rankings, answers (several rows with one prompt belong together), or rows of a
        prompt and answers that nothing is known of, such as EXAMPLE.
    Raises:
      ValueError: a file that cannot be read, a bad row, or nothing to judge in it.
    """
    read, note = _answers(path)
    found = [each._replace(answers=_distinct(each.answers)) for each in read]
    items = dict(_items(_by_prompt(found) if kind == "ratings" else found, kind))
    if not items:
        raise ValueError(f"{path}: nothing to judge ({note}); {kind} need rows as {EXAMPLE}")
    return Items(items, f"{note}; {len(items)} items of {kind}")


def _items(found: Iterable[Answers], kind: str) -> Iterator[tuple[str, Item]]:
    size = {"pairs": 2, "spans": 1}.get(kind)
    for prompt, answers, tools in found:
        if kind != "pairs":
            answers = tuple(_one_text(answer) for answer in answers)
        for chosen in combinations(answers, size or len(answers)):
            ordered = tuple(sorted(chosen, key=_json))
            key = hashlib.sha256(_json([prompt, ordered]).encode()).hexdigest()[:16]
            yield key, Item(key, prompt, ordered, tools)


def _answers(path: Path | str) -> tuple[list[Answers], str]:
    """The answers to each prompt as the file has them, and a note."""
    first = next(raw_rows(path), None)
    fields = {} if first is None else first.fields
    format = next((x for x in FORMATS if x.kind in ANSWERED and fits(x, fields)), None)
    if first is None or (format is None and _unjudged(fields) is None):
        found = f"; found {described(fields)}" if fields else ""
        raise ValueError(f"{path}: expected pairs or prompts with answers, as {EXAMPLE}{found}")
    if format is None:
        found = list(parse_rows(path, _parse_unjudged))
        return found, f"{len(found)} rows"
    read = read_rows(path, format=format.name)
    if any(record.prompt == "" for record in read.records):
        raise ValueError(f"{path}: texts without a prompt; expected rows as {EXAMPLE}")
    take = {"pairs": _of_pair, "rankings": _of_ranking}.get(format.kind, _of_answer)
    found = [take(record) for record in read.records]
    return found if take is not _of_answer else _by_prompt(found), read.note()


def _of_pair(pair: Pair) -> Answers:
    return Answers(pair.prompt, (pair.chosen, pair.rejected), pair.tools)


def _of_ranking(ranking: Ranking) -> Answers:
    return Answers(ranking.prompt, ranking.answers)


def _of_answer(record: Answer | Labelled) -> Answers:
    return Answers(record.prompt, (record.answer,), record.tools)


def _by_prompt(found: Iterable[Answers]) -> list[Answers]:
    """All answers to a prompt together."""
    joined: dict[str, Answers] = {}
    for each in found:
        before = joined.setdefault(_json(each.prompt), each._replace(answers=()))
        both = _distinct((*before.answers, *each.answers))
        joined[_json(each.prompt)] = before._replace(answers=both)
    return list(joined.values())


def _unjudged(fields: Fields) -> Callable[[Fields], list[Any]] | None:
    """How to take the answers from a row of a prompt and answers."""
    if present(fields, PROMPT) is None:
        return None
    if name := present(fields, LISTS):
        return lambda row: field_of(row, name, list)
    for names in ((f"{word}{a}", f"{word}{b}") for word in TWO for a, b in ENDS):
        if all(name in fields for name in names):
            return lambda row: [field_of(row, name, object) for name in names]
    return None


def _parse_unjudged(fields: Fields) -> Answers:
    take = _unjudged(fields)
    if take is None:
        raise BadRow(f"expected a prompt and answers, found {described(fields)}; as {EXAMPLE}")
    prompt = prompt_of(fields)
    both = [alike(prompt, _answer(value)) for value in take(fields)]
    if not both:
        raise BadRow("no answers; remove the row")
    asked = next((prompt for prompt, _ in both if not isinstance(prompt, str)), prompt)
    answers = tuple(alike(asked, answer)[1] for _, answer in both)
    return Answers(asked, answers, read_tools(fields))


def _answer(value: Any) -> Text:
    """A text, messages, or the text of an object, the other fields of which stay hidden."""
    if is_messages(value):
        return read_messages({"answers": value}, "answers")
    name = present(value, TEXTS) if isinstance(value, dict) else None
    return text_field(value, name) if name else text_field({"answers": value}, "answers")


def _distinct(answers: Iterable[Text]) -> tuple[Text, ...]:
    """The answers that say something, each once."""
    return tuple({_json(answer): answer for answer in answers if not is_blank(answer)}.values())


def _one_text(answer: Text) -> str:
    """The text of an answer of one message."""
    if isinstance(answer, str):
        return answer
    if len(answer) > 1 or answer[0].get("tool_calls"):
        raise ValueError(
            "an answer of several messages or with tool calls has no text to rate or to mark; "
            "use --kind pairs"
        )
    return answer[0]["content"]


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def shown_prompt(prompt: Text) -> list[dict[str, str]]:
    """The turns of a prompt, {"role", "text"}."""
    turns = dialogue_messages(prompt) if isinstance(prompt, str) else prompt
    return [{"role": turn["role"], "text": _said(turn)} for turn in turns]


def shown_answer(answer: Text) -> str:
    """An answer as one text; several messages with their roles."""
    if isinstance(answer, str):
        return answer
    if len(answer) == 1:
        return _said(answer[0])
    return "\n\n".join(f"{turn['role']}:\n{_said(turn)}" for turn in answer)


def _said(message: dict[str, Any]) -> str:
    calls = message.get("tool_calls")
    parts = [message["content"], json.dumps(calls, indent=1, ensure_ascii=False) if calls else ""]
    return "\n".join(part for part in parts if part)
