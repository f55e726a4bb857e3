"""Commands on meshes: whatever eight devices split, the losses are those of the default mesh."""

import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.training import read_metrics

REWARDS = """
def letters(prompts, answers):
    return [float(answer.count("a") + 0.1 * len(answer)) for answer in answers]
"""
MESHES = (None, "data=8", "data=2,fsdp=2,sequence=2")


def losses(out, words):
    assert main([str(word) for word in (*words, "--out", out)]) == 0
    return [row["loss"] for row in read_metrics(out) if "loss" in row]


@pytest.mark.long
@pytest.mark.parametrize("command", ["dpo", "grpo"])
def test_every_mesh_trains_alike(tmp_path, model, files, command, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mesh_rewards.py").write_text(REWARDS)
    rows = ("--data", files / "pairs.jsonl", "--heldout", 0.3)
    if command == "grpo":
        rows = ("--prompts", files / "prompts.txt", "--reward", "mesh_rewards:letters")
        rows = (*rows, "--samples", 2, "--answer-length", 3, "--completions-every", 1)
    words = (command, "--model", model, *rows, "--batch-size", 8, "--learning-rate", 0.01)
    found = []
    for i, mesh in enumerate(MESHES):
        options = () if mesh is None else ("--mesh", mesh)
        found.append(losses(tmp_path / str(i), (*words, "--steps", 2, *options)))
    assert len(found[0]) == 2
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-4, atol=1e-5)
