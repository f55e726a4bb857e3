"""The HTTP side: routes, limits, and the queue between requests and the engine's thread.

A client that sends or reads slowly waits alone: nothing but its own task waits for it, and after
`SLOW` seconds without progress its connection is closed. A client that goes away frees its rows.
"""

import asyncio
import hmac
import logging
import re
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from rlhf_jax.serving import replies
from rlhf_jax.serving.answers import event_lines, whole_reply
from rlhf_jax.serving.engine import Engine
from rlhf_jax.serving.requests import (
    BadRequest,
    Reads,
    Wanted,
    parse_chat,
    parse_completion,
    parse_object,
)
from rlhf_jax.serving.served import Served

LARGEST = 16 << 20  # bytes of a request
SLOW = 30.0  # seconds for a request's body, and for each part of a reply to be taken
WAITING = 4096  # answers in the queue
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")  # what a server without a token may be called


def make_app(served: Served) -> Callable[..., Any]:
    """The ASGI application; its lifespan runs the engine in a thread."""
    one_at_a_time = asyncio.Lock()
    routes = [
        Route("/health", lambda request: JSONResponse({"status": "ok"})),
        Route("/v1/models", partial(_models, served)),
        Route("/v1/models/{name:path}", partial(_models, served)),
    ]
    if served.engine is not None:
        routes += [
            Route(path, partial(_answer, served, parse), methods=["POST"])
            for path, parse in (
                ("/v1/completions", parse_completion),
                ("/v1/chat/completions", parse_chat),
            )
        ]
    if served.score is not None:
        routes += [
            Route(path, partial(_rate, served, one_at_a_time, *names), methods=["POST"])
            for path, names in (
                ("/v1/reward", ("prompts", "answers")),
                ("/v1/score", ("text_1", "text_2")),
                ("/score", ("text_1", "text_2")),
            )
        ]
    app = Starlette(
        routes=routes,
        lifespan=partial(_engine_thread, served.engine),
        exception_handlers={
            BadRequest: _refuse,
            HTTPException: _refuse,
            Exception: _refuse,
        },
    )
    return partial(_guarded, app, served.token)


async def _guarded(app: Any, token: str | None, scope: Any, receive: Any, send: Any) -> None:
    """Lets requests of those who may ask through, and closes connections that take nothing."""
    if scope["type"] != "http":
        await app(scope, receive, send)
        return
    if refused := _refused(dict(scope["headers"]), token):
        await _error(refused)(scope, receive, send)
        return

    async def timed(message: Any) -> None:
        async with asyncio.timeout(SLOW):
            await send(message)

    try:
        await app(scope, receive, timed)
    except* TimeoutError:
        logging.getLogger(__name__).warning("a client took nothing for %g s", SLOW)


def _refused(headers: Mapping[bytes, bytes], token: str | None) -> BadRequest | None:
    """Why a client may not ask."""
    if token is not None:
        shown = headers.get(b"authorization", b"")
        if hmac.compare_digest(shown, f"Bearer {token}".encode()):
            return None
        return BadRequest(
            "this server needs its token as the API key", status=401, code="invalid_api_key"
        )
    # A page of a browser may point a name of its own at this computer.
    host = re.sub(r":\d*$", "", headers.get(b"host", b"").decode("latin-1"))
    if host in LOOPBACK:
        return None
    known = ", ".join(LOOPBACK)
    return BadRequest(f"this server answers at {known}, not at {host!r:.80}", status=403)


@asynccontextmanager
async def _engine_thread(engine: Engine | None, app: Starlette) -> AsyncGenerator[None]:
    """Runs the engine until the server stops."""
    if engine is None:
        yield
        return
    stopping = threading.Event()
    thread = threading.Thread(target=run_engine, args=(engine, stopping), name="engine")
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        engine.awake.set()
        await asyncio.to_thread(thread.join)


def run_engine(engine: Engine, stopping: threading.Event) -> None:
    """Steps until `stopping` is set. A batch that fails ends its answers, not the server."""
    while not stopping.is_set():
        try:
            busy = engine.step()
        # Anything: out of memory, a compiler's error. Every client of the batch gets the reason.
        except Exception as error:
            logging.getLogger(__name__).exception("a batch failed")
            engine.fail(f"{type(error).__name__}: {error}".splitlines()[0])
            continue
        if not busy:
            engine.awake.wait()


def _models(served: Served, request: Request) -> Response:
    """The one model, alone or as a list."""
    known = {"id": served.name, "object": "model", "created": 0, "owned_by": "rlhf_jax"}
    if served.reads is not None:
        known["max_model_len"] = served.reads.longest
    name = request.path_params.get("name")
    if name is None:
        return JSONResponse({"object": "list", "data": [known]})
    _check_model(served, {"model": name})
    return JSONResponse(known)


async def _answer(
    served: Served,
    parse: Callable[[Mapping[str, Any], Reads], Wanted],
    request: Request,
) -> Response:
    """Completions of a request."""
    engine, reads = served.engine, served.reads
    assert engine is not None
    assert reads is not None
    body = await _read_body(request)

    def read() -> Wanted:
        found = parse_object(body)
        _check_model(served, found)
        return parse(found, reads)

    # Long texts take a while to become tokens, and nobody else has to wait for it.
    wanted = await asyncio.to_thread(read)
    if len(engine.waiting) + len(wanted.prompts) * wanted.n > WAITING:
        raise BadRequest(
            f"more than {WAITING} answers wait; try again later", status=429, code="queue_full"
        )
    reply = replies.make_reply(served.name, wanted, reads.vocabulary)
    if wanted.stream:
        lines = event_lines(engine, reads, reply)
        return StreamingResponse(lines, media_type="text/event-stream")
    found = await _unless_gone(request, whole_reply(engine, reads, reply))
    return Response(status_code=499) if found is None else JSONResponse(found)


async def _rate(
    served: Served, one_at_a_time: asyncio.Lock, asked: str, given: str, request: Request
) -> Response:
    """Scores of answers by the reward model, one request at a time."""
    assert served.score is not None
    body = parse_object(await _read_body(request))
    _check_model(served, body)
    prompts, answers = (_listed(body.get(name)) for name in (asked, given))
    if len(prompts) == 1:
        prompts = prompts * len(answers)
    if not answers or len(prompts) != len(answers):
        raise BadRequest(
            f"{asked} and {given} must be as many, at least one; got {len(prompts)} and "
            f"{len(answers)}",
            param=given,
        )
    if not all(isinstance(answer, str) for answer in answers):
        raise BadRequest(f"{given} must be texts", param=given)
    async with one_at_a_time:
        try:
            scores = await asyncio.to_thread(served.score, prompts, answers)
        except (ValueError, TypeError) as error:
            raise BadRequest(f"{asked}: {error}", param=asked) from error
    if given == "answers":
        return JSONResponse({"object": "list", "model": served.name, "scores": scores})
    data = [{"index": i, "object": "score", "score": x} for i, x in enumerate(scores)]
    return JSONResponse({"object": "list", "model": served.name, "data": data})


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _check_model(served: Served, body: Mapping[str, Any]) -> None:
    """BadRequest for the name of another model; no name is this one's."""
    name = body.get("model")
    if name not in (None, served.name):
        raise BadRequest(
            f"the model {name!r:.80} does not exist; this is {served.name!r}",
            param="model",
            status=404,
            code="model_not_found",
        )


async def _read_body(request: Request) -> bytes:
    """The body, at most LARGEST bytes of it; a longer one is refused before it has been read."""
    too_large = BadRequest(
        f"the body has more than {LARGEST} bytes", status=413, code="request_too_large"
    )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > LARGEST:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(SLOW):
            async for part in request.stream():
                body += part
                if len(body) > LARGEST:
                    raise too_large
    except TimeoutError as error:
        raise BadRequest(f"no whole request within {SLOW:g} s", status=408) from error
    return bytes(body)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Any]) -> Any:
    """The result of `work`, or None: it is cancelled when the client goes away."""
    doing, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({doing, gone}, return_when=asyncio.FIRST_COMPLETED)
        return await doing if doing.done() else None
    finally:
        doing.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _refuse(request: Request, error: Exception) -> Response:
    """Any error in OpenAI's shape."""
    if isinstance(error, BadRequest):
        return _error(error)
    if isinstance(error, HTTPException):
        return _error(BadRequest(f"{request.url.path}: {error.detail}", status=error.status_code))
    return _error(BadRequest("the server failed; its log has the reason", status=500))


def _error(error: BadRequest) -> Response:
    # The rest of a body that is refused stays unread.
    headers = {"Connection": "close"} if error.status in (408, 413) else None
    return JSONResponse(replies.error_body(error), status_code=error.status, headers=headers)
