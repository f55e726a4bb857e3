"""A tiny model and files for the commands."""

import json

import pytest
from random_params import random_params
from tiny_folder import write_folder

from rlhf_jax.hf import load_model, save_model
from rlhf_jax.models import make_transformer


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def mixing(tmp_path_factory, model):
    """The model with random weights throughout: at first its attention adds nothing, and the
    vector of an answer is that of its last token."""
    folder, base = tmp_path_factory.mktemp("mixing") / "model", load_model(model)
    save_model(folder, base._replace(params=random_params(make_transformer(base.config).init)))
    return folder


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Pairs, texts and prompts."""
    folder = tmp_path_factory.mktemp("files")
    pairs = [{"prompt": f"{i}?", "chosen": f"a{i % 3}", "rejected": "b"} for i in range(12)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    (folder / "text.txt").write_text("\n\n".join(f"story {i}" for i in range(8)))
    (folder / "prompts.txt").write_text("\n".join(f"{i} " for i in range(6)))
    return folder
