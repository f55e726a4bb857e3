"""No judgement is lost: by a kill, a full disk, a second process or a file that moves."""

import errno
import json
import os

import pytest

from rlhf_jax.labelling import open_labels


def row(number, kind="pairs"):
    judgement = {"kind": kind, "annotator": "ann", "item": str(number)}
    return {"judgement": judgement, "prompt": "2+2? ä\u2028"}


def items(path, kind="pairs"):
    with open_labels(path, kind) as labels:
        return [each["judgement"]["item"] for each in labels.rows], labels.torn


def test_rows_are_there_when_append_returns_and_after_a_restart(out):
    with open_labels(out, "pairs") as labels:
        labels.append(row(1))
        assert json.loads(out.read_text()) == row(1)
        labels.append(row(2))
    assert items(out) == (["1", "2"], False)


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_half_a_row_at_the_end_is_removed(out, cut):
    with open_labels(out, "pairs") as labels:
        labels.append(row(1))
    whole = out.read_bytes()
    out.write_bytes(whole + whole[:cut])
    assert items(out) == (["1"], True)
    assert out.read_bytes() == whole
    out.write_bytes(whole[:cut])  # the first of all
    assert items(out) == ([], True)


def test_a_whole_row_without_its_line_break_is_kept(out):
    out.write_text(json.dumps(row(1)))
    with open_labels(out, "pairs") as labels:
        labels.append(row(2))
    assert items(out) == (["1", "2"], False)


def test_any_row_can_be_removed(out):
    for index, left in ((0, ["2", "3"]), (1, ["1", "3"]), (2, ["1", "2"])):
        out.unlink(missing_ok=True)
        with open_labels(out, "pairs") as labels:
            for number in (1, 2, 3):
                labels.append(row(number))
            labels.remove(index)
            labels.append(row(4))
        assert items(out) == ([*left, "4"], False)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompt": "2+2?", "chosen": "4", "rejected": "5"}\n', "is no file of labels"),
        ("Dear diary", "is no file of labels"),
        (json.dumps(row(1)) + "\nDear diary", "is no file of labels"),
        (json.dumps(row(1, "spans")) + "\n", "row 1: not a judgement of pairs"),
        (json.dumps(row(1)) + '\n{"prompt": "2+2?"}\n', "row 2: not a judgement of pairs"),
        (json.dumps(row(1)) + "\n{]\n", "row 2: invalid JSON"),
        (json.dumps(row(1)) + "\n\n", "has blank lines"),
    ],
)
def test_another_file_is_refused_and_stays_as_it_is(out, text, message):
    out.write_text(text)
    with pytest.raises(ValueError, match=message):
        items(out)
    assert out.read_text() == text


def test_the_file_is_for_one_process_at_a_time(out):
    with open_labels(out, "pairs") as labels:
        labels.append(row(1))
        with pytest.raises(ValueError, match="in use by another rlhf label"):
            items(out)
        labels.remove(0)  # the lock is on the new file
        with pytest.raises(ValueError, match="in use by another rlhf label"):
            items(out)
    assert items(out) == ([], False)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        items(tmp_path / "file" / "labels.jsonl")


def test_a_full_disk_leaves_the_rows_before_and_says_so(out, monkeypatch):
    real, room = os.pwrite, [10]

    def pwrite(number, data, start):
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(number, data[: room.pop()], start)

    with open_labels(out, "pairs") as labels:
        labels.append(row(1))
        labels.append(row(2))
        monkeypatch.setattr(os, "pwrite", pwrite)
        with pytest.raises(OSError, match="No space left"):
            labels.append(row(3))
        with pytest.raises(OSError, match="No space left"):
            labels.remove(0)
        monkeypatch.setattr(os, "pwrite", real)
        labels.append(row(3))
    assert items(out) == (["1", "2", "3"], False)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_nothing_is_written_to_a_file_that_was_moved_or_changed(out):
    with open_labels(out, "pairs") as labels:
        labels.append(row(1))
        moved = out.rename(out.with_name("moved.jsonl"))
        with pytest.raises(OSError, match="was moved or replaced"):
            labels.append(row(2))
        moved.rename(out)
        with out.open("a") as file:
            file.write(json.dumps(row(9)) + "\n")
        with pytest.raises(OSError, match="was changed by another program"):
            labels.append(row(2))
    assert items(out) == (["1", "9"], False)
