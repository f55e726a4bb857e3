"""Records on disk: TFDS data sets in array_record files, written once, with random access.

TensorFlow is not imported: TFDS needs it only for readers and formats that are not used here.
"""

import contextlib
import io
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

Record = dict[str, Any]

_CONFIG_FILE = "config.json"
_VERSION = "1.0.0"
_DTYPES = frozenset({"bool", "int32", "int64", "float32", "float64"})
# They would break the progress bars of the caller.
tfds.disable_progress_bar()


class Field(NamedTuple):
    """One entry of a record.

    dtype: "text", "bool", "int32", "int64", "float32" or "float64".
    shape: of an array; () is a scalar, one axis may be None (any length).
    """

    dtype: str
    shape: tuple[int | None, ...] = ()


@dataclass(frozen=True)
class Records:
    """Random access to one split: `len(records)`, `records[i]` -> dict of str and NumPy values."""

    source: Any
    texts: frozenset[str]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Record:
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        record = self.source[index % len(self)]
        return {k: v.decode("utf-8") if k in self.texts else v for k, v in record.items()}


def build(
    name: str,
    splits: Mapping[str, Iterable[Record]],
    *,
    fields: Mapping[str, Field],
    data_dir: Path | str,
    config: Mapping[str, Any],
) -> Path:
    """Writes every split in its own order, unless the same data set has been written already.

    The records go to a hidden folder, which is renamed in one step when it is complete. So a killed
    build leaves no incomplete data set, only a folder `.NAME.partial-*` that may be deleted.

    Args:
      name: small letters, digits and underscores.
      splits: split name -> records; an iterable is consumed only if the data set is built.
      fields: the fields of every record; exactly these keys.
      data_dir: parent folder, created if missing.
      config: JSON values that determine the content (seed, sizes, version of the generator). If a
        data set with equal config and fields exists, nothing is read from `splits` or written.
    Returns:
      data_dir / name.
    Raises:
      ValueError: bad name, no splits, an empty split, a record that does not fit its fields (split
        and row number from 0), or a folder built with another config (the difference is named).
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"name {name!r}: use small letters, digits and underscores")
    if not splits:
        raise ValueError(f"data set {name}: no splits given")
    folder = Path(data_dir) / name
    described = {"config": dict(config), "fields": {k: [*f] for k, f in fields.items()}}
    wanted = json.loads(json.dumps(described))
    if folder.exists():
        _check_same(folder, wanted)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{name}.partial-", dir=folder.parent))
    try:
        _write(partial, name, splits, fields)
        (partial / name / _CONFIG_FILE).write_text(json.dumps(wanted, indent=1))
        _publish(partial / name, folder, wanted)
    finally:
        shutil.rmtree(partial)
    return folder


def open_source(data_dir: Path | str, name: str, split: str) -> Records:
    """The records of one split that `build` wrote.

    Raises:
      ValueError: nothing built under that name, or no such split.
    """
    folder = Path(data_dir) / name
    if not (folder / _CONFIG_FILE).is_file():
        raise ValueError(f"{folder}: no data set there; build it first")
    builder: Any = tfds.builder_from_directory(str(folder / _VERSION))
    if split not in builder.info.splits:
        known = ", ".join(sorted(builder.info.splits))
        raise ValueError(f"{folder}: no split {split}; it has {known}")
    features = builder.info.features
    texts = frozenset(k for k in features if isinstance(features[k], tfds.features.Text))
    return Records(source=builder.as_data_source(split), texts=texts)


class _RecordBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A TFDS builder with its content as an argument. TFDS can only be used by inheritance."""

    VERSION = tfds.core.Version(_VERSION)

    def __init__(self, *, name: str, features: Any, generators: dict[str, Any], data_dir: str):
        self.name = name
        self._features = features
        self._generators = generators
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self, features=self._features, disable_shuffling=True, description=self.name
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return self._generators

    def _generate_examples(self, **_: Any) -> Iterator[Any]:
        raise NotImplementedError("the generators are arguments of the constructor")


def _write(
    partial: Path, name: str, splits: Mapping[str, Iterable[Record]], fields: Mapping[str, Field]
) -> None:
    """Runs TFDS on checked records; it writes the folder partial / name / version."""
    features = tfds.features.FeaturesDict({k: _feature(k, f) for k, f in fields.items()})
    generators = {split: _checked(split, rows, fields) for split, rows in splits.items()}
    builder = _RecordBuilder(
        name=name, features=features, generators=generators, data_dir=str(partial)
    )
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints two lines
        builder.download_and_prepare()


def _publish(built: Path, folder: Path, wanted: Record) -> None:
    """Renames in one step. If another process was first, its data set must be the same."""
    try:
        built.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        _check_same(folder, wanted)


def _check_same(folder: Path, wanted: Record) -> None:
    """ValueError if the folder was built with another config or other fields."""
    path = folder / _CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"{folder} exists but was not written by `build`; choose another data_dir")
    found = json.loads(path.read_text())
    for part in ("config", "fields"):
        for key in sorted({*found[part], *wanted[part]}):
            old, new = (side[part].get(key, "absent") for side in (found, wanted))
            if old != new:
                raise ValueError(
                    f"{folder} was built with {part} {key} = {old}, now {new}; delete the folder "
                    "or choose another data_dir"
                )


def _feature(name: str, field: Field) -> Any:
    """The TFDS feature of a field."""
    if field.dtype == "text" and not field.shape:
        return tfds.features.Text()
    if field.dtype not in _DTYPES:
        raise ValueError(
            f"field {name}: {field.dtype} of shape {field.shape} cannot be stored; use "
            f"text of shape () or one of {', '.join(sorted(_DTYPES))}"
        )
    return tfds.features.Tensor(shape=field.shape, dtype=np.dtype(field.dtype))


def _checked(
    split: str, rows: Iterable[Record], fields: Mapping[str, Field]
) -> Iterator[tuple[int, Record]]:
    """(row number, record) with every value in its declared type."""
    number = -1
    for number, row in enumerate(rows):
        where = f"split {split}, row {number}"
        if row.keys() != fields.keys():
            raise ValueError(
                f"{where}: fields {sorted(row)} where {sorted(fields)} are declared; correct it"
            )
        yield number, {k: _value(f"{where}, field {k}", row[k], f) for k, f in fields.items()}
    if number < 0:
        raise ValueError(f"split {split}: no records; leave the split out or fill it")


def _value(where: str, value: Any, field: Field) -> Any:
    """The value as a str or an array of the declared type; a cast must not change it."""
    if field.dtype == "text":
        if not isinstance(value, str):
            raise ValueError(f"{where}: expected text, found {type(value).__name__}; correct it")
        return value
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{where}: not a rectangular array; pad it or store its rows") from error
    fits = [want in (None, size) for size, want in zip(array.shape, field.shape, strict=False)]
    if array.ndim != len(field.shape) or not all(fits):
        raise ValueError(f"{where}: expected shape {field.shape}, found {array.shape}; correct it")
    dtype = np.dtype(field.dtype)
    if array.size and not np.can_cast(array.dtype, dtype, "same_kind"):
        raise ValueError(f"{where}: expected {dtype}, found {array.dtype}; correct it")
    cast = array.astype(dtype)
    if array.dtype.kind in "iu" and not np.array_equal(cast, array):
        raise ValueError(f"{where}: an integer does not fit {dtype}; declare a wider type")
    return cast
