"""TFDS round trip without TensorFlow; building again; builds that break off."""

import subprocess
import sys

import numpy as np
import pytest

from rlhf_jax.data.loader import batches
from rlhf_jax.data.store import Field, build, open_source

FIELDS = {
    "prompt": Field("text"),
    "score": Field("float32"),
    "ids": Field("int32", (None,)),
    "flags": Field("bool", (2,)),
    "number": Field("int64"),
}


def record(i):
    return {
        "prompt": f"prix {i} €",
        "score": i / 4,
        "ids": list(range(i % 3)),
        "flags": [i % 2 == 0, True],
        "number": i,
    }


def built(path, count=20, **config):
    splits = {"train": (record(i) for i in range(count)), "test": [record(99)]}
    return build("shop", splits, fields=FIELDS, data_dir=path, config={"seed": 0, **config})


def test_round_trip_in_order(tmp_path):
    folder = built(tmp_path)
    assert folder == tmp_path / "shop"
    assert list(folder.glob("*/*.array_record*"))
    train = open_source(tmp_path, "shop", "train")
    assert len(train) == 20
    assert len(open_source(tmp_path, "shop", "test")) == 1
    for i in (19, 0, 7):
        found, expected = train[i], record(i)
        assert found["prompt"] == expected["prompt"]
        assert found["score"] == np.float32(expected["score"])
        assert found["number"] == i
        np.testing.assert_array_equal(found["ids"], expected["ids"])
        np.testing.assert_array_equal(found["flags"], expected["flags"])
        assert found["ids"].dtype == np.int32
        assert found["flags"].dtype == bool
    assert train[-1]["number"] == 19
    with pytest.raises(IndexError, match="record 20 of 20"):
        train[20]


def test_read_through_the_loader(tmp_path):
    built(tmp_path)
    train = open_source(tmp_path, "shop", "train")
    dataset = batches(
        train, batch_size=5, seed=0, batch_fn=lambda rows: [r["number"] for r in rows]
    )
    numbers = [int(n) for i in range(4) for n in dataset[i]]
    assert sorted(numbers) == list(range(20))


def test_building_again_reads_and_writes_nothing(tmp_path):
    folder = built(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}

    def never():
        raise AssertionError("consumed")
        yield

    splits = {"train": never(), "test": never()}
    assert build("shop", splits, fields=FIELDS, data_dir=tmp_path, config={"seed": 0}) == folder
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_another_config_or_other_fields_are_refused(tmp_path):
    built(tmp_path)
    with pytest.raises(ValueError, match="built with config size = absent, now 3; delete"):
        built(tmp_path, size=3)
    with pytest.raises(ValueError, match="built with config seed = 0, now 1"):
        built(tmp_path, seed=1)
    fields = {**FIELDS, "score": Field("float64")}
    with pytest.raises(ValueError, match="built with fields score"):
        build("shop", {"train": []}, fields=fields, data_dir=tmp_path, config={"seed": 0})


def test_a_build_that_breaks_off_leaves_nothing(tmp_path):
    def breaks():
        yield record(0)
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        build("shop", {"train": breaks()}, fields=FIELDS, data_dir=tmp_path, config={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_a_killed_build_is_never_read(tmp_path):
    code = f"""
import os
from rlhf_jax.data.store import Field, build
def rows():
    yield {{"x": 1}}
    os.kill(os.getpid(), 9)
fields, folder = {{"x": Field("int32")}}, {str(tmp_path)!r}
build("shop", {{"train": rows()}}, fields=fields, data_dir=folder, config={{}})
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert [path.name.startswith(".shop.partial-") for path in tmp_path.iterdir()] == [True]
    with pytest.raises(ValueError, match="no data set there; build it first"):
        open_source(tmp_path, "shop", "train")
    built(tmp_path)  # the remains do not stand in the way
    assert len(open_source(tmp_path, "shop", "train")) == 20


def test_two_builders_at_once_agree_on_the_first(tmp_path):
    def overtaken():
        built(tmp_path)
        yield record(0)

    build("shop", {"train": overtaken()}, fields=FIELDS, data_dir=tmp_path, config={"seed": 0})
    assert len(open_source(tmp_path, "shop", "train")) == 20
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": 3}, "split train, row 1, field prompt: expected text, found int"),
        ({"score": "x"}, "split train, row 1, field score: expected float32"),
        ({"flags": [True]}, r"field flags: expected shape \(2,\), found \(1,\)"),
        ({"flags": True}, r"field flags: expected shape \(2,\), found \(\)"),
        ({"ids": [[1], [1, 2]]}, "field ids: not a rectangular array"),
        ({"ids": [1.5]}, "field ids: expected int32, found float64"),
        ({"ids": [2**40]}, "field ids: an integer does not fit int32"),
        ({"extra": 1}, "split train, row 1: fields"),
    ],
)
def test_bad_records_name_the_row(tmp_path, change, message):
    rows = [record(0), {**record(1), **change}]
    with pytest.raises(ValueError, match=message):
        build("shop", {"train": rows}, fields=FIELDS, data_dir=tmp_path, config={})
    assert list(tmp_path.iterdir()) == []


def test_other_errors(tmp_path):
    with pytest.raises(ValueError, match="split train: no records"):
        build("shop", {"train": []}, fields=FIELDS, data_dir=tmp_path, config={})
    with pytest.raises(ValueError, match="no splits"):
        build("shop", {}, fields=FIELDS, data_dir=tmp_path, config={})
    with pytest.raises(ValueError, match="small letters"):
        build("Shop", {"train": []}, fields=FIELDS, data_dir=tmp_path, config={})
    with pytest.raises(ValueError, match="field x: complex64 of shape"):
        build("a", {"t": [{}]}, fields={"x": Field("complex64")}, data_dir=tmp_path, config={})
    (tmp_path / "shop").mkdir()
    with pytest.raises(ValueError, match="was not written by `build`"):
        built(tmp_path)
    built(tmp_path / "b")
    with pytest.raises(ValueError, match="no split dev; it has test, train"):
        open_source(tmp_path / "b", "shop", "dev")


@pytest.mark.long
def test_tensorflow_is_not_imported_and_nothing_is_printed(tmp_path):
    code = f"""
import sys
from rlhf_jax.data.store import Field, build, open_source
fields, folder = {{"x": Field("int32")}}, {str(tmp_path)!r}
build("a", {{"t": [{{"x": 1}}]}}, fields=fields, data_dir=folder, config={{}})
open_source(folder, "a", "t")[0]
assert "tensorflow" not in sys.modules
"""
    command = [sys.executable, "-W", "error", "-c", code]
    out = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (out.returncode, out.stdout, out.stderr) == (0, "", "")
