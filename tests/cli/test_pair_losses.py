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
    assert named_loss("cpl-kl", {"bias": 1.0}).reference


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


@pytest.mark.long
def test_the_reference_may_follow_the_policy(tmp_path, model, files):
    """Nothing is computed of the model at the start; at rate 1 each step begins at log 2."""
    words = ["dpo", "--model", model, "--data", files / "pairs.jsonl", "--steps", "3"]
    words += ["--batch-size", "8", "--heldout", "0.25", "--learning-rate", "0.01"]
    found = {}
    for rate in ("0", "1"):
        out = tmp_path / rate
        assert main([*map(str, words), "--reference-rate", rate, "--out", str(out)]) == 0
        assert (out / "stages" / "reference").exists() == (rate == "0")
        found[rate] = [row["loss"] for row in read_metrics(out) if row["stage"] == "dpo"]
    np.testing.assert_allclose(found["1"], np.log(2), rtol=1e-5)
    assert abs(found["0"][-1] - np.log(2)) > 1e-3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--loss", "simpo", "--reference-rate", "0.1"], "--loss simpo has no reference"),
        (["--reference-rate", "1.5"], "--reference-rate must be in [0, 1]"),
        (["--reference-every", "5"], "--reference-every needs --reference-rate"),
    ],
)
def test_a_reference_that_cannot_follow_is_refused(tmp_path, model, files, capsys, words, message):
    usual = [
        "preference",
        "--model",
        model,
        "--data",
        files / "pairs.jsonl",
        "--out",
        tmp_path / "x",
    ]
    assert main([*map(str, usual), *words]) != 0
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
