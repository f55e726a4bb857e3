"""`rlhf reward` with repaired labels, a contrastive term, and answers of a policy."""

import json

import numpy as np
import pytest

from rlhf_jax.cli import main
from rlhf_jax.cli.frame import epoch_size
from rlhf_jax.data.buckets import BucketBatches
from rlhf_jax.recipes.meta import MetaRows
from rlhf_jax.recipes.repair import repaired_columns

STRENGTHS = np.array([0.5, -1.0, 2.0, -0.1, 1.0])
OPTIONS = {"share": 0.2, "label_smoothing": 0.3}


@pytest.mark.parametrize(
    ("kind", "prefs", "margin", "weights"),
    [
        ("none", [1, 1, 1, 1, 1], False, [1] * 5),
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


def test_an_epoch_in_buckets_is_all_batches_also_beside_unlabelled_answers():
    # 7 rows in two buckets fill 3 batches of 4, which are 12 rows
    rows = BucketBatches(lambda number: [], lambda batch: batch, 3)
    for each in (rows, MetaRows(rows, [])):
        assert epoch_size(each, 7, batch_size=4) == 12
    assert epoch_size(MetaRows([], []), 7, batch_size=4) == 7


def pairs_file(path, turned):
    """The good answer is "a"; these rows say "b". Written to `path`, which is returned."""
    rows = [{"prompt": f"{i}?", "chosen": "a", "rejected": "b"} for i in range(40)]
    for row in rows[turned]:
        row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def words(tmp_path, model):
    """`rlhf reward` on pairs of which one in five is turned, with clean held-out pairs."""
    held = [{"prompt": f"{i}!", "chosen": "a", "rejected": "b"} for i in range(8)]
    (tmp_path / "held.jsonl").write_text("\n".join(map(json.dumps, held)))
    data = pairs_file(tmp_path / "train.jsonl", slice(0, None, 5))
    found = ("reward", "--model", model, "--data", data, "--batch-size", 8)
    found += ("--heldout-data", tmp_path / "held.jsonl", "--learning-rate", "0.03", "--epochs", 4)
    return (*found, "--out", tmp_path / "out")


def run(*words):
    return main([str(word) for word in words])


def accuracy(out):
    return json.loads((out / "summary.json").read_text())["numbers"]["accuracy"]["after"][0]


@pytest.mark.long
def test_flipped_labels_are_learnt_the_right_way_round(tmp_path, words, capsys):
    assert run(*words, "--repair", "flip", "--voters", 2) == 0
    assert "20.0% of the pairs have negative strength" in capsys.readouterr().out
    assert accuracy(tmp_path / "out") == 1.0


@pytest.mark.long
def test_a_contrastive_term_is_trained_and_logged(tmp_path, words):
    pairs_file(tmp_path / "train.jsonl", slice(0))  # no label is wrong
    more = ("--contrast", "swav", "--contrast-weight", "0.1", "--contrast-items", "differences")
    assert run(*words, *more) == 0
    assert accuracy(tmp_path / "out") == 1.0
    assert "contrast" in (tmp_path / "out" / "metrics.jsonl").read_text()


@pytest.mark.long
def test_unlabelled_answers_are_read_and_their_spread_is_logged(tmp_path, words):
    pairs_file(tmp_path / "train.jsonl", slice(0))
    answers = [{"prompt": f"{i}?", "answer": text} for i in range(10) for text in ("a", "b")]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, answers)))
    assert run(*words, "--unlabelled", tmp_path / "answers.jsonl", "--eta", "0.1") == 0
    assert accuracy(tmp_path / "out") == 1.0
    assert "spread" in (tmp_path / "out" / "metrics.jsonl").read_text()


@pytest.mark.parametrize(
    "term",
    [["--repair", "flip"], ["--contrast", "simcse"], ["--unlabelled", "answers.jsonl"]],
)
def test_terms_need_pairs_and_a_whole_model(tmp_path, model, capsys, term):
    words = ["reward", "--model", model, "--data", "x", "--out", tmp_path / "o", *term]
    for more in (["--kind", "process"], ["--lora-rank", "2"]):
        assert run(*words, *more) == 2
        message = f"{term[0]} is for --kind outcome without --lora-rank"
        assert message in capsys.readouterr().err


def test_one_way_to_train(tmp_path, model, capsys):
    more = ("--contrast", "simcse", "--unlabelled", "y")
    assert run("reward", "--model", model, "--data", "x", "--out", tmp_path / "o", *more) == 2
    assert "--contrast and --unlabelled are two ways to train" in capsys.readouterr().err
