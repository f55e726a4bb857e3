"""The server around the application: a socket, uvicorn, and how it stops."""

import socket

import uvicorn

from rlhf_jax.serving.app import make_app
from rlhf_jax.serving.served import Served

BACKLOG = 2048  # connections that wait to be accepted
PATIENCE = 3  # seconds that replies have to end in when the server stops


def listen(host: str, port: int) -> socket.socket:
    """A socket that accepts connections; port 0 takes a free one.

    Raises:
      ValueError: the address or the port cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ValueError(f"cannot listen at {host} port {port}: {error.strerror}") from error


def url_of(listening: socket.socket) -> str:
    """Where clients find it."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(served: Served) -> uvicorn.Server:
    """A server that runs until `should_exit` is set or a signal comes."""
    config = uvicorn.Config(
        make_app(served),
        http="h11",
        interface="asgi3",
        loop="asyncio",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=PATIENCE,
    )
    return uvicorn.Server(config)


def run_server(server: uvicorn.Server, listening: socket.socket) -> None:
    """Serves; Ctrl-C is how it ends."""
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        print("stopped")
