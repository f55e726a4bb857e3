"""`rlhf preference --loss NAME` from a folder to a folder, for every NAME."""

import inspect
import json

import jax
import numpy as np
import pytest

from experiments.dpo_survey.taxonomy import ROWS
from rlhf_jax import losses
from rlhf_jax.cli import main
from rlhf_jax.cli.losses import PAIR_LOSSES, named_loss
from rlhf_jax.hf import load_model
from rlhf_jax.training import read_metrics

# They take a function too, which a command line has no words for.
WITH_A_FUNCTION = {"f_dpo_loss", "gpo_loss"}


def test_every_loss_of_pairs_in_the_survey_has_a_name():
    """A loss of the taxonomy of dpo_survey whose arrays are all log-probs of two answers."""
    found = {row.function.__name__ for rows in ROWS.values() for row in rows if of_pairs(row)}
    assert len(found) >= 20
    assert found - {f"{name}_loss" for name in PAIR_LOSSES} == WITH_A_FUNCTION


def of_pairs(row):
    arrays = [
        name
        for name, each in inspect.signature(row.function).parameters.items()
        if each.kind is not each.KEYWORD_ONLY and each.default is each.empty
    ]
    sides = ("chosen_", "rejected_", "ref_chosen_", "ref_rejected_")
    named = getattr(losses, row.function.__name__, None) is row.function
    return named and all(name.startswith(sides) and name.endswith("logps") for name in arrays)


def test_what_needs_a_reference_is_read_from_the_signature():
    assert not {"simpo", "orpo", "cpo", "slic", "simper", "alpha_po"} & {
        name for name in PAIR_LOSSES if named_loss(name, {}).reference
    }
    assert named_loss("ipo", {}).reference


@pytest.mark.long
@pytest.mark.parametrize("loss", PAIR_LOSSES)
def test_a_loss_of_pairs_trains_a_model(tmp_path, model, files, loss):
    reference = named_loss(loss, {}).reference
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
