"""The page and its requests over HTTP: who may ask, how much, and for how long.

A page elsewhere in the same browser must neither read items nor send judgements: the Host of every
request is checked (a name that was pointed at this machine is refused), and a POST must be JSON
from the page's own origin. Beyond loopback a token is needed; the first link sets it as a cookie.
"""

import hashlib
import hmac
import ipaddress
import json
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from threading import BoundedSemaphore, Timer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

from rlhf_jax.labelling.rows import BadLabel
from rlhf_jax.labelling.session import LabelSession, describe_task, judge, show_next, undo

MOST_BYTES = 1 << 20  # of a request
SECONDS = 30  # of a connection
MOST_CONNECTIONS = 64
LOOPBACK = ("127.0.0.1", "localhost", "::1")
FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
ACTIONS: dict[str, Callable[[LabelSession, dict[str, Any]], dict[str, Any]]] = {
    "/task": describe_task,
    "/next": show_next,
    "/judge": judge,
    "/undo": undo,
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Access(NamedTuple):
    """Where the page is, and the token that it needs ("" for none, on loopback only)."""

    host: str
    port: int
    token: str = ""


class Request(NamedTuple):
    """Path and query, headers by their names in small letters, and the body."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""


class Reply(NamedTuple):
    """What goes back, besides HEADERS."""

    status: HTTPStatus
    body: bytes = b""
    kind: str = "application/json"
    headers: Mapping[str, str] = {}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reply(session: LabelSession, access: Access, request: Request) -> Reply:
    """The answer to a request; what is wrong with it is one line of text."""
    try:
        refusal, path = _refused(access, request), urlsplit(request.target).path
    except ValueError:
        return _fault(HTTPStatus.BAD_REQUEST, "not an address")
    if refusal is not None:
        return refusal
    if request.method == "GET" and path in FILES:
        name, kind = FILES[path]
        return Reply(HTTPStatus.OK, Path(__file__).with_name(name).read_bytes(), kind)
    if request.method != "POST" or path not in ACTIONS:
        return _fault(HTTPStatus.NOT_FOUND, "no such page")
    try:
        found = ACTIONS[path](session, _message(request.body))
    except BadLabel as error:
        return _fault(HTTPStatus.BAD_REQUEST, str(error))
    except OSError as error:
        return _fault(HTTPStatus.INSUFFICIENT_STORAGE, f"not saved: {error.strerror}")
    return Reply(HTTPStatus.OK, json.dumps(found).encode())


def _refused(access: Access, request: Request) -> Reply | None:
    """The reply to a request that may not be answered."""
    host = urlsplit(f"//{request.headers.get('host', '')}")
    if not access.token and host.hostname not in (*LOOPBACK, access.host):
        return _fault(HTTPStatus.FORBIDDEN, "this page is at another address")
    if access.token and not _has_token(access, request):
        return _with_cookie(access, request)
    if request.method == "POST":
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host.netloc:
            return _fault(HTTPStatus.FORBIDDEN, "a judgement from another page")
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return _fault(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected JSON")
    return None


def _has_token(access: Access, request: Request) -> bool:
    try:
        held = SimpleCookie(request.headers.get("cookie", "")).get(_cookie_name(access))
    except CookieError:
        return False
    return held is not None and _same(held.value, access.token)


def _cookie_name(access: Access) -> str:
    """Another for each token: a browser sends cookies to every port of a machine."""
    return f"rlhf_label_{hashlib.sha256(access.token.encode()).hexdigest()[:8]}"


def _same(given: str, token: str) -> bool:
    """Equal, in a time that does not tell how much of it is."""
    return hmac.compare_digest(given.encode(), token.encode())


def _with_cookie(access: Access, request: Request) -> Reply:
    """The link with the token leads to the page, and the token out of the address bar."""
    parts = urlsplit(request.target)
    query = parse_qs(parts.query)
    (given, *_) = query.pop("token", [""])
    if parts.path != "/" or not _same(given, access.token):
        return _fault(HTTPStatus.UNAUTHORIZED, "open the link that rlhf label printed")
    cookie = f"{_cookie_name(access)}={access.token}; HttpOnly; SameSite=Strict; Path=/"
    place = f"/?{urlencode(query, doseq=True)}"
    return Reply(HTTPStatus.SEE_OTHER, headers={"Location": place, "Set-Cookie": cookie})


def _message(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise BadLabel("expected a JSON object") from error
    if not isinstance(found, dict):
        raise BadLabel("expected a JSON object")
    return found


def _fault(status: HTTPStatus, reason: str) -> Reply:
    return Reply(status, json.dumps({"error": reason}).encode())


def open_server(session: LabelSession, access: Access) -> ThreadingTCPServer:
    """The server, listening; `serve_forever` answers. Port 0 takes a free one: `server_address`.

    Raises:
      ValueError: an address beyond loopback without a token, or one that cannot be had.
    """
    if not access.token and not is_loopback(access.host):
        raise ValueError(f"{access.host} can be reached from other machines: it needs a token")
    try:
        return _Server(access, lambda request: reply(session, access, request))
    except OSError as error:
        where = f"{access.host}:{access.port}"
        raise ValueError(
            f"cannot listen at {where} ({error.strerror}); --port 0 takes a free one"
        ) from error


class _Server(ThreadingTCPServer):
    """A thread for each connection, of a number and for a time that are bounded."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, access: Access, respond: Callable[[Request], Reply]):
        self.address_family = socket.AF_INET6 if ":" in access.host else socket.AF_INET
        self.respond = respond
        self.free = BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__((access.host, access.port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        late = Timer(SECONDS, _hang_up, [request])
        late.daemon = True
        late.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            late.cancel()
            self.free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _hang_up(request: socket.socket) -> None:
    with suppress(OSError):  # closed already
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """One request a connection."""

    timeout = SECONDS
    server_version, sys_version = "rlhf", ""

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            self._send(_fault(HTTPStatus.LENGTH_REQUIRED, "expected a Content-Length"))
        elif len(length) > 9 or int(length) > MOST_BYTES:
            reason = f"at most {MOST_BYTES} bytes"
            self._send(_fault(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason))
        else:
            self._answer(self.rfile.read(int(length)))

    def _answer(self, body: bytes) -> None:
        server: Any = self.server  # a _Server
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._send(server.respond(Request(self.command, self.path, headers, body)))

    def _send(self, found: Reply) -> None:
        self.send_response(found.status)
        headers = {"Content-Type": found.kind, "Content-Length": str(len(found.body))}
        for name, value in (HEADERS | headers | dict(found.headers)).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(found.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal: requests have names and tokens in them."""
