"""TFDS builders of public sets: each reads the small file of its format, in array_record."""

import json
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from rlhf_jax.data.formats import FORMATS, read_rows
from rlhf_jax.data.sets.hh_rlhf import HhRlhf
from rlhf_jax.data.sets.qa_feedback import QaFeedback

FILES = Path(__file__).parent / "format_files"
SHARED = Path(__file__).parents[2].parent / "shared" / "data"
SETS = {
    "hh_rlhf": ("HhRlhf", "hh_rlhf.jsonl", 2),
    "qa_feedback": ("QaFeedback", "qa_feedback.jsonl", 4),
    "shp": ("Shp", "shp.jsonl", 1),
    "ultrafeedback": ("Ultrafeedback", "ultrafeedback.jsonl", 2),
    "helpsteer2": ("Helpsteer2", "helpsteer2.jsonl", 2),
    "stack_exchange": ("StackExchange", "stack_exchange.jsonl", 1),
    "tldr": ("Tldr", "tldr_comparisons.jsonl", 2),
}


def builder_class(module):
    return getattr(import_module(f"rlhf_jax.data.sets.{module}"), SETS[module][0])


def built(cls, tmp_path, files):
    builder = cls(data_dir=str(tmp_path / "tfds"), manual_dir=files)
    builder.download_and_prepare()
    return builder


@pytest.mark.slow
@pytest.mark.parametrize("module", SETS)
def test_a_set_is_built_from_a_manual_directory(tmp_path, module):
    _, file, count = SETS[module]
    (tmp_path / "in").mkdir()
    shutil.copy(FILES / file, tmp_path / "in" / "train.jsonl")
    shutil.copy(FILES / file, tmp_path / "in" / "test-1.jsonl")
    cls = builder_class(module)
    builder = built(cls, tmp_path, tmp_path / "in")
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": count,
        "test": count,
    }
    first = builder.as_data_source("train")[0]
    pair = read_rows(FILES / file, kind="pairs").records[0]
    if cls.DIALOGUES:
        assert [text.decode() for text in first["chosen"]["content"]] == [pair.chosen[0]["content"]]
    else:
        assert [first[name].decode() for name in ("prompt", "chosen", "rejected")] == [*pair[:3]]
    assert ("margin" in first) == cls.MARGIN
    if cls.MARGIN:
        assert float(first["margin"]) == pair.margin


def test_the_formats_of_all_sets_are_there():
    names = {format.name for format in FORMATS}
    assert {builder_class(module).FORMAT for module in SETS} <= names


def test_a_directory_without_files_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no data file there; download the files of anthropics/hh"):
        built(HhRlhf, tmp_path, tmp_path)


@pytest.mark.slow
def test_no_tensorflow_is_imported(tmp_path):
    row = json.dumps({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": ""})
    (tmp_path / "train.jsonl").write_text(row.replace('""', '"\\n\\nHuman: a\\n\\nAssistant: c"'))
    program = (
        "import sys; from rlhf_jax.data.sets.hh_rlhf import HhRlhf; "
        f"b = HhRlhf(data_dir={str(tmp_path / 'out')!r}, manual_dir={str(tmp_path)!r}); "
        "b.download_and_prepare(); assert len(b.as_data_source('train')) == 1; "
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the real files are not part of the project")
@pytest.mark.parametrize(
    ("cls", "folder", "split", "count"),
    [(HhRlhf, "hh_rlhf", "train", 1996), (QaFeedback, "qa_feedback", "validation", 2188)],
)
def test_real_files(tmp_path, cls, folder, split, count):
    source = built(cls, tmp_path, SHARED / folder).as_data_source(split)
    assert len(source) == count
    (path,) = (SHARED / folder).glob("*.gz")
    records = read_rows(path).records
    for i in (0, count // 2, count - 1):
        assert all(source[i][name].decode() == getattr(records[i], name) for name in source[i])
