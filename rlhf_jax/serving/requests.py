"""Bodies of requests, checked: an OpenAI request as a `Wanted`, or a `BadRequest` that names it."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rlhf_jax.data.chat import encode_prompt
from rlhf_jax.data.readers import reader
from rlhf_jax.data.templates import ChatTemplate
from rlhf_jax.data.tokenizer import encode_prompts
from rlhf_jax.serving.engine import Ask
from rlhf_jax.serving.programs import LIKELIEST
from rlhf_jax.types import Vocabulary

MOST = 128  # answers to one prompt
STOPS = 16  # stop strings

_SHARED = {"model", "temperature", "top_p", "n", "seed", "stop", "stream", "stream_options"}
_SHARED |= {"max_tokens", "logprobs", "return_token_ids"}
_COMPLETION = _SHARED | {"prompt", "echo"}
_CHAT = _SHARED | {"messages", "max_completion_tokens", "top_logprobs"}
# Fields that say nothing about the answer.
_IGNORED = {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}
# Fields with the values at which they change nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "logit_bias": ({},),
    "best_of": (1,),
    "suffix": ("",),
    "top_k": (0, -1),
    "min_p": (0,),
    "tools": ([],),
    "tool_choice": ("none",),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}


class BadRequest(Exception):
    """A request that is refused; `status`, `param` and `code` are those of OpenAI's errors."""

    def __init__(
        self, message: str, *, param: str | None = None, status: int = 400, code: str | None = None
    ):
        super().__init__(message)
        self.param, self.status, self.code = param, status, code


class Reads(NamedTuple):
    """What reads prompts: tokenizer and chat template, and the longest row in tokens."""

    vocabulary: Vocabulary
    chat: ChatTemplate | None
    longest: int
    ids: int  # the model's vocabulary


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Answers that a request asks for.

    prompts, texts: ids of each prompt, and its text if it was given as one. likeliest: number of
    alternatives to each token; None for no log-probs. token_ids: whether ids are returned.
    """

    prompts: Sequence[tuple[int, ...]]
    texts: Sequence[str | None]
    max_tokens: int
    temperature: float
    top_p: float
    n: int
    seed: int
    stops: Sequence[str]
    stream: bool
    usage: bool
    echo: bool
    likeliest: int | None
    token_ids: bool
    chat: bool

    def asks(self) -> list[Ask]:
        """One for each choice: n for each prompt, in order."""
        return [
            Ask(
                prompt=prompt,
                max_tokens=self.max_tokens,
                temperature=self.temperature,
                top_p=self.top_p,
                seed=self.seed,
                sample=sample,
                scores=self.echo and self.likeliest is not None,
                likeliest=bool(self.likeliest),
            )
            for prompt in self.prompts
            for sample in range(self.n)
        ]


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadRequest("the body must be a JSON object")
    return found


def parse_completion(body: Mapping[str, Any], reads: Reads) -> Wanted:
    """A request of /v1/completions."""
    _check_names(body, _COMPLETION)
    texts, prompts = _prompts(body.get("prompt"), reads)
    likeliest = _number(body, "logprobs", None, 0, LIKELIEST)
    max_tokens = _number(body, "max_tokens", 16, 0, reads.longest)
    return Wanted(
        prompts=prompts,
        texts=texts,
        max_tokens=_fitting(prompts, max_tokens, reads, "prompt"),
        echo=_flag(body, "echo"),
        likeliest=likeliest,
        chat=False,
        **_shared(body),
    )


def parse_chat(body: Mapping[str, Any], reads: Reads) -> Wanted:
    """A request of /v1/chat/completions."""
    _check_names(body, _CHAT)
    prompts = [_dialogue(body.get("messages"), reads)]
    name = "max_completion_tokens" if body.get("max_completion_tokens") else "max_tokens"
    room = max(1, reads.longest - len(prompts[0]))
    max_tokens = _number(body, name, room, 1, reads.longest)
    likeliest = _number(body, "top_logprobs", 0, 0, LIKELIEST)
    if likeliest and not _flag(body, "logprobs"):
        raise BadRequest("top_logprobs needs logprobs: true", param="top_logprobs")
    return Wanted(
        prompts=prompts,
        texts=[None],
        max_tokens=_fitting(prompts, max_tokens, reads, "messages"),
        echo=False,
        likeliest=likeliest if _flag(body, "logprobs") else None,
        chat=True,
        **_shared(body),
    )


def _shared(body: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that both kinds of request have."""
    options = body.get("stream_options") or {}
    if not isinstance(options, dict) or not options.keys() <= {"include_usage"}:
        raise BadRequest("stream_options may have include_usage only", param="stream_options")
    seed = _number(body, "seed", None, -(1 << 63), (1 << 63) - 1)
    return {
        "temperature": _real(body, "temperature", 1.0, 0.0, 1e6),
        "top_p": _real(body, "top_p", 1.0, 1e-6, 1.0),
        "n": _number(body, "n", 1, 1, MOST),
        "seed": secrets.randbits(32) if seed is None else seed % (1 << 32),
        "stops": _stops(body.get("stop")),
        "stream": _flag(body, "stream"),
        "usage": _flag(options, "include_usage"),
        "token_ids": _flag(body, "return_token_ids"),
    }


def _check_names(body: Mapping[str, Any], known: set[str]) -> None:
    """BadRequest for a field that would change the answer and is not followed."""
    for name, value in body.items():
        free = value is None or name in known | _IGNORED
        if not free and value not in _NEUTRAL.get(name, ()):
            raise BadRequest(f"{name} is not supported", param=name, code="unsupported_parameter")


def _number(body: Mapping[str, Any], name: str, default: int | None, low: int, high: int) -> Any:
    """An integer of the body, or the default."""
    value = body.get(name)
    if value is None:
        return default
    if type(value) is not int or not low <= value <= high:
        raise BadRequest(
            f"{name} must be an integer in [{low}, {high}], got {value!r:.40}", param=name
        )
    return value


def _real(body: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if type(value) not in (int, float) or not low <= value <= high:
        raise BadRequest(
            f"{name} must be a number in [{low:g}, {high:g}], got {value!r:.40}", param=name
        )
    return float(value)


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadRequest(f"{name} must be true or false, got {value!r:.40}", param=name)
    return bool(value)


def _stops(value: Any) -> list[str]:
    stops = [] if value is None else [value] if isinstance(value, str) else value
    fits = isinstance(stops, list) and len(stops) <= STOPS
    if not fits or not all(isinstance(stop, str) and stop for stop in stops):
        raise BadRequest(f"stop must be a text, or at most {STOPS} of them", param="stop")
    return stops


def _prompts(value: Any, reads: Reads) -> tuple[list[str | None], list[tuple[int, ...]]]:
    """Texts and ids of a text, a list of texts, a list of ids, or a list of lists of ids."""
    many = value if isinstance(value, list) and not _is_ids(value) else [value]
    if many and all(isinstance(each, str) for each in many):
        return many, [tuple(ids) for ids in _encoded(many, reads)]
    if not many or not all(_is_ids(each) for each in many):
        raise BadRequest(
            "prompt must be a text or token ids, or a list of texts or of lists of ids",
            param="prompt",
        )
    for i in (i for ids in many for i in ids):
        if not 0 <= i < reads.ids:
            raise BadRequest(f"prompt has the id {i}; ids are below {reads.ids}", param="prompt")
    return [None] * len(many), [tuple(ids) for ids in many]


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(each) is int for each in value)


def _encoded(texts: list[str], reads: Reads) -> list[list[int]]:
    try:
        rows = encode_prompts(reads.vocabulary, texts)
    # TypeError: half a surrogate pair, which JSON may spell and no tokenizer reads.
    except (ValueError, TypeError) as error:
        raise BadRequest(f"prompt: {error}", param="prompt") from error
    if not all(rows):
        raise BadRequest("prompt has no tokens", param="prompt")
    return rows


def _dialogue(messages: Any, reads: Reads) -> tuple[int, ...]:
    """The ids of messages, by the chat template."""
    if reads.chat is None:
        raise BadRequest("this model has no chat template; use /v1/completions", param="messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages must be a list of messages", param="messages")
    try:
        plain = [_plain(message) for message in messages]
        return tuple(encode_prompt(reads.vocabulary, reads.chat, plain))
    except (ValueError, TypeError) as error:
        raise BadRequest(f"messages: {error}", param="messages") from error


def _plain(message: Any) -> Any:
    """A message with its parts of text joined."""
    if not isinstance(message, dict):
        raise ValueError('expected {"role": ..., "content": ...}')
    content = message.get("content")
    if not isinstance(content, list):
        return message
    if not all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        raise ValueError("only parts of type text can be read")
    return {**message, "content": "".join(str(part.get("text", "")) for part in content)}


def _fitting(prompts: Sequence[tuple[int, ...]], max_tokens: int, reads: Reads, param: str) -> int:
    """max_tokens, if the longest prompt leaves room for it."""
    longest = max(map(len, prompts))
    if longest + max_tokens > reads.longest:
        raise BadRequest(
            f"This model's maximum context length is {reads.longest} tokens. However, you "
            f"requested {longest + max_tokens} tokens ({longest} in the {param}, {max_tokens} in "
            "the completion).",
            param=param,
            code="context_length_exceeded",
        )
    return max_tokens


def prompt_text(reads: Reads, ids: Sequence[int], text: str | None) -> str:
    """The text of a prompt as it was given, or that of its ids."""
    whole = reader(reads.vocabulary.tokenizer).whole
    return whole.decode(list(ids), skip_special_tokens=True) if text is None else text
