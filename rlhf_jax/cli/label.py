"""rlhf label: a local page for human feedback."""

import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlhf_jax.checks import check_fields
from rlhf_jax.labelling import (
    Access,
    LabelSession,
    LabelTask,
    agreement,
    is_loopback,
    open_labels,
    open_server,
    read_items,
)
from rlhf_jax.labelling.items import Items
from rlhf_jax.labelling.label_file import LabelFile
from rlhf_jax.training import UserError, reading_input

TOKEN = "RLHF_LABEL_TOKEN"


@dataclass(frozen=True, kw_only=True)
class Label:
    """A page in the browser that asks which answer is better, how good each is, or which parts are.

    Answers are shown blind, in a random order of rows and of sides. A judgement is on disk before
    the next item is shown; the same command goes on where it was stopped.
    """

    data: Path
    """Pairs, rankings, answers, or rows such as {"prompt": "2+2?", "answers": ["4", "5"]}."""
    out: Path
    """File of the judgements, JSON lines, which rlhf dpo, reward and others read; may exist."""
    kind: Literal["pairs", "ratings", "spans"] = "pairs"
    """Which of two answers is better; 1 to 5 for each answer to a prompt; marks in one answer."""
    annotator: str = ""
    """Name in the judgements; by default the page asks for it."""
    criteria: tuple[str, ...] = ("overall",)
    """What ratings are by."""
    categories: tuple[str, ...] = ("facts", "reasoning", "relevance", "style", "safety")
    """What marks are by."""
    seed: int = 0
    """Of both orders."""
    host: str = "127.0.0.1"
    """Address to listen at. Any other than this machine's own needs the token in the link."""
    port: int = 8765
    """0 takes a free one."""
    token: str = ""
    """In the link; or set RLHF_LABEL_TOKEN, which ps does not show. Beyond this machine, a new one
    each time by default."""

    def __post_init__(self) -> None:
        check_fields(self, "[0, 65535]", "port")
        check_fields(self, "[0, 4294967295]", "seed")


def label(command: str, options: Label) -> None:
    """Serves the page until Ctrl-C, then says what there is."""
    task, items = _task(options)
    token = options.token or os.environ.get(TOKEN, "")
    if not token and not is_loopback(options.host):
        token = secrets.token_urlsafe(24)
    access = Access(options.host, options.port, token)
    with reading_input(), open_labels(options.out, options.kind) as labels:
        session = LabelSession(task, items.by_key, labels, options.annotator.strip())
        with open_server(session, access) as server:
            _greet(options, labels, items.note, _link(access, server.server_address[1]))
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print()
        _say_result(labels)


def _task(options: Label) -> tuple[LabelTask, Items]:
    if options.out.exists() and options.data.exists() and options.out.samefile(options.data):
        raise UserError(f"--out {options.out} is the file of --data; choose another")
    with reading_input():
        task = LabelTask(options.kind, options.criteria, options.categories, options.seed)
        return task, read_items(options.data, options.kind)


def _greet(options: Label, labels: LabelFile, note: str, link: str) -> None:
    """What is judged, by whom before, and where the page is."""
    print(f"{options.data}: {note}")
    if labels.torn:
        print(f"{options.out}: half a row at its end was removed")
    _say_counts(labels)
    print(f"open {link}\nCtrl-C stops; every judgement is on disk in {options.out}", flush=True)


def _link(access: Access, port: int) -> str:
    host = socket.gethostname() if access.host in ("0.0.0.0", "::", "") else access.host
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}/" + (f"?token={access.token}" if access.token else "")


def _say_counts(labels: LabelFile) -> None:
    names = [row["judgement"]["annotator"] for row in labels.rows]
    counts = ", ".join(f"{names.count(name)} by {name}" for name in sorted(set(names)))
    print(f"{labels.path}: {len(names)} judgements" + (f", {counts}" if counts else ""))


def _say_result(labels: LabelFile) -> None:
    _say_counts(labels)
    found = agreement(labels.rows)
    if found is not None:
        print(found.note())
