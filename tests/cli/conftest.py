"""A tiny model and files for the commands."""

import json

import pytest
from tiny_folder import write_folder


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Pairs, texts and prompts."""
    folder = tmp_path_factory.mktemp("files")
    pairs = [{"prompt": f"{i}?", "chosen": f"a{i % 3}", "rejected": "b"} for i in range(12)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    (folder / "text.txt").write_text("\n\n".join(f"story {i}" for i in range(8)))
    (folder / "prompts.txt").write_text("\n".join(f"{i} " for i in range(6)))
    return folder
