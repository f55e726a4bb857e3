"""Chat templates: messages as text, by the Jinja template that a tokenizer ships.

Templates come from strangers, so they run in Jinja's immutable sandbox, with the settings, filters
and functions of `transformers`. Needs the extra `hf`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

Messages = Any  # a sequence of {"role", "content", ...}, from a file and checked when it is read

ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
# Around the text of {% generation %} blocks. Noncharacters of Unicode: no message may have one.
OPEN, CLOSE = "\ufdd2", "\ufdd3"
_RESERVED = {chr(code) for code in range(0xFDD0, 0xFDF0)}


@dataclass(frozen=True)
class ChatTemplate:
    """The templates of a tokenizer.

    sources: name -> Jinja text: "default", and "tool_use" if dialogues with tools have their own.
    variables: what the template reads besides messages and tools: bos_token and the other special
      tokens, and options such as enable_thinking.
    now: the time of `strftime_now`, for templates that write the date. One time for all rows, so
      that a run that is resumed, or given this time again, has the same prompts.
    """

    sources: Mapping[str, str]
    variables: Mapping[str, Any] = field(default_factory=dict)
    now: datetime = field(default_factory=datetime.now)


def render_chat(
    template: ChatTemplate,
    messages: Messages,
    *,
    tools: Any = None,
    add_generation_prompt: bool = False,
) -> str:
    """The text of a dialogue.

    Args:
      messages: {"role", "content", ...}.
      tools: JSON schemas of functions; None for those of the template's variables, if any.
      add_generation_prompt: end with the beginning of an assistant's message.
    Raises:
      ValueError: a message without a role or content, values that are not JSON, or the template
        refuses the messages.
    """
    checked, schemas = plain_messages(messages), None if tools is None else json_copy(list(tools))
    text = render(template, checked, schemas, add_generation_prompt=add_generation_prompt)
    return text.replace(OPEN, "").replace(CLOSE, "")


def render(
    template: ChatTemplate,
    messages: Sequence[Any],
    tools: Sequence[Any] | None,
    *,
    add_generation_prompt: bool,
) -> str:
    """The text of plain messages, with OPEN and CLOSE around the blocks of the assistant's text."""
    sources = template.sources
    name = "tool_use" if tools and "tool_use" in sources else "default"
    if name not in sources:
        raise ValueError(f"the chat template has no {name!r}, only {sorted(sources)}")
    variables = {"tools": None, "documents": None, **template.variables}
    if tools is not None:
        variables["tools"] = tools
    variables |= {
        "messages": messages,
        "add_generation_prompt": add_generation_prompt,
        "strftime_now": lambda layout: format(template.now, layout),
        "raise_exception": _refuse,
    }
    compiled = _compiled(sources[name])
    try:
        return compiled.render(variables)
    # A template is a program of somebody else, and may fail in any way.
    except Exception as error:
        raise ValueError(f"the chat template refuses the messages: {error}") from error


def plain_messages(messages: Messages, change: Callable[[str], str] = str) -> list[dict[str, Any]]:
    """The messages as JSON values of their own, every text changed by `change`.

    Raises:
      ValueError: no messages, or a message that no template could read; it is numbered from 0.
    """
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        raise ValueError(f"expected a list of messages, got {messages!r:.60}")
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise ValueError(f'message {i}: expected {{"role": ..., "content": ...}}')
        if message["role"] not in ROLES:
            raise ValueError(f"message {i}: role {message['role']!r}, expected one of {ROLES}")
        if message.get("content") is None and not message.get("tool_calls"):
            raise ValueError(f"message {i}: no content")
    return json_copy(list(messages), change)


def json_copy(value: Any, change: Callable[[str], str] = str) -> Any:
    """A copy made of dicts, lists and scalars: nothing in it has methods that a template may use.

    Raises:
      ValueError: another value, or a noncharacter in a text.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        if not _RESERVED.isdisjoint(value):
            raise ValueError("a text has a noncharacter of Unicode, U+FDD0 to U+FDEF; remove it")
        return change(value)
    if isinstance(value, Mapping):
        return {json_copy(key, change): json_copy(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_copy(item, change) for item in value]
    raise ValueError(f"expected JSON values in messages and tools, got {type(value).__name__}")


def _refuse(reason: str):
    """What a template calls when it cannot write the messages."""
    raise ValueError(reason)


@lru_cache(maxsize=32)
def _compiled(source: str):
    """The compiled template."""
    environment = _environment()
    try:
        return environment.from_string(source)
    except environment.error as error:
        raise ValueError(f"the chat template is no valid Jinja: {error}") from error


@lru_cache(maxsize=1)
def _environment():
    """Jinja as `transformers` sets it up for chat templates."""
    try:
        import jinja2
        from jinja2 import ext, nodes, sandbox
    except ImportError as error:
        raise ValueError('chat templates need jinja2: pip install "rlhf-jax[hf]"') from error

    class Generation(ext.Extension):
        """{% generation %}...{% endgeneration %}: text of the assistant, between two marks."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            first, last = (nodes.Output([nodes.TemplateData(mark)]) for mark in (OPEN, CLOSE))
            return [first.set_lineno(line), *body, last.set_lineno(line)]

    # Jinja's own filter writes <, > and & for HTML, in another order of arguments.
    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(
            x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.extend(error=jinja2.TemplateError)
    return environment
