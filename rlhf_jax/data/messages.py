"""Messages {"role", "content"}, as chat templates read them, or {"from", "value"} (sharegpt).

Roles are "system" (first message only), "user", "assistant" and "tool"; other names of the same
roles are translated. Content is a text, or null beside tool calls. Other keys without null (`name`,
`tool_calls`, `tool_call_id`, `weight`) stay as they are, so a template sees what the file has.
"""

import json
from typing import Any

from rlhf_jax.data.fields import BadRow, Fields, checked_text, type_name

Message = dict[str, Any]
Messages = tuple[Message, ...]

ROLES = ("system", "user", "assistant", "tool")
_ROLE_NAMES = {
    **{role: role for role in ROLES},
    **{"developer": "system", "human": "user", "gpt": "assistant", "model": "assistant"},
    **{"observation": "tool", "ipython": "tool", "function": "tool", "function_call": "assistant"},
}
EXAMPLE = '[{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'


def is_messages(value: Any) -> bool:
    """Whether a value is one message or a list that begins with one."""
    first = value[0] if isinstance(value, list | tuple) and value else value
    return isinstance(first, dict) and ("role" in first or "from" in first)


def read_messages(fields: Fields, name: str) -> Messages:
    """The messages of a field, checked; a single message is a list of one."""
    value = fields.get(name)
    values = [value] if isinstance(value, dict) else value
    if not isinstance(values, list) or not values:
        found = "an empty list" if values == [] else type_name(value)
        raise BadRow(f"field {name}: expected messages {EXAMPLE}, found {found}")
    messages = tuple(
        _message(item, f"field {name}, message {i + 1}") for i, item in enumerate(values)
    )
    check_order(messages, f"field {name}")
    return messages


def check_order(messages: Messages, name: str) -> None:
    """BadRow if the roles cannot follow one another."""
    last = None
    for number, role in enumerate((message["role"] for message in messages), start=1):
        if role == "system" and number > 1:
            raise BadRow(f"{name}: message {number} has role system, which only the first may have")
        if role == last and role in ("user", "assistant"):
            raise BadRow(f"{name}: messages {number - 1} and {number} are both {role}; join them")
        if role == "tool" and last not in ("assistant", "tool"):
            raise BadRow(f"{name}: message {number} is a tool's, after {last}, not an assistant")
        last = role


def check_answered(prompt: Messages, answer: Messages, name: str) -> None:
    """BadRow unless the prompt asks something and the answer begins and ends with the assistant."""
    if not any(message["role"] in ("user", "tool") for message in prompt):
        raise BadRow(f"{name}: no user message before the answer")
    if not answer or answer[0]["role"] != "assistant" or answer[-1]["role"] != "assistant":
        roles = ", ".join(message["role"] for message in answer) or "nothing"
        raise BadRow(f"{name}: an answer begins and ends with the assistant, found {roles}")
    check_order(prompt + answer, name)


def last_answer(messages: Messages, name: str) -> tuple[Messages, Messages]:
    """(prompt, answer), parted after the last user message."""
    users = [i for i, message in enumerate(messages) if message["role"] == "user"]
    cut = users[-1] + 1 if users else 0
    check_answered(messages[:cut], messages[cut:], name)
    return messages[:cut], messages[cut:]


def all_answers(messages: Messages, name: str) -> tuple[Messages, Messages]:
    """(prompt, answers), parted before the first assistant message."""
    roles = [message["role"] for message in messages]
    cut = roles.index("assistant") if "assistant" in roles else len(roles)
    check_answered(messages[:cut], messages[cut:], name)
    return messages[:cut], messages[cut:]


def shared_turns(first: Messages, second: Messages) -> int:
    """Length of the longest common beginning that an assistant message follows on both sides."""
    shared = 0
    for i, (a, b) in enumerate(zip(first, second, strict=False)):
        if a["role"] == b["role"] == "assistant":
            shared = i
        if a != b:
            break
    return shared


def as_user(text: str) -> Messages:
    """A text as the user's message."""
    return ({"role": "user", "content": text},)


def as_assistant(text: str) -> Messages:
    """A text as the assistant's message."""
    return ({"role": "assistant", "content": text},)


def is_blank(text: str | Messages) -> bool:
    """Whether an answer says nothing and calls no tool."""
    if isinstance(text, str):
        return not text.strip()
    return all(not m["content"].strip() and not m.get("tool_calls") for m in text)


def read_tools(fields: Fields) -> tuple[Any, ...]:
    """The tools of a row: a list of JSON schemas, or the same as a JSON text."""
    value = fields.get("tools")
    if isinstance(value, str) and value.strip():
        value = _json(value, "field tools")
    if not value:
        return ()
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise BadRow(f"field tools: expected a list of JSON schemas, found {type_name(value)}")
    return tuple(_without_null(tool) for tool in value)


def _message(value: Any, name: str) -> Message:
    """One message with the roles and keys of chat templates."""
    if not isinstance(value, dict):
        raise BadRow(f"{name}: expected an object with role and content, found {type_name(value)}")
    role_key, text_key = ("from", "value") if "from" in value else ("role", "content")
    spoken = value.get(role_key)
    if not isinstance(spoken, str) or spoken.lower() not in _ROLE_NAMES:
        found = f"role {spoken!r:.40}" if isinstance(spoken, str) else f"no {role_key}"
        raise BadRow(f"{name}: {found}; the roles are {', '.join(ROLES)}")
    rest = {k: _without_null(v) for k, v in value.items() if k not in (role_key, text_key)}
    rest = {k: v for k, v in rest.items() if v is not None}
    content = value.get(text_key)
    if spoken == "function_call" and isinstance(content, str):
        call = _json(content, name)
        calls = call if isinstance(call, list) else [call]
        rest["tool_calls"] = [{"type": "function", "function": one} for one in calls]
        content = ""
    if content is None and rest.get("tool_calls"):
        content = ""
    return {"role": _ROLE_NAMES[spoken.lower()], "content": _content(content, name), **rest}


def _content(value: Any, name: str) -> str:
    """The text of a message; parts of text are joined."""
    if isinstance(value, list):
        kinds = [part.get("type") if isinstance(part, dict) else type_name(part) for part in value]
        other = [kind for kind in kinds if kind != "text"]
        if other:
            raise BadRow(f"{name}: content of type {other[0]!r:.40}; only text can be read")
        value = "".join(part["text"] for part in value)
    if not isinstance(value, str):
        raise BadRow(f"{name}: expected content as text, found {type_name(value)}")
    return checked_text(value, name)


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"{name}: expected JSON (a tool call or tools), found other text") from error


def _without_null(value: Any) -> Any:
    """Arrow fills fields that other rows have with null; a template would print them."""
    if isinstance(value, dict):
        return {k: _without_null(v) for k, v in value.items() if v is not None}
    return [_without_null(item) for item in value] if isinstance(value, list) else value
