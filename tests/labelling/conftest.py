"""Three questions with two answers each, and a session on them."""

from contextlib import ExitStack

import pytest
from labelled_rows import ROWS, write_rows

from rlhf_jax.labelling import LabelSession, LabelTask, open_labels, read_items


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
            return LabelSession(LabelTask(kind, **settings), read_items(data, kind).by_key, labels)

        yield begin
