"""Answers in the shapes of OpenAI: whole, in parts, and errors."""

import time
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from rlhf_jax.serving.engine import Token
from rlhf_jax.serving.requests import BadRequest, Wanted
from rlhf_jax.serving.texts import Part, shown_token
from rlhf_jax.types import Vocabulary

LOWEST = -9999.0  # in place of minus infinity, which JSON lacks


class ServedReply(NamedTuple):
    """What all parts of a reply share."""

    id: str
    created: int
    model: str
    wanted: Wanted
    vocabulary: Vocabulary


def make_reply(model: str, wanted: Wanted, vocabulary: Vocabulary) -> ServedReply:
    """A reply with an id of its own."""
    kind = "chatcmpl" if wanted.chat else "cmpl"
    return ServedReply(f"{kind}-{uuid.uuid4().hex}", int(time.time()), model, wanted, vocabulary)


def joined(parts: Sequence[Part]) -> Part:
    """The parts of one answer as one."""
    tokens = [token for part in parts for token in part.tokens]
    return Part("".join(part.text for part in parts), tokens, parts[-1].finish)


def whole(reply: ServedReply, choices: Sequence[Part], usage: dict[str, int]) -> dict[str, Any]:
    """The reply to a request that is not streamed."""
    kind = "chat.completion" if reply.wanted.chat else "text_completion"
    rows = [_choice(reply, index, part, streamed=False) for index, part in enumerate(choices)]
    return _envelope(reply, kind, rows) | {"usage": usage}


def first_chunk(reply: ServedReply, index: int) -> dict[str, Any]:
    """The first part of a streamed message, with its role."""
    delta = {"role": "assistant", "content": ""}
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
    return _envelope(reply, "chat.completion.chunk", [choice])


def chunk(reply: ServedReply, index: int, part: Part) -> dict[str, Any]:
    """A part of a streamed reply."""
    kind = "chat.completion.chunk" if reply.wanted.chat else "text_completion"
    return _envelope(reply, kind, [_choice(reply, index, part, streamed=True)])


def usage_chunk(reply: ServedReply, usage: dict[str, int]) -> dict[str, Any]:
    """The last part of a streamed reply, if it was asked for."""
    kind = "chat.completion.chunk" if reply.wanted.chat else "text_completion"
    return _envelope(reply, kind, []) | {"usage": usage}


def usage_of(wanted: Wanted, drawn: int) -> dict[str, int]:
    """Numbers of tokens."""
    asked = sum(map(len, wanted.prompts))
    return {"prompt_tokens": asked, "completion_tokens": drawn, "total_tokens": asked + drawn}


def error_body(error: BadRequest) -> dict[str, Any]:
    """An error in OpenAI's shape."""
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    facts = {"message": str(error), "type": kind, "param": error.param, "code": error.code}
    return {"error": facts}


def _envelope(reply: ServedReply, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": reply.id,
        "object": kind,
        "created": reply.created,
        "model": reply.model,
        "choices": choices,
    }


def _choice(reply: ServedReply, index: int, part: Part, *, streamed: bool) -> dict[str, Any]:
    wanted = reply.wanted
    choice: dict[str, Any] = {"index": index, "finish_reason": part.finish, "logprobs": None}
    if wanted.likeliest is not None:
        describe = _chat_logprobs if wanted.chat else _text_logprobs
        choice["logprobs"] = describe(reply, part)
    if wanted.token_ids:
        choice["token_ids"] = [token.id for token in part.tokens]
        choice["prompt_token_ids"] = list(wanted.prompts[index // wanted.n])
    if not wanted.chat:
        return choice | {"text": part.text}
    if streamed:
        return choice | {"delta": {"content": part.text} if part.text else {}}
    return choice | {"message": {"role": "assistant", "content": part.text, "refusal": None}}


def _text_logprobs(reply: ServedReply, part: Part) -> dict[str, Any]:
    """Log-probs as /v1/completions has them."""
    count = reply.wanted.likeliest
    tops = [_top(reply, token) for token in part.tokens]
    return {
        "tokens": [shown_token(reply.vocabulary, token.id) for token in part.tokens],
        "token_logprobs": [_finite(token.logp) for token in part.tokens],
        "top_logprobs": tops if count else None,
        "text_offset": [token.at for token in part.tokens],
    }


def _top(reply: ServedReply, token: Token) -> dict[str, float | None] | None:
    """The likeliest tokens and the token itself, by their texts; None for the first of a prompt."""
    if token.logp is None:
        return None
    found: dict[str, float | None] = {}
    # Several ids may have one text, as half characters do: the likeliest is kept.
    for i, logp in [*token.likeliest[: reply.wanted.likeliest], (token.id, token.logp)]:
        found.setdefault(shown_token(reply.vocabulary, i), _finite(logp))
    return found


def _chat_logprobs(reply: ServedReply, part: Part) -> dict[str, Any]:
    """Log-probs as /v1/chat/completions has them."""
    count = reply.wanted.likeliest
    content = [
        _token(reply, token.id, token.logp)
        | {"top_logprobs": [_token(reply, *pair) for pair in token.likeliest[:count]]}
        for token in part.tokens
    ]
    return {"content": content, "refusal": None}


def _token(reply: ServedReply, i: int, logp: float | None) -> dict[str, Any]:
    text = shown_token(reply.vocabulary, i)
    return {"token": text, "logprob": _finite(logp), "bytes": list(text.encode())}


def _finite(logp: float | None) -> float | None:
    return None if logp is None else max(logp, LOWEST)
