"""`rlhf pro` and `rlhf ranking --loss NAME` from a folder to a folder, and what they refuse."""

import json
from pathlib import Path

import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.options import Model, Output, Rows
from rlhf_jax.cli.rankings import RANKING_LOSSES, Ranking, named_ranking_loss, scored_records
from rlhf_jax.hf import load_model
from rlhf_jax.ops.logprobs import mean_logps
from rlhf_jax.training import UserError, read_metrics


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
    """Rankings of 2, 3 and 4 answers with ties among them, and one of a single answer."""
    path = tmp_path_factory.mktemp("ranked") / "ranked.jsonl"
    rows = [
        {
            "prompt": f"{i}?",
            "answers": ["a" * (j + 1) for j in range(2 + i % 3)],
            "scores": [float(max(j, 1)) if i % 3 else float(j) for j in range(2 + i % 3)],
        }
        for i in range(12)
    ]
    rows.append({"prompt": "one?", "answers": ["a"], "scores": [1.0]})
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "reference"),
    [(["pro"], False), (["ranking", "--loss", "pl-dpo"], True)],
    ids=["pro", "pl-dpo"],
)
def test_rankings_of_any_length_train_a_model(tmp_path, model, ranked, capsys, words, reference):
    out = tmp_path / "out"
    words = [*words, "--model", model, "--data", ranked, "--out", out, "--longest", "3"]
    words += ["--steps", "2", "--batch-size", "8", "--heldout", "0.25"]
    assert main([*map(str, words)]) == 0
    printed = capsys.readouterr().out
    assert "1 rankings of one answer" in printed
    assert "4 of 2 answers, 8 of 3 answers; 8 answers tie with a better one" in printed
    assert (out / "stages" / "reference").exists() == reference
    rows = [row for row in read_metrics(out) if "rankings/ties" in row]
    assert np.isfinite([row["loss"] for row in rows]).all()
    assert rows[0]["rankings/decided"] <= 1.0
    assert 2 <= rows[0]["rankings/length"] <= 3
    numbers = json.loads((out / "summary.json").read_text())["numbers"]
    assert 0 <= numbers["pairs in order"]["after"][0] <= 1
    assert 0 <= numbers["best on top"]["after"][0] <= 1
    load_model(out / "model")


def test_every_named_loss_has_its_settings():
    found = {name: named_ranking_loss(name, {}) for name in RANKING_LOSSES}
    assert {name: loss.reads for name, loss in found.items()} == {
        "pro": ("scores",),
        "plackett_luce": (),
        "rrhf": ("scores",),
        "pl_dpo": ("ref_logps",),
        "lipo": ("ref_logps", "scores"),
        "lire": ("scores",),
    }
    means = {name for name, loss in found.items() if loss.logps is mean_logps}
    assert means == {"pro", "plackett_luce", "rrhf"}
    assert found["pro"].sft_weight == 0.05
    assert named_ranking_loss("pro", {"sft_weight": 0.0}).sft_weight == 0.0


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("por", {}, "--loss por is not a loss of rankings.*pro"),
        ("pro", {"beta": 0.1}, "--loss pro has no setting beta; it has sft_weight 0.05"),
        ("pro", {"sft_weight": -1.0}, r"--loss-options: sft_weight must be in \[0, inf\)"),
        ("lipo", {"beta": 0.0}, r"--loss-options: beta must be in \(0, inf\)"),
    ],
)
def test_what_no_loss_can_use_is_named(name, settings, message):
    with pytest.raises(UserError, match=message):
        named_ranking_loss(name, settings)


def test_a_ranking_of_one_is_refused_as_an_option():
    here = Path()
    parts = {"model": Model(model=here), "rows": Rows(data=here), "output": Output(out=here)}
    with pytest.raises(ValueError, match=r"longest must be in \[2, inf\)"):
        Ranking(**parts, longest=1)


def test_scores_are_read_as_the_option_says():
    records = [{"scores": [3.0, 0.0]}, {"scores": [1.0, -1.0]}]
    assert scored_records(records, "range")[1] == (-1.0, 3.0)
    assert scored_records(records, "raw") == (records, None)
    rows, scale = scored_records(records, "sigmoid")
    assert scale is None
    np.testing.assert_allclose(rows[1]["scores"], 1 / (1 + np.exp([-1.0, 1.0])))
