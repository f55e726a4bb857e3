"""Answers of the engine as replies, whole or in parts as they come."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

from rlhf_jax.serving import replies
from rlhf_jax.serving.engine import Engine, Job, Piece, Token
from rlhf_jax.serving.requests import BadRequest, Reads, Wanted, prompt_text
from rlhf_jax.serving.texts import Part, TextStream


async def whole_reply(engine: Engine, reads: Reads, reply: replies.ServedReply) -> dict[str, Any]:
    """The reply when every answer has ended."""
    streams = _streams(reads, reply.wanted)
    parts: list[list[Part]] = [[] for _ in streams]
    async with aclosing(_parts(engine, reads, reply.wanted, streams)) as found:
        async for index, part in found:
            parts[index].append(part)
    usage = replies.usage_of(reply.wanted, sum(len(stream.ids) for stream in streams))
    return replies.whole(reply, [replies.joined(each) for each in parts], usage)


async def event_lines(
    engine: Engine, reads: Reads, reply: replies.ServedReply
) -> AsyncGenerator[str]:
    """The reply as server-sent events."""
    wanted, streams = reply.wanted, _streams(reads, reply.wanted)
    if wanted.chat:
        for index in range(len(streams)):
            yield _event(replies.first_chunk(reply, index))
    try:
        async with aclosing(_parts(engine, reads, wanted, streams)) as found:
            async for index, part in found:
                if part.text or part.finish or part.tokens:
                    yield _event(replies.chunk(reply, index, part))
    except BadRequest as error:
        yield _event(replies.error_body(error))
        return
    if wanted.usage:
        usage = replies.usage_of(wanted, sum(len(stream.ids) for stream in streams))
        yield _event(replies.usage_chunk(reply, usage))
    yield "data: [DONE]\n\n"


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, allow_nan=False)}\n\n"


def _streams(reads: Reads, wanted: Wanted) -> list[TextStream]:
    return [TextStream(reads.vocabulary, wanted.stops) for _ in wanted.asks()]


async def _parts(
    engine: Engine, reads: Reads, wanted: Wanted, streams: Sequence[TextStream]
) -> AsyncGenerator[tuple[int, Part]]:
    """(number of the choice, next part) as they come; leaving frees the rows."""
    pieces: asyncio.Queue[tuple[int, Piece]] = asyncio.Queue()
    loop, asks = asyncio.get_running_loop(), wanted.asks()

    def deliver(index: int, piece: Piece) -> None:
        # A client's loop may end before the engine knows.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(pieces.put_nowait, (index, piece))

    jobs = [Job(ask, partial(deliver, index)) for index, ask in enumerate(asks)]
    texts = [text for text in wanted.texts for _ in range(wanted.n)]
    starts = [0] * len(jobs)
    try:
        for job in jobs:
            engine.submit(job)
        for index, ask in enumerate(asks):
            if wanted.echo:
                told = prompt_text(reads, ask.prompt, texts[index])
                starts[index] = len(told)
                if not ask.scores:
                    yield index, Part(told, [])
        left = set(range(len(jobs)))
        while left:
            index, piece = await pieces.get()
            if index not in left:
                continue
            if piece.error is not None:
                raise BadRequest(piece.error, status=500)
            if piece.prompt:
                told = prompt_text(reads, asks[index].prompt, texts[index])
                yield index, _echoed(reads, asks[index].prompt, told, piece)
                continue
            part = streams[index].push(piece)
            if part.finish is not None:
                left.remove(index)
                jobs[index].cancelled = True
            yield index, part._replace(tokens=_moved(part.tokens, starts[index]))
    finally:
        for job in jobs:
            job.cancelled = True


def _echoed(reads: Reads, prompt: Sequence[int], text: str, piece: Piece) -> Part:
    """A prompt with the log-probs of its tokens."""
    tokens = [Token(prompt[0], None, []), *piece.tokens]
    stream = TextStream(reads.vocabulary)
    part = stream.push(Piece(tokens, finish="length"))
    # A first space that only the ids have.
    return Part(text, _moved(part.tokens, min(0, len(text) - len(stream.text))))


def _moved(tokens: Sequence[Token], characters: int) -> list[Token]:
    return [token._replace(at=max(0, token.at + characters)) for token in tokens]
