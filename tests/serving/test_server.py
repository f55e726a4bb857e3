"""The server as its clients see it: the `openai` client, raw sockets, limits and the token."""

import asyncio
import json
import socket

import pytest

pytest.importorskip("uvicorn")
openai = pytest.importorskip("openai")
from tiny_server import eventually, ids_of, post, served  # noqa: E402

from rlhf_jax.serving import app  # noqa: E402

USER = [{"role": "user", "content": "hi"}]
PROMPT = "Once"
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def server():
    with served() as found:
        yield found


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(
        base_url=f"http://{server[0]}/v1", api_key="none", max_retries=0, timeout=300
    ) as found:
        yield found


@pytest.fixture(scope="module")
def greedy(client):
    """A completion with everything that can be said about its tokens."""
    return client.completions.create(
        model="tiny",
        prompt=PROMPT,
        max_tokens=12,
        temperature=0,
        logprobs=2,
        echo=True,
        extra_body={"return_token_ids": True},
    )


def test_a_completion_says_its_tokens_logprobs_and_usage(greedy):
    (choice,) = greedy.choices
    ids, logprobs = choice.token_ids, choice.logprobs
    assert ids[:5] == choice.prompt_token_ids == [*ids_of(PROMPT)]
    assert choice.text.startswith(PROMPT)
    assert logprobs.tokens[:5] == ["<bos>", *PROMPT]
    assert logprobs.text_offset[:6] == [0, 0, 1, 2, 3, 4]
    assert logprobs.token_logprobs[0] is logprobs.top_logprobs[0] is None
    for logp, top in zip(logprobs.token_logprobs[5:], logprobs.top_logprobs[5:], strict=True):
        assert logp == max(top.values())
    drawn = len(ids) - 5
    assert choice.finish_reason == ("stop" if ids[-1] == 2 else "length")
    usage = greedy.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (
        5,
        drawn,
        5 + drawn,
    )


def test_a_prompt_is_scored_without_an_answer(client, greedy):
    ids = greedy.choices[0].token_ids
    found = client.completions.create(
        model="tiny", prompt=[ids, ids[:3]], max_tokens=0, echo=True, logprobs=1
    )
    for choice, length in zip(found.choices, (len(ids), 3), strict=True):
        known = greedy.choices[0].logprobs.token_logprobs[1:length]
        assert choice.logprobs.token_logprobs[1:] == pytest.approx(known, abs=1e-5)
    assert (found.usage.completion_tokens, found.choices[0].finish_reason) == (0, "length")


def test_a_stream_has_the_parts_of_the_answer(client, greedy):
    body = {"model": "tiny", "prompt": PROMPT, "max_tokens": 12, "temperature": 0, "logprobs": 2}
    chunks = list(
        client.completions.create(**body, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(chunk.choices[0].text for chunk in chunks[:-1])
    assert PROMPT + text == greedy.choices[0].text
    tokens = [token for chunk in chunks[:-1] for token in chunk.choices[0].logprobs.tokens]
    assert tokens == greedy.choices[0].logprobs.tokens[5:]
    assert chunks[-1].usage == greedy.usage
    assert [bool(chunk.choices[0].finish_reason) for chunk in chunks[:-1]][-2:] == [False, True]


def test_samples_differ_and_a_seed_repeats_them(client):
    body = {"model": "tiny", "prompt": ["a", "b"], "max_tokens": 10, "n": 2, "seed": 5}
    first, again = (client.completions.create(**body) for _ in range(2))
    texts = [choice.text for choice in first.choices]
    assert [choice.index for choice in first.choices] == [0, 1, 2, 3]
    assert texts == [choice.text for choice in again.choices]
    assert len(set(texts)) == 4


def test_a_stop_string_ends_an_answer(client, greedy):
    answer = greedy.choices[0].text[len(PROMPT) :]
    body = {"model": "tiny", "prompt": PROMPT, "max_tokens": 12, "temperature": 0}
    found = client.completions.create(**body, stop=[answer[2:4], "never"])
    assert found.choices[0].text == answer[: answer.index(answer[2:4])]
    assert found.choices[0].finish_reason == "stop"


def test_a_chat_is_answered_whole_and_in_parts(client):
    body = {"model": "tiny", "messages": USER, "max_tokens": 10, "temperature": 0}
    found = client.chat.completions.create(**body, logprobs=True, top_logprobs=3)
    message, (first, *_) = found.choices[0].message, found.choices[0].logprobs.content
    assert message.role == "assistant"
    assert found.usage.prompt_tokens == len("user: hi\nassistant: ")
    assert bytes(first.bytes).decode() == first.token
    assert first.top_logprobs[0].logprob == first.logprob
    chunks = list(client.chat.completions.create(**body, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == message.content
    assert chunks[-1].choices[0].finish_reason == found.choices[0].finish_reason


def test_the_model_is_listed_and_another_does_not_exist(client):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError, match="this is 'tiny'"):
        client.completions.create(model="gpt-4", prompt="a")


def test_errors_have_the_shape_of_openai(client, server):
    with pytest.raises(openai.BadRequestError, match="maximum context length") as found:
        client.completions.create(model="tiny", prompt="a" * 300)
    assert (found.value.code, found.value.param) == ("context_length_exceeded", "prompt")
    for path, body, status in (
        ("/v1/completions", b"{", 400),
        ("/nothing", {}, 404),
        ("/v1/models", {}, 405),
    ):
        found = post(server[0], path, body)
        assert found[0] == status
        assert found[1]["error"]["type"] == "invalid_request_error"


def test_answers_are_scored_by_the_reward_model(server):
    body = {"prompts": ["abc", "a"], "answers": ["a", "abc"]}
    assert post(server[0], "/v1/reward", body)[1]["scores"] == [2.0, -2.0]
    for path in ("/score", "/v1/score"):
        found = post(server[0], path, {"text_1": "abc", "text_2": ["a", "ab"]})[1]
        assert [each["score"] for each in found["data"]] == [2.0, 1.0]
    status, found = post(server[0], "/v1/reward", {"prompts": ["a", "b"], "answers": ["a"] * 3})
    assert (status, found["error"]["param"]) == (400, "answers")


def connected(server):
    host, port = server[0].split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def head(length, path="/v1/completions"):
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()


def answer_of(connection):
    """(status, JSON) of what a raw connection receives until it is closed."""
    received = b""
    while part := connection.recv(1 << 16):
        received += part
    first, _, body = received.partition(b"\r\n\r\n")
    return int(first.split()[1]), json.loads(body)


def test_100_megabytes_are_refused_before_they_are_read(server, client):
    with connected(server) as connection:
        connection.sendall(head(100 << 20) + b'{"prompt": "')
        status, found = answer_of(connection)
    assert (status, found["error"]["code"]) == (413, "request_too_large")
    # Without a length, in parts.
    with connected(server) as connection:
        start = head(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        connection.sendall(start)
        part = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
        try:
            for _ in range(100):
                connection.sendall(part)
        except ConnectionError:
            pass
        else:
            raise AssertionError("all of it was read")
    with pytest.raises(openai.APIStatusError, match="more than 16777216 bytes") as refused:
        client.completions.create(model="tiny", prompt="x" * (100 << 20))
    assert refused.value.status_code == 413


def test_a_slow_client_holds_up_nobody_and_is_told(server, client, monkeypatch):
    with connected(server) as slow:
        slow.sendall(head(100) + b'{"prompt"')
        assert client.completions.create(model="tiny", prompt="a", max_tokens=1).choices
    monkeypatch.setattr(app, "SLOW", 0.2)
    with connected(server) as slow:
        slow.sendall(head(100) + b'{"prompt"')
        status, found = answer_of(slow)
    assert status == 408
    assert "no whole request within 0.2 s" in found["error"]["message"]


def test_a_reply_that_nobody_takes_is_dropped(server, monkeypatch):
    """Its `send` never returns, as of a client that reads nothing."""
    monkeypatch.setattr(app, "SLOW", 0.2)
    engine = server[1].engine
    body = json.dumps({"prompt": "a", "max_tokens": 150, "stream": True, "n": 3}).encode()
    scope: dict[str, object] = {"type": "http", "method": "POST", "path": "/v1/completions"}
    scope |= {"query_string": b"", "asgi": {"version": "3.0"}}
    scope |= {"headers": [(b"host", b"[::1]:80")]}

    async def run():
        async def receive():
            if sent:
                await asyncio.Event().wait()
            sent.append(body)
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            if message["type"] != "http.response.start":
                await asyncio.Event().wait()

        sent = []
        await app.make_app(server[1])(scope, receive, send)

    asyncio.run(asyncio.wait_for(run(), 60))
    eventually(lambda: not engine.held)


def test_a_client_that_goes_away_frees_its_rows(server):
    engine = server[1].engine
    for stream in (True, False):
        body = json.dumps({"prompt": "a", "max_tokens": 190, "n": 40, "stream": stream}).encode()
        with connected(server) as connection:
            connection.sendall(head(len(body)) + body)
            eventually(lambda: engine.waiting)
        eventually(lambda: not engine.waiting and not engine.held)


def test_a_full_queue_is_told(client, monkeypatch):
    monkeypatch.setattr(app, "WAITING", 3)
    with pytest.raises(openai.RateLimitError, match="more than 3 answers wait"):
        client.completions.create(model="tiny", prompt="a", n=4)


def test_a_batch_that_fails_ends_its_answers_and_not_the_server(client, server, monkeypatch):
    engine = server[1].engine
    broken = engine.programs._replace(prefill=lambda *given: 1 / 0)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "programs", broken)
        with pytest.raises(openai.InternalServerError, match="division by zero"):
            client.completions.create(model="tiny", prompt="a")
    assert client.completions.create(model="tiny", prompt="a", max_tokens=1).choices


def test_without_the_token_nothing_is_answered():
    with served(engine=None, token="secret") as (address, _):
        body = {"prompts": ["ab"], "answers": ["a"]}
        for shown in ({}, {"Authorization": "Bearer secre"}, {"Authorization": "secret"}):
            status, found = post(address, "/v1/reward", body, **shown)
            assert (status, found["error"]["code"]) == (401, "invalid_api_key")
        status, found = post(address, "/v1/reward", body, Authorization="Bearer secret")
        assert (status, found["scores"]) == (200, [1.0])
        # A server without a language model completes nothing.
        assert post(address, "/v1/completions", {}, Authorization="Bearer secret")[0] == 404


def test_without_a_token_a_foreign_name_is_refused(server):
    body = {"prompts": ["ab"], "answers": ["a"]}
    status, found = post(server[0], "/v1/reward", body, Host="evil.example:80")
    assert status == 403
    assert "not at 'evil.example'" in found["error"]["message"]
    assert post(server[0], "/v1/reward", body, Host="localhost:80")[0] == 200
