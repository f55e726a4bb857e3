"""Rows to judge, and a running server."""

import json
from contextlib import contextmanager
from threading import Thread

from rlhf_jax.labelling import Access, open_server

ROWS = [
    {"prompt": f"{i}+{i}?", "answers": [f"It is {2 * i}.", f"It is {i}."], "models": ["x", "y"]}
    for i in range(1, 4)
]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@contextmanager
def serving(session):
    """The address of a running server."""
    with open_server(session, Access("127.0.0.1", 0)) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address
        finally:
            server.shutdown()
            thread.join()
