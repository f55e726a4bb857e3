"""Every container gives the same rows; a damaged or foreign one is one line with file and row."""

import bz2
import gzip
import json
import lzma
import os

import pytest

from rlhf_jax.data.containers import (
    data_files,
    parse_rows,
    raw_items,
    raw_rows,
    split_of,
    text_lines,
)
from rlhf_jax.data.fields import filled_field

ROWS = [{"prompt": f"{i}+{i}?", "answer": str(2 * i), "scores": [0.5, i]} for i in range(600)]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def zst(data):
    return pytest.importorskip("zstandard").ZstdCompressor().compress(data)


def parquet(path, rows):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist(rows), path, row_group_size=250)
    return path


def read(path):
    return [row.fields for row in raw_rows(path)]


def written(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "encode"),
    [
        ("rows.jsonl", lines),
        ("rows.json", lambda rows: json.dumps(rows).encode()),
        ("indented.json", lambda rows: json.dumps(rows, indent=2).encode()),
        ("crlf.jsonl", lambda rows: lines(rows).replace(b"\n", b"\r\n")),
        ("bom.jsonl", lambda rows: b"\xef\xbb\xbf" + lines(rows)),
        ("rows.jsonl.gz", lambda rows: gzip.compress(lines(rows))),
        ("array.json.gz", lambda rows: gzip.compress(json.dumps(rows, indent=1).encode())),
        ("rows.jsonl.zst", lambda rows: zst(lines(rows))),
        ("two frames.jsonl.zst", lambda rows: zst(lines(rows[:99])) + zst(lines(rows[99:]))),
        ("misnamed.jsonl", lambda rows: zst(lines(rows))),
    ],
)
def test_json_in_every_container(tmp_path, name, encode):
    path = written(tmp_path / name, encode(ROWS))
    assert read(path) == ROWS
    assert [row.number for row in raw_rows(path)][:3] == [1, 2, 3]


def test_parquet_and_arrow_stream_and_file(tmp_path):
    assert read(parquet(tmp_path / "rows.parquet", ROWS)) == ROWS
    arrow = pytest.importorskip("pyarrow")
    table = arrow.Table.from_pylist(ROWS)
    for name, make in (("stream", arrow.ipc.new_stream), ("file", arrow.ipc.new_file)):
        path = tmp_path / f"{name}.arrow"
        with make(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=100)
        assert read(path) == ROWS


@pytest.mark.slow
def test_a_folder_saved_by_datasets(tmp_path):
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_list(ROWS)
    whole.save_to_disk(str(tmp_path / "one"), num_shards=2)
    assert read(tmp_path / "one") == ROWS
    datasets.DatasetDict(train=whole).save_to_disk(str(tmp_path / "several"))
    with pytest.raises(ValueError, match=r"several splits; name one, e\.g\. .*several/train"):
        read(tmp_path / "several")
    assert read(tmp_path / "several" / "train") == ROWS


def test_texts_are_separated_by_blank_lines(tmp_path):
    path = written(tmp_path / "story.txt", "Once\nupon a time.\n\n \nThé end.".encode())
    assert [(row.number, row.fields["text"]) for row in raw_rows(path)] == [
        (1, "Once\nupon a time."),
        (5, "Thé end."),
    ]


def test_marks_separate_texts_that_have_blank_lines(tmp_path):
    path = written(tmp_path / "a.txt", b"One\n\ntwo.\n<|endoftext|>\n\nThree.<|endoftext|>Four.\n")
    assert [(row.number, row.fields["text"]) for row in raw_rows(path)] == [
        (1, "One\n\ntwo."),
        (6, "Three."),
        (6, "Four."),
    ]


def test_lines_of_a_text_file(tmp_path):
    path = written(tmp_path / "a.txt", b"\xef\xbb\xbfOne \r\n\r\n \nt\xc2\x85wo")
    assert text_lines(path) == ["One ", "t\x85wo"]
    with pytest.raises(ValueError, match=r"a\.txt, row 2: not UTF-8 at byte 1"):
        text_lines(written(path, b"One\nt\xffo"))
    with pytest.raises(ValueError, match=r"a\.txt, row 1: the gzip file is cut short"):
        text_lines(written(path, gzip.compress(b"One\nTwo\n")[:12]))
    with pytest.raises(ValueError, match=r"b\.txt: no such file; give a text file"):
        text_lines(tmp_path / "b.txt")


def test_files_of_a_folder_follow_one_another(tmp_path):
    for i in range(3):
        written(tmp_path / f"part-{i}.jsonl", lines(ROWS[i::3]))
    written(tmp_path / "README.md", b"# rows")
    written(tmp_path / "dataset_info.json", b"{}")
    assert read(tmp_path) == [*ROWS[::3], *ROWS[1::3], *ROWS[2::3]]
    assert read(tmp_path / "part-[01]*") == [*ROWS[::3], *ROWS[1::3]]
    last = list(raw_rows(tmp_path))[-1]
    assert (last.path.name, last.number) == ("part-2.jsonl", 200)


def test_splits_are_not_mixed(tmp_path):
    for name in ("train-0.jsonl", "train-1.jsonl", "test.jsonl"):
        written(tmp_path / name, lines(ROWS[:2]))
    with pytest.raises(ValueError, match=r"several splits \(test, train\); name one file, or a"):
        data_files(tmp_path)
    assert len(read(tmp_path / "*train*")) == 4
    found = [split_of(tmp_path / name) for name in ("a_dev.json", "latest.json", "x-test.json")]
    assert found == ["validation", None, "test"]


def test_a_row_is_parsed_with_its_place(tmp_path):
    path = written(tmp_path / "rows.jsonl", lines([ROWS[0], {"prompt": " "}]))
    with pytest.raises(ValueError, match=r"rows\.jsonl, row 2: field prompt is empty"):
        list(parse_rows(path, lambda fields: filled_field(fields, "prompt")))


GOOD = lines(ROWS[:2])
BROKEN = {
    "absent": ("absent.jsonl", None, "no such file; give a file of JSON lines"),
    "invalid UTF-8": ("a.jsonl", GOOD + b'{"a": "\xe9"}\n', "row 3: not UTF-8 at byte 7"),
    "UTF-16": ("a.jsonl", GOOD.decode().encode("utf-16"), "row 1: not UTF-8 at byte 0"),
    "NaN": ("a.jsonl", GOOD + b'{"a": NaN}\n', "row 3: NaN is not JSON; write null"),
    "infinity": ("a.jsonl", GOOD + b'{"a": [-Infinity]}\n', "row 3: -Infinity is not JSON"),
    "duplicate keys": ("a.jsonl", GOOD + b'{"a": 1, "a": 2}\n', "row 3: field a comes twice"),
    "single quotes": ("a.jsonl", b"{'a': 1}\n", r"row 1: invalid JSON at column 2"),
    "cut line": ("a.jsonl", GOOD + b'{"a": "b', "row 3: invalid JSON"),
    "two values a line": ("a.jsonl", b'{"a": 1} {"a": 2}\n', "row 1: invalid JSON at column 9"),
    "nested too deep": ("a.jsonl", b'{"a":' * 90_000, "row 1: unreadable JSON"),
    "rows as lists": ("a.jsonl", b'["a", "b"]\n["c", "d"]\n', "row 1: expected a JSON object, fo"),
    "text": ("a.jsonl", b"Once upon a time\n", "row 1: invalid JSON at column 1"),
    "CSV": ("a.csv", b"prompt,chosen\n1,2\n", "CSV has no lists and no messages; write JSON"),
    "CSV, gzip": ("a.csv.gz", gzip.compress(b"a,b\n"), "CSV has no lists"),
    "pickle": ("a.jsonl", b"\x80\x04\x95\x10", "a pickle, .* which is never read"),
    "PyTorch": ("a.pt", b"PK\x03\x04\x00\x00", "a pickle, PyTorch, NumPy or zip file"),
    "old pickle": ("a.pkl", b"(dp0\n", "a pickle, PyTorch"),
    "not Parquet": ("a.parquet", b'{"a": 1}', "not Parquet inside"),
    "gzip cut": ("a.jsonl.gz", gzip.compress(lines(ROWS))[:-900], r"row \d+: the gzip file is cut"),
    "gzip damaged": ("a.jsonl.gz", b"\x1f\x8b" + b"\x00" * 40, "row 1: the gzip file is cut"),
    "gzip in gzip": ("a.jsonl.gz", gzip.compress(gzip.compress(GOOD)), "row 1: not UTF-8 at byte"),
    "after the end of gzip": ("a.gz", gzip.compress(GOOD) + b"junk", "row 3: the gzip file is cut"),
    "bzip2": ("a.jsonl.bz2", bz2.compress(GOOD), "compressed by bzip2; use gzip or zst"),
    "xz": ("a.jsonl.xz", lzma.compress(GOOD), "compressed by xz; use gzip or zst"),
    "an archive": ("a.tar.gz", gzip.compress(b"a.jsonl"), "an archive; unpack it"),
    "a Git LFS pointer": (
        "a.jsonl",
        b"version https://git-lfs.github.com/spec/v1\n",
        "git lfs pull",
    ),
    "a web page": ("a.parquet", b"<!DOCTYPE html>", "a web page in place of the file"),
    "lines ended by CR": ("a.jsonl", b'{"a": 1}\r{"a": 2}\r', "row 1: invalid JSON at column 9"),
    "commas between lines": ("a.jsonl", b'{"a": 1},\n{"a": 2}\n', "column 9 .more than one value"),
    "indented objects": ("a.jsonl", json.dumps(ROWS[0], indent=1).encode(), "object over several"),
    "comments": ("a.json", b"// rows\n" + GOOD, "row 1: invalid JSON at column 1"),
    "null bytes at the end": ("a.jsonl", GOOD + b"\0" * 99, "row 3: invalid JSON at column 1"),
    "5,000 digits": ("a.jsonl", b'{"a": ' + b"9" * 5000 + b"}\n", "row 1: unreadable JSON"),
    "a number alone": ("a.json", b"3", "row 1: expected a JSON object, found a number"),
    "a text in UTF-16": ("a.txt", "Once".encode("utf-16"), "row 1: not UTF-8 at byte 0"),
    "four bytes of Parquet": ("a.parquet", b"PAR1", "row 1: the file is cut short or damaged"),
    "an array cut": ("a.json", json.dumps(ROWS[:3]).encode()[:-3], "row 3: "),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files(tmp_path, case):
    name, data, message = BROKEN[case]
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_cut_zst_and_cut_parquet(tmp_path):
    whole = zst(lines(ROWS))
    for data in (whole[:-50], whole[:4] + b"\xff" * 40 + whole[44:]):
        with pytest.raises(ValueError, match=r"a\.zst, row \d+: the zst file is cut short"):
            read(written(tmp_path / "a.zst", data))
    path = parquet(tmp_path / "a.parquet", ROWS)
    written(path, path.read_bytes()[:-300])
    with pytest.raises(ValueError, match=r"a\.parquet, row 1: the file is cut short or damaged"):
        read(path)
    arrow = pytest.importorskip("pyarrow")
    table, path = arrow.Table.from_pylist(ROWS), tmp_path / "a.arrow"
    with arrow.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    written(path, path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"a\.arrow, row [1-9]\d+: the file is cut short"):
        read(path)


def test_a_folder_without_data_names_what_is_there(tmp_path):
    with pytest.raises(ValueError, match=r"no data file \(.jsonl, .* in this folder: nothing"):
        read(tmp_path)
    written(tmp_path / "model.safetensors", b"")
    with pytest.raises(ValueError, match=r"in this folder: model\.safetensors"):
        read(tmp_path)


def test_a_pipe_and_a_link_to_nothing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe: a pipe or a device, which cannot be read twice"):
        read(tmp_path / "pipe")
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "gone.jsonl")
    with pytest.raises(ValueError, match=r"a\.jsonl: no such file"):
        read(tmp_path / "a.jsonl")


def test_a_bad_line_leaves_the_next_ones_readable(tmp_path):
    path = written(tmp_path / "a.jsonl", b'{"a": 1}\n{"a": \n[2]\n{"a": 3}\n')
    found = [(row.number, row.fields) for row in raw_items(path)]
    assert found[0] == (1, {"a": 1})
    assert found[3] == (4, {"a": 3})
    assert [str(fault)[:12] for _, fault in found[1:3]] == ["invalid JSON", "expected a J"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = written(tmp_path / "a.jsonl", GOOD)
    path.chmod(0)
    with pytest.raises(ValueError, match=r"a\.jsonl: cannot be read \(Permission denied\)"):
        read(path)


def test_a_row_of_10_megabytes_is_read(tmp_path):
    row = {"prompt": "word " * 2_000_000, "answer": "x"}
    assert len(row["prompt"]) == 10_000_000
    assert read(written(tmp_path / "a.jsonl", lines([row, row]))) == [row, row]
    assert read(written(tmp_path / "a.zst", zst(lines([row])))) == [row]


def test_no_rows_and_one_row(tmp_path):
    assert read(written(tmp_path / "a.jsonl", b"")) == []
    assert read(written(tmp_path / "a.json", b"[]")) == []
    assert read(written(tmp_path / "a.txt", b"\n\n")) == []
    assert read(written(tmp_path / "a.jsonl", b'\n{"a": null}')) == [{"a": None}]
