"""Rows of training commands: packed, in buckets, and of files that are larger than memory."""

import gc
import json
import subprocess
import sys

import numpy as np
import pytest

import rlhf_jax.cli.data as data
from rlhf_jax.cli import main
from rlhf_jax.cli.data import read_answers, read_labelled, read_pairs, split_rows
from rlhf_jax.cli.options import Rows
from rlhf_jax.recipes.buckets import SizedRecords


def run(*words):
    return main([str(word) for word in words])


def compiled(out):
    return json.loads((out / "summary.json").read_text())["compiled"]


def write(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.long
def test_sft_on_packed_rows_has_one_shape_and_says_how_often_it_compiled(tmp_path, model, capsys):
    rows = [{"prompt": f"{i}?", "response": "ab" * (i % 5 + 1)} for i in range(20)]
    words = ("sft", "--model", model, "--data", write(tmp_path / "rows.jsonl", rows))
    out = tmp_path / "out"
    options = ("--pack", 32, "--batch-size", 8, "--heldout", 0.1)
    assert run(*words, *options, "--out", out) == 0
    printed = capsys.readouterr().out
    # 18 answers of 3 or 4 tokens of a prompt and 3 to 11 of an answer, in rows of 32.
    assert "packed: 18 answers in " in printed
    assert "sft for 1 shape of batches" in printed
    assert compiled(out)["batch_shapes"] == {"sft": 1}
    assert compiled(out)["programs"] > 0
    assert run(*words, "--pack", 8, "--out", tmp_path / "short") == 2
    assert "--pack 8: a packed row of 8 columns does not hold" in capsys.readouterr().err


@pytest.mark.long
def test_preference_in_buckets_starts_at_log_2_and_compiles_once_for_each(tmp_path, model, capsys):
    sizes = [1, 1, 1, 1, 20, 20]
    rows = [
        {"prompt": f"{i}?", "chosen": "a" * n, "rejected": "b" * n} for i, n in enumerate(sizes)
    ]
    path, out = write(tmp_path / "rows.jsonl", rows), tmp_path / "out"
    words = ("dpo", "--model", model, "--data", path, "--heldout", 0, "--out", out)
    # Three rows in each bucket make a batch of eight, filled up with the same rows.
    assert run(*words, "--buckets", 2, "--batch-size", 8) == 0
    printed = capsys.readouterr().out
    assert "buckets of 3+2, 3+21 tokens: padding " in printed
    assert compiled(out)["batch_shapes"] == {"dpo": 2}


def test_packed_rows_have_no_buckets(tmp_path, model, capsys):
    words = ("sft", "--model", model, "--data", "x.jsonl", "--out", tmp_path / "out")
    assert run(*words, "--pack", 8, "--buckets", 2) == 2
    assert "--pack and --buckets exclude each other" in capsys.readouterr().err


@pytest.mark.parametrize("read", [read_answers, read_pairs, read_labelled])
def test_a_large_file_has_the_same_records_on_disk(tmp_path, monkeypatch, capsys, read):
    """Both answers repeat the prompt, which is removed in both ways of reading."""
    rows = [
        {"prompt": f"{i}?", "chosen": f"{i}? yes {i}", "rejected": f"{i}? no"} for i in range(5)
    ]
    path = write(tmp_path / "rows.jsonl", [*rows, {**rows[0], "chosen": " ", "rejected": ""}])
    want = read(path, None, tmp_path / "out")
    monkeypatch.setattr(data, "IN_MEMORY", 0)
    found = read(path, None, tmp_path / "out")
    assert "read from disk as needed" in capsys.readouterr().out
    fields = [{k: v for k, v in row.items() if v != ()} for row in want]
    assert [found[i] for i in range(len(found))] == fields
    assert any(" yes" in str(row) for row in fields)
    assert len(list(tmp_path.iterdir())) == 2
    del found
    gc.collect()
    assert list(tmp_path.iterdir()) == [path]


def sized(prompts):
    records = [{"prompt": prompt, "answer": "x"} for prompt in prompts]
    return SizedRecords(records, np.ones((len(records), 1, 2), int), np.arange(len(records)))


@pytest.mark.parametrize("many", [50_000, 0])
def test_records_of_a_prompt_stay_on_one_side(tmp_path, monkeypatch, many):
    """By the texts of the prompts, or by digests of them."""
    monkeypatch.setattr(data, "MANY", many)
    options = Rows(data=tmp_path, heldout=0.3)
    records = sized([f"{i % 7}?" for i in range(28)])
    sides = split_rows(options, records, seed=1)
    kept, held = ({row["prompt"] for row in side} for side in sides)
    assert len(kept) + len(held) == 7
    assert (len(sides[0]), len(sides[1])) == (20, 8)  # 8.4 rows are 2 prompts of 4
    again = split_rows(options, records, seed=1)
    np.testing.assert_array_equal(again[1].numbers, sides[1].numbers)
    # One prompt everywhere: the rows are split.
    kept, held = split_rows(options, sized(["?"] * 10), seed=1)
    assert (len(kept), len(held)) == (7, 3)


@pytest.mark.parametrize("many", [50_000, 0])
def test_turns_of_a_dialogue_stay_on_one_side(tmp_path, monkeypatch, many):
    """All begin with the same greeting, so the second question tells them apart."""
    monkeypatch.setattr(data, "MANY", many)
    start = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: {}\n\nAssistant:"
    ends = ("", " Yes.\n\nHuman: Why?\n\nAssistant:")
    records = sized([start.format(f"{i}?") + end for i in range(20) for end in ends])
    kept, held = split_rows(Rows(data=tmp_path, heldout=0.25), records, seed=0)
    assert (len(kept), len(held)) == (30, 10)
    assert not {i // 2 for i in kept.numbers} & {i // 2 for i in held.numbers}


PROGRAM = """
import resource, sys
from pathlib import Path
from types import SimpleNamespace
from rlhf_jax.cli.data import read_answers, split_rows
from rlhf_jax.cli.layout import packing
from rlhf_jax.cli.options import Model, Rows
from rlhf_jax.cli.session import open_lab, open_model
from rlhf_jax.recipes import answer_rows
model, path, out = map(Path, sys.argv[1:])
options = SimpleNamespace(model=Model(model=model))
base = open_model(options.model)
lab, (records,) = open_lab(options, base, [(path, read_answers(path, base.chat, out))])
records, held = split_rows(Rows(data=path), records, seed=0)
padded = answer_rows(lab, records, batch_size=16)
layout = packing(lab, records, 1024)
packed = answer_rows(lab, records, batch_size=4, **layout)
for i in range(20):
    padded[i], packed[i]
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_200_000_rows_train_in_the_memory_of_20_000(tmp_path, model):
    """Everything of `rlhf sft` but the training: at most 60 MB more than for a tenth of the rows.

    What grows are numbers of rows: lengths, order, the split. As texts in memory the rows would
    need 150 MB more.
    """
    peaks = []
    for count in (20_000, 200_000):
        rows = ({"prompt": f"{i} " * 6, "response": "word " * (4 + i % 16)} for i in range(count))
        path = write(tmp_path / f"{count}.jsonl", rows)
        command = [sys.executable, "-c", PROGRAM, model, path, tmp_path / "out"]
        done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
        peaks.append(float(done.stdout.split("peak")[1]))
    assert peaks[1] - peaks[0] < 60
