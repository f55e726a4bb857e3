"""`rlhf preference --loss NAME` from a folder to a folder."""

import json

import jax
import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.hf import load_model
from rlhf_jax.training import read_metrics


@pytest.mark.long
@pytest.mark.parametrize(
    ("loss", "reference"), [("ipo", True), ("simpo", False), ("orpo", False), ("cpo", False)]
)
def test_a_loss_of_pairs_trains_a_model(tmp_path, model, files, loss, reference):
    out = tmp_path / loss
    words = ["preference", "--loss", loss, "--model", model, "--data", files / "pairs.jsonl"]
    words += ["--out", out, "--steps", "2", "--batch-size", "8", "--heldout", "0.25"]
    assert main([*map(str, words)]) == 0
    # Log-probs of the start are computed for a loss that reads them, and for no other.
    assert (out / "stages" / "reference").exists() == reference
    losses = [row["loss"] for row in read_metrics(out) if row["stage"] == "preference"]
    assert np.isfinite(losses).all()
    if loss == "ipo":  # (0 - 1 / (2 beta))^2 with beta = 0.1, where the policy is the reference
        assert losses[0] == pytest.approx(25.0, rel=1e-5)
    numbers = json.loads((out / "summary.json").read_text())["numbers"]
    assert 0 <= numbers["accuracy"]["after"][0] <= 1
    start, end = (jax.tree.leaves(load_model(each).params) for each in (model, out / "model"))
    assert any((a != b).any() for a, b in zip(start, end, strict=True))
