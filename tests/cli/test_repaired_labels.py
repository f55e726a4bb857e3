"""`rlhf reward --repair`: columns by kind, a vote that finds turned labels, and the command."""

import json

import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.recipes.repair import repaired_columns

STRENGTHS = np.array([0.5, -1.0, 2.0, -0.1, 1.0])
OPTIONS = {"share": 0.2, "label_smoothing": 0.3}


@pytest.mark.parametrize(
    ("kind", "prefs", "margin", "weights"),
    [
        ("margin", [1, 1, 1, 1, 1], True, [1] * 5),
        ("soft", [1, 0.7, 1, 0.7, 1], False, [1] * 5),
        ("soft-margin", [1, 0.7, 1, 0.7, 1], True, [1] * 5),
        ("flip", [1, 0, 1, 1, 1], False, [1] * 5),
        ("flip-margin", [1, 0, 1, 1, 1], True, [1] * 5),
        ("drop", [1, 1, 1, 1, 1], False, [1, 0, 1, 1, 1]),
    ],
)
def test_columns_by_kind(kind, prefs, margin, weights):
    found = repaired_columns(STRENGTHS, kind, **OPTIONS)
    np.testing.assert_allclose(found["prefs"], prefs, rtol=1e-6)
    np.testing.assert_allclose(found["gaps"], STRENGTHS if margin else 0.0, rtol=1e-6)
    np.testing.assert_array_equal(found["weights"], weights)


@pytest.mark.long
def test_flipped_labels_are_learnt_the_right_way_round(tmp_path, model, capsys):
    """The good answer is "a"; a fifth of the training rows say "b"."""
    rows = [{"prompt": f"{i}?", "chosen": "a", "rejected": "b"} for i in range(40)]
    for row in rows[::5]:
        row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
    held = [{"prompt": f"{i}!", "chosen": "a", "rejected": "b"} for i in range(8)]
    for name, part in (("train", rows), ("held", held)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, part)))
    words = ("reward", "--model", model, "--data", tmp_path / "train.jsonl", "--batch-size", 8)
    words += ("--heldout-data", tmp_path / "held.jsonl", "--learning-rate", "0.03", "--epochs", 4)
    words += ("--repair", "flip", "--voters", 2, "--out", tmp_path / "out")
    assert main([str(word) for word in words]) == 0
    assert "20.0% of the pairs have negative strength" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "summary.json").read_text())["numbers"]
    assert found["accuracy"]["after"][0] == 1.0


def test_repair_needs_pairs_and_a_whole_model(tmp_path, model, capsys):
    words = ["reward", "--model", model, "--data", "x", "--out", tmp_path / "o", "--repair", "flip"]
    for more in (["--kind", "process"], ["--lora-rank", "2"]):
        assert main([str(word) for word in words + more]) == 2
        assert "--repair is for --kind outcome without --lora-rank" in capsys.readouterr().err
