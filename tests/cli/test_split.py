"""A file in two: dialogues stay whole, and the rows can be read again."""

import json

from rlhf_jax.cli import main
from rlhf_jax.data.formats import read_rows


def test_rows_of_one_dialogue_are_on_one_side_and_read_as_before(tmp_path, capsys):
    turns = [f"\n\nHuman: {i}\n\nAssistant:" for i in range(20)]
    prompts = [*turns, *(f"{turn} b\n\nHuman: c\n\nAssistant:" for turn in turns)]
    rows = [{"chosen": f"{prompt} y", "rejected": f"{prompt} n"} for prompt in prompts]
    path, out = tmp_path / "rows.jsonl", tmp_path / "parts"
    path.write_text("\n".join(map(json.dumps, rows)))
    words = ["split", "--data", str(path), "--heldout", "0.25", "--out", str(out)]
    assert main(words) == 0
    parts = [read_rows(out / f"{name}.jsonl").records for name in ("train", "heldout")]
    assert [len(part) for part in parts] == [30, 10]
    assert sorted(parts[0] + parts[1]) == sorted(read_rows(path).records)
    openings = [{pair.prompt.split("\n\nAssistant:")[0] for pair in part} for part in parts]
    assert not openings[0] & openings[1]
    assert "heldout.jsonl: 10 pairs" in capsys.readouterr().out
    assert main(words) == 2
    assert "choose another --out" in capsys.readouterr().err


def test_prompts_keep_the_columns_of_their_rows(tmp_path):
    path = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"{i}+1", "answer": str(i + 1), "level": "easy"} for i in range(8)]
    path.write_text("\n".join(map(json.dumps, rows)))
    words = ["split", "--data", str(path), "--kind", "prompts", "--out", str(tmp_path / "parts")]
    assert main(words) == 0
    found = [
        json.loads(line)
        for name in ("train", "heldout")
        for line in (tmp_path / "parts" / f"{name}.jsonl").read_text().splitlines()
    ]
    assert sorted(found, key=lambda row: row["prompt"]) == rows
