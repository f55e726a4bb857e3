"""The question of a row, and its answers, in every column that formats keep them in."""

from typing import NamedTuple

from rlhf_jax.data.fields import (
    BadRow,
    Fields,
    field_of,
    filled_field,
    present,
    text_field,
    type_name,
)
from rlhf_jax.data.messages import (
    Messages,
    as_assistant,
    as_user,
    check_order,
    is_messages,
    read_messages,
)
from rlhf_jax.data.records import Record, Text

PROMPT = ("prompt", "question", "instruction", "problem", "query")
DIALOGUE = ("messages", "conversations", "conversation")
BESIDE = ("input", "system", "system_prompt", "history")  # they change a text prompt


class Parsed(NamedTuple):
    """Records of one row; ties: judgements without a winner. removed: prompts cut from answers."""

    records: list[Record]
    ties: int = 0
    removed: int = 0


def prompt_of(fields: Fields, names: tuple[str, ...] = PROMPT) -> Text:
    """The prompt: a text, or messages if the row has a system text or earlier turns.

    As in LLaMA-Factory, `input` follows `instruction` on a line of its own.
    """
    name = present(fields, names) or names[0]
    if is_messages(fields.get(name)):
        return _with_system(read_messages(fields, name), fields)
    text = filled_field(fields, name)
    if isinstance(fields.get("input"), str) and fields["input"].strip():
        text = f"{text}\n{text_field(fields, 'input')}"
    earlier = () if name == "history" else _history(fields)
    if not earlier and not _system(fields):
        return text
    return _with_system(earlier + as_user(text), fields)


def dialogue_of(fields: Fields, name: str) -> Messages:
    """The messages of a field, after the row's system text if it has one."""
    return _with_system(read_messages(fields, name), fields)


def answer_of(fields: Fields, name: str) -> Text:
    """A text, which may be blank, or messages."""
    if is_messages(fields.get(name)):
        return read_messages(fields, name)
    return text_field(fields, name)


def alike(prompt: Text, answer: Text) -> tuple[Text, Text]:
    """Prompt and answer both as text if they are, both as messages otherwise."""
    if isinstance(prompt, str) and isinstance(answer, str):
        return prompt, answer
    asked = as_user(prompt) if isinstance(prompt, str) else prompt
    given = as_assistant(answer) if isinstance(answer, str) else answer
    return asked, given


def _system(fields: Fields) -> str:
    name = present(fields, ("system", "system_prompt"))
    text = "" if name is None else text_field(fields, name)
    return text if text.strip() else ""


def _with_system(messages: Messages, fields: Fields) -> Messages:
    system = _system(fields)
    if not system:
        return messages
    if messages[0]["role"] == "system":
        raise BadRow("field system, but the messages begin with a system message too; keep one")
    return ({"role": "system", "content": system}, *messages)


def _history(fields: Fields) -> Messages:
    """Earlier turns [[user, assistant], ...] of LLaMA-Factory's alpaca format."""
    if not fields.get("history"):
        return ()
    turns: Messages = ()
    for turn in field_of(fields, "history", list):
        if not (isinstance(turn, list) and [type(text) for text in turn] == [str, str]):
            found = type_name(turn)
            raise BadRow(f"field history: expected pairs [user, assistant] of texts, found {found}")
        turns = turns + as_user(turn[0]) + as_assistant(turn[1])
    check_order(turns, "field history")
    return turns
