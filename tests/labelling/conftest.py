"""Three questions with two answers each, and a session on them."""

import json
from contextlib import ExitStack

import pytest

from rlhf_jax.labelling import LabelSession, Task, open_labels, read_items

ROWS = [
    {"prompt": f"{i}+{i}?", "answers": [f"It is {2 * i}.", f"It is {i}."], "models": ["x", "y"]}
    for i in range(1, 4)
]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def data(tmp_path):
    return write_rows(tmp_path / "data.jsonl", ROWS)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "labels.jsonl"


@pytest.fixture
def start(data, out):
    """`start("spans")`: a session of this kind; again after `close()`, as after a restart."""
    with ExitStack() as stack:

        def begin(kind="pairs", **settings):
            stack.close()
            labels = stack.enter_context(open_labels(out, kind))
            return LabelSession(Task(kind, **settings), read_items(data, kind), labels)

        yield begin
