"""Who may ask, how much, and for how long: requests as the page and as others send them."""

import http.client
import json
import re
import socket
from http import HTTPStatus
from pathlib import Path

import pytest
from labelled_rows import serving

from rlhf_jax import labelling
from rlhf_jax.labelling import Access, is_loopback, open_server
from rlhf_jax.labelling.server import HEADERS, MOST_BYTES, Request, reply

HERE = Access("127.0.0.1", 8765)
THERE = Access("0.0.0.0", 8765, token="secret")
JSON = {"host": "127.0.0.1:8765", "content-type": "application/json"}
ASK = b'{"annotator": "ann"}'
PAGES = Path(labelling.__file__).parent


def status(session, access=HERE, method="POST", target="/next", body=ASK, **headers):
    given = JSON | {name.replace("_", "-"): value for name, value in headers.items()}
    return reply(session, access, Request(method, target, given, body)).status


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, HTTPStatus.OK),
        ({"host": "localhost:9000"}, HTTPStatus.OK),  # through a tunnel
        ({"host": "[::1]:8765"}, HTTPStatus.OK),
        ({"host": "evil.example:8765"}, HTTPStatus.FORBIDDEN),  # a name pointed at this machine
        ({"host": ""}, HTTPStatus.FORBIDDEN),
        ({"host": "[::1"}, HTTPStatus.BAD_REQUEST),
        ({"origin": "http://127.0.0.1:8765"}, HTTPStatus.OK),
        ({"origin": "http://evil.example"}, HTTPStatus.FORBIDDEN),
        ({"origin": "http://127.0.0.1:1234"}, HTTPStatus.FORBIDDEN),
        ({"origin": "null"}, HTTPStatus.FORBIDDEN),
        ({"content_type": "text/plain"}, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),  # as a form can send
        ({"content_type": "application/json; charset=utf-8"}, HTTPStatus.OK),
    ],
)
def test_only_the_page_of_this_address_is_answered(start, headers, wanted):
    assert status(start(), **headers) == wanted


def test_reading_needs_the_right_host_too(start):
    session = start()
    assert status(session, method="GET", target="/", body=b"") == HTTPStatus.OK
    wrong = {"method": "GET", "target": "/", "body": b"", "host": "evil.example"}
    assert status(session, **wrong) == HTTPStatus.FORBIDDEN
    for target in ("/next", "/../pyproject.toml", "/page.py", "//", "/page.html"):
        wanted = status(session, method="GET", target=target, body=b"")
        assert wanted == HTTPStatus.NOT_FOUND, target
    assert status(session, target="/") == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(start, body):
    assert status(start(), body=body) == HTTPStatus.BAD_REQUEST


def test_beyond_this_machine_a_token_is_needed(start):
    session = start()
    assert status(session, THERE) == HTTPStatus.UNAUTHORIZED
    assert status(session, THERE, cookie='a="\x80; b') == HTTPStatus.UNAUTHORIZED
    for target in ("/", "/?token=", "/?token=secrets", "/page.js?token=secret"):
        wanted = status(session, THERE, method="GET", target=target, body=b"")
        assert wanted == HTTPStatus.UNAUTHORIZED, target
    link = Request("GET", "/?token=secret&annotator=ann", {"host": "10.0.0.5:8765"})
    found = reply(session, THERE, link)
    assert (found.status, found.headers["Location"]) == (HTTPStatus.SEE_OTHER, "/?annotator=ann")
    cookie, *attributes = found.headers["Set-Cookie"].split("; ")
    assert attributes == ["HttpOnly", "SameSite=Strict", "Path=/"]
    assert status(session, THERE, cookie=cookie, host="10.0.0.5:8765") == HTTPStatus.OK
    assert status(session, THERE, cookie=cookie + "x") == HTTPStatus.UNAUTHORIZED
    with pytest.raises(ValueError, match="needs a token"):
        open_server(session, Access("0.0.0.0", 0))
    assert [is_loopback(host) for host in ("localhost", "127.0.0.9", "::1")] == [True] * 3
    assert [is_loopback(host) for host in ("0.0.0.0", "10.0.0.5", "a.example", "")] == [False] * 4


def test_a_judgement_that_cannot_be_saved_is_an_error_of_the_page(start, out):
    session = start()
    message = {"annotator": "ann", "key": next(iter(session.items)), "choice": "tie"}
    out.unlink()
    found = reply(session, HERE, Request("POST", "/judge", JSON, json.dumps(message).encode()))
    assert found.status == HTTPStatus.INSUFFICIENT_STORAGE
    assert json.loads(found.body)["error"].startswith("not saved: ")
    assert session.labels.rows == []


def test_the_page_asks_nobody_else_and_makes_no_markup_of_texts():
    texts = {path.suffix: path.read_text() for path in PAGES.glob("page.*")}
    assert texts.keys() == {".html", ".css", ".js"}
    for text in texts.values():
        assert not re.search(r"https?://|@import|url\(", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval", texts[".js"])
    assert not re.search(r"<script>|<style| on\w+=| style=", texts[".html"])
    assert "default-src 'none'" in HEADERS["Content-Security-Policy"]
    for name in re.findall(r'\$\("([a-z]+)"\)', texts[".js"]):
        assert f'id="{name}"' in texts[".html"] or f'id: "{name}"' in texts[".js"], name


def send(address, method, target, body=None, headers=None):
    connection = http.client.HTTPConnection(*address, timeout=10)
    try:
        connection.request(method, target, body, headers or {})
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()
    finally:
        connection.close()


def test_the_page_and_a_judgement_over_the_wire_with_slow_clients_beside(start, out):
    session, kind = start(), {"Content-Type": "application/json"}
    with serving(session) as address, socket.create_connection(address) as slow:
        slow.sendall(b"POST /next HTTP/1.1\r\nContent-Length: 9\r\n\r\n")  # and no more
        code, headers, page = send(address, "GET", "/")
        assert (code, page) == (200, (PAGES / "page.html").read_bytes())
        assert headers.items() >= HEADERS.items()
        assert send(address, "GET", "/page.js")[1]["Content-Type"].startswith("text/javascript")
        item = json.loads(send(address, "POST", "/next", ASK, kind)[2])["item"]
        body = json.dumps({"annotator": "ann", "key": item["key"], "choice": "left"})
        assert send(address, "POST", "/judge", body, kind)[0] == 200
        assert send(address, "POST", "/judge", body, kind)[0] == 400  # a second time
    assert len(out.read_text().splitlines()) == 1


def test_a_request_that_is_too_large_or_of_no_length_is_refused_unread(start):
    with serving(start()) as address:
        for length, wanted in ((str(MOST_BYTES + 1), 413), ("9" * 30, 413), ("-1", 411), ("", 411)):
            with socket.create_connection(address, timeout=10) as client:
                given = f"Content-Length: {length}\r\n" if length else ""
                client.sendall(f"POST /next HTTP/1.1\r\n{given}\r\n".encode())
                assert client.recv(100).split()[1] == str(wanted).encode(), length
        assert send(address, "DELETE", "/")[0] == 501


def test_an_address_in_use_is_named(start):
    session = start()
    with serving(session) as (host, port), pytest.raises(ValueError, match="--port 0 takes a free"):
        open_server(session, Access(host, port))
