"""Records on disk: the same as in memory, written once, in memory that does not grow."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_jax.data.loader import batches
from rlhf_jax.data.stream import stored_records

FILES = Path(__file__).parent / "format_files"


def test_records_are_stored_once_and_read_in_any_order(tmp_path):
    records = stored_records(FILES / "nectar.jsonl", tmp_path / "out", kind="pairs")
    assert [
        (x["chosen"], x["rejected"], x["margin"]) for x in map(records.__getitem__, range(3))
    ] == [
        ("A plum.", "Fruit.", 1.0),
        ("A plum.", "A car.", 2.0),
        ("Fruit.", "A car.", 1.0),
    ]
    written = (tmp_path / "out" / "records.array_record").stat().st_mtime_ns
    again = stored_records(FILES / "nectar.jsonl", tmp_path / "out", kind="pairs")
    assert (len(again), again[2]) == (3, records[2])
    assert (tmp_path / "out" / "records.array_record").stat().st_mtime_ns == written
    rows = batches(again, batch_size=3, seed=0, batch_fn=list)
    assert sorted(row["margin"] for row in rows[0]) == [1.0, 1.0, 2.0]
    assert rows[5] == batches(again, batch_size=3, seed=0, batch_fn=list)[5]


def test_messages_and_counts_are_kept(tmp_path):
    records = stored_records(FILES / "trl_implicit_prompt.jsonl", tmp_path / "a", kind="pairs")
    assert records[0]["chosen"] == [{"role": "assistant", "content": "A plum."}]
    assert records[0].keys() == {"prompt", "chosen", "rejected"}
    assert stored_records(FILES / "trl_preference.jsonl", tmp_path / "b", kind="pairs").counts == {
        "equal answers": 1
    }
    (prompt,) = [stored_records(FILES / "verl.jsonl", tmp_path / "c", kind="prompts")[0]]
    assert (prompt["reference"], prompt["fields"]["ability"]) == ("2", "math")


def test_a_folder_of_something_else_is_refused_and_a_failed_write_leaves_nothing(tmp_path):
    stored_records(FILES / "nectar.jsonl", tmp_path / "out", kind="pairs")
    with pytest.raises(ValueError, match="holds the records of another file, kind or format"):
        stored_records(FILES / "nectar.jsonl", tmp_path / "out", kind="rankings")
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="exists but holds no records"):
        stored_records(FILES / "nectar.jsonl", tmp_path / "other", kind="pairs")
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n{"prompt": 1}\n')
    with pytest.raises(ValueError, match=r"bad\.jsonl, row 2: field chosen is missing"):
        stored_records(bad, tmp_path / "new", kind="pairs")
    bad.write_text('{"prompt": "p", "chosen": "a", "rejected": "a"}\n')
    with pytest.raises(ValueError, match="no pairs in 1 rows"):
        stored_records(bad, tmp_path / "new", kind="pairs")
    assert sorted(x.name for x in tmp_path.iterdir()) == ["bad.jsonl", "other", "out"]


PROGRAM = """
import resource, sys
from rlhf_jax.data.loader import batches
from rlhf_jax.data.stream import stored_records
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
small, large, out = sys.argv[1:]
list(map(batches(stored_records(small, out + "/small", kind="pairs"), batch_size=64, seed=0,
                 batch_fn=len).__getitem__, range(20)))
before = peak()
records = stored_records(large, out + "/large", kind="pairs")
rows = batches(records, batch_size=64, seed=0, batch_fn=len)
assert sum(rows[i] for i in range(len(records) // 64)) == len(records) == 200_000
print(peak() - before)
"""


@pytest.mark.slow
def test_200_000_rows_need_no_more_memory_than_a_few(tmp_path):
    """The large file has 200,000 rows of 600 characters, 120 MB; the process may grow by 40."""
    row = json.dumps({"prompt": "word " * 80, "chosen": "good " * 20, "rejected": "bad " * 20})
    for name, count in (("small", 2_000), ("large", 200_000)):
        (tmp_path / f"{name}.jsonl").write_text(f"{row}\n" * count)
    paths = [str(tmp_path / name) for name in ("small.jsonl", "large.jsonl", "")]
    command = [sys.executable, "-c", PROGRAM, *paths]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert float(done.stdout) < 40
