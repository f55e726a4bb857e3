"""Dialogues as token ids, and which of the tokens are the assistant's.

    row = encode_dialogue(vocabulary, template, [
        {"role": "user", "content": "Name a colour."},
        {"role": "assistant", "content": "red"},
    ])

The ids are those of the whole text that the template writes, as `transformers` makes them.

What counts. A template with {% generation %} blocks says it. In any other, the assistant's message
i is what the template adds to the text of messages 0 to i - 1 with a generation prompt. That holds
only if later messages leave earlier text alone; a template that changes it, as some do that drop
the reasoning of earlier turns, is refused for such a row. The token that ends the turn counts, and
text after it does not, since no sampler gets there. A token counts if all of its characters do: one
that joins the end of the prompt and the first letter of an answer does not.

Special tokens. Only the template writes them. "<|im_end|>" in a message is read as ten characters.
To tell them apart, those of the template are given a spelling that no message may have, and the
tokenizer one more token for each, with the same id.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from tokenizers import AddedToken, Tokenizer

from rlhf_jax.data.readers import reader
from rlhf_jax.data.templates import (
    CLOSE,
    OPEN,
    ChatTemplate,
    Messages,
    json_copy,
    plain_messages,
    render,
)
from rlhf_jax.types import Vocabulary

Tools = Any  # a sequence of JSON schemas, or None
Span = tuple[int, int]

_BREAK, _OWN = "\ufdd0", "\ufdd1"  # in special tokens of messages; before those of the template


class ChatRow(NamedTuple):
    """ids: of the dialogue up to the last token that counts. counted: True at those that do."""

    ids: list[int]
    counted: list[bool]


class _Marked(NamedTuple):
    """A tokenizer that reads only marked special tokens.

    tokens: spelling of special tokens. ids: id of a marked token -> id of the token it stands for.
    """

    tokenizer: Tokenizer
    tokens: re.Pattern[str]
    ids: dict[int, int]


class _Text(NamedTuple):
    """A rendered dialogue with marked special tokens, and its {% generation %} blocks."""

    text: str
    blocks: list[Span]


def encode_prompt(
    vocabulary: Vocabulary,
    template: ChatTemplate,
    messages: Messages,
    *,
    tools: Tools = None,
) -> list[int]:
    """The ids of a dialogue and of the beginning of the assistant's next message.

    Raises:
      ValueError: as `render_chat`, or the last message is the assistant's.
    """
    if messages and messages[-1].get("role") == "assistant":
        raise ValueError("the last message of a prompt is the assistant's; end with another one")
    marked = _marked(vocabulary.tokenizer)
    written = _written(marked, template, messages, tools, prompt=True)
    return _ids_and_offsets(vocabulary, marked, written.text)[0]


def encode_reply(vocabulary: Vocabulary, template: ChatTemplate, messages: Messages) -> list[int]:
    """The ids from the assistant's stop token on to the beginning of its next message.

    They are what the template writes after the stop token of any answer, for sampled ids that end
    with one: the rest of the turn, the messages, the beginning of the next answer.

    Raises:
      ValueError: as `render_chat`, or no special token ends the assistant's turn.
    """
    marked, answer = _marked(vocabulary.tokenizer), "Noted"
    before = [{"role": "user", "content": "Yes"}, {"role": "assistant", "content": answer}]
    text = _written(marked, template, [*before, *messages], None, prompt=True).text
    ids, offsets = _ids_and_offsets(vocabulary, marked, text)
    end, special = text.index(answer) + len(answer), reader(vocabulary.tokenizer).special
    places = zip(ids, offsets, strict=True)
    stop = next((n for n, (i, (at, _)) in enumerate(places) if at >= end and i in special), None)
    if stop is None:
        raise ValueError("the chat template ends the assistant's turn with no special token")
    return ids[stop + 1 :]


def encode_dialogue(
    vocabulary: Vocabulary,
    template: ChatTemplate,
    messages: Messages,
    *,
    tools: Tools = None,
    after: int = 0,
) -> ChatRow:
    """The ids of a dialogue, with the tokens of the assistant's messages counted.

    Args:
      after: only messages from this number on count; those before are the prompt.
    Raises:
      ValueError: as `render_chat`; zero supervised tokens, or a message without any; or the
        template changes earlier text, so that no mask is right.
    """
    turns = [i for i in range(after, len(messages)) if _is_answer(messages[i])]
    if not turns:
        raise ValueError("zero supervised tokens: no message of the assistant's; drop the row")
    for i in turns:
        if not any(messages[i].get(name) for name in ("content", "tool_calls")):
            raise ValueError(f"zero supervised tokens in message {i}: it is empty; drop the row")
    marked = _marked(vocabulary.tokenizer)
    written = _written(marked, template, messages, tools)
    ids, offsets = _ids_and_offsets(vocabulary, marked, written.text)
    stops = np.isin(ids, vocabulary.stop_ids)
    counted = np.zeros(len(ids), bool)
    for span in _spans(marked, template, messages, tools, written, turns, after):
        counted |= _inside(offsets, span, stops, block=bool(written.blocks))
    if not counted.any():
        raise ValueError("zero supervised tokens: the template writes no text of the assistant's")
    end = int(np.flatnonzero(counted)[-1]) + 1
    return ChatRow(ids[:end], counted[:end].tolist())


def with_turn_end(vocabulary: Vocabulary, template: ChatTemplate) -> Vocabulary:
    """The vocabulary, with the token that ends the assistant's messages among its stop ids.

    A base model may ship a template whose end of turn generation_config.json does not have.

    Raises:
      ValueError: the template refuses or leaves out a user's and an assistant's message.
    """
    marked, answer = _marked(vocabulary.tokenizer), "Noted"
    dialogue = [{"role": "user", "content": "Yes"}, {"role": "assistant", "content": answer}]
    text = _written(marked, template, dialogue, None).text
    if answer not in text:
        raise ValueError("the chat template writes no text of the assistant's")
    ids, offsets = _ids_and_offsets(vocabulary, marked, text)
    special, end = reader(vocabulary.tokenizer).special, text.rindex(answer) + len(answer)
    found = [i for i, (start, _) in zip(ids, offsets, strict=True) if start >= end and i in special]
    stop_ids = tuple(dict.fromkeys([*vocabulary.stop_ids, *found[:1]]))
    return replace(vocabulary, stop_ids=stop_ids)


def _is_answer(message: Any) -> bool:
    return isinstance(message, Mapping) and message.get("role") == "assistant"


def _spans(
    marked: _Marked,
    template: ChatTemplate,
    messages: Messages,
    tools: Tools,
    written: _Text,
    turns: Sequence[int],
    after: int,
) -> list[Span]:
    """Characters of the assistant's messages, first and one beyond the last."""

    def length(count: int, prompt: bool) -> int:
        """Of the text of the first messages, which the whole text must begin with."""
        part = _written(marked, template, messages[:count], tools, prompt=prompt).text
        if not written.text.startswith(part):
            raise ValueError(
                f"the chat template writes messages 0 to {count - 1} in another way when message "
                f"{count} follows, so no mask is right; let the last answer alone count, with the "
                "messages before it as the prompt"
            )
        return len(part)

    if written.blocks:
        begin = length(after, True) if after else 0
        return [span for span in written.blocks if span[0] >= begin]
    return [(length(i, True), length(i + 1, False)) for i in turns]


def _inside(offsets: np.ndarray, span: Span, stops: np.ndarray, *, block: bool) -> np.ndarray:
    """Which tokens a span counts. [N] bool.

    block: the span is a {% generation %} block, which counts as it is, and with it a stop that
      follows directly; otherwise text after the last stop in the span does not count.
    """
    first, last = offsets.T
    inside = (first >= span[0]) & (last <= span[1]) & (first < span[1])
    if block:
        return inside | (stops & (first == span[1]))
    ends = np.flatnonzero(inside & stops)
    return inside if len(ends) == 0 else inside & (np.arange(len(inside)) <= ends[-1])


def _written(
    marked: _Marked,
    template: ChatTemplate,
    messages: Messages,
    tools: Tools,
    *,
    prompt: bool = False,
) -> _Text:
    """The text of messages: special tokens of the template marked, those of messages as text."""

    def apart(text: str) -> str:
        return marked.tokens.sub(lambda found: _BREAK.join(found[0]), text)

    checked = plain_messages(messages, apart)
    schemas = None if tools is None else json_copy(list(tools), apart)
    text = render(template, checked, schemas, add_generation_prompt=prompt)
    text = marked.tokens.sub(lambda found: _OWN + found[0], text).replace(_BREAK, "")
    pieces, blocks = re.split(f"[{OPEN}{CLOSE}]", text), []
    ends = np.cumsum([len(piece) for piece in pieces]).tolist()
    blocks = list(zip(ends[:-1:2], ends[1:-1:2], strict=True))
    return _Text("".join(pieces), blocks)


def _ids_and_offsets(
    vocabulary: Vocabulary, marked: _Marked, text: str
) -> tuple[list[int], np.ndarray]:
    """Ids, and [N, 2] the first character of each token and one beyond its last."""
    found = marked.tokenizer.encode(text, add_special_tokens=False)
    special = reader(vocabulary.tokenizer).special
    spelled = next((i for i in found.ids if i in special), None)
    if spelled is not None:
        word = vocabulary.tokenizer.id_to_token(spelled)
        raise ValueError(f"a message has the word {word}, which is reserved; remove it")
    ids = [marked.ids.get(i, i) for i in found.ids]
    return ids, np.array(found.offsets, int).reshape(-1, 2)


@lru_cache(maxsize=16)
def _marked(tokenizer: Tokenizer) -> _Marked:
    """The tokenizer with a second spelling of every special token."""
    tokens = {
        i: token
        for i, token in tokenizer.get_added_tokens_decoder().items()
        if token.special and len(token.content) > 1
    }
    copy = Tokenizer.from_str(reader(tokenizer).whole.to_str())
    copy.encode_special_tokens = True
    copy.post_processor = None  # some leave spaces out of the offsets
    names = ("single_word", "lstrip", "rstrip")
    copy.add_tokens(
        [
            AddedToken(
                _OWN + token.content,
                normalized=False,
                **{name: getattr(token, name) for name in names},
            )
            for token in tokens.values()
        ]
    )
    known = copy.get_vocab()
    ids = {known[_OWN + token.content]: i for i, token in tokens.items()}
    longest_first = sorted((token.content for token in tokens.values()), key=len, reverse=True)
    pattern = "|".join(map(re.escape, longest_first)) or "(?!)"
    return _Marked(copy, re.compile(pattern), ids)
