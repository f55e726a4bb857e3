"""The tensors of a checkpoint folder, in one safetensors file or several; never a pickle."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
FLOATS = ("F32", "F16", "BF16", "F64")
BLOCK = 1 << 22  # elements that are read at a time from a tensor of many rows


class Tensor(NamedTuple):
    """One tensor on disk, memory-mapped: nothing is read yet."""

    name: str
    path: Path
    file: Any  # an open safetensors file

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.file.get_slice(self.name).get_shape())

    def load(self) -> np.ndarray:
        """All of it, in the dtype of the file."""
        return self.checked(self.file.get_tensor(self.name))

    def blocks(self, rows: slice) -> Iterator[tuple[slice, np.ndarray]]:
        """Some of its rows, a block at a time, each with its place among them."""
        part, shape = self.file.get_slice(self.name), self.shape
        start, stop, _ = rows.indices(shape[0])
        step = max(1, BLOCK // max(1, int(np.prod(shape[1:]))))
        for first in range(start, stop, step):
            last = min(first + step, stop)
            yield slice(first - start, last - start), self.checked(part[first:last])

    def checked(self, values: np.ndarray) -> np.ndarray:
        """The values, unless one is not finite."""
        # A sum, as `isfinite` would take half as much memory again.
        if not np.isfinite(np.sum(values, dtype=np.float64)):
            raise ValueError(f"{self.path}: {self.name} has weights that are not finite")
        return values


def open_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the folder, by name.

    Raises:
      ValueError: no safetensors file, only pickles, a missing or damaged file, an index that names
        a tensor which its file lacks, or a tensor that isn't of floating-point numbers.
    """
    if (folder / SINGLE).is_file():
        return open_file(folder / SINGLE)
    if not (folder / INDEX).is_file():
        raise ValueError(_no_weights(folder))
    try:
        placed: dict[str, str] = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"]
        files = sorted(set(placed.values()))
        absent = [name for name in files if not (folder / name).is_file()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / INDEX}: not an index of shards ({error!r})") from error
    if absent:
        raise ValueError(f"{folder}: {len(absent)} of {len(files)} shards missing, {absent[0]} one")
    opened = {name: open_file(folder / name) for name in files}
    tensors = {name: tensor for parts in opened.values() for name, tensor in parts.items()}
    for name, file in placed.items():
        if name not in opened[file]:
            raise ValueError(f"{folder / file}: no tensor {name}, which {INDEX} places there")
        tensors[name] = opened[file][name]
    return tensors


def open_file(path: Path) -> dict[str, Tensor]:
    """The tensors of one file; ValueError as in `open_tensors`."""
    try:
        file = safe_open(path, "np")
    except SafetensorError as error:
        raise ValueError(
            f"{path}: cut off or not a safetensors file ({error}); copy it again"
        ) from error
    tensors = {name: Tensor(name, path, file) for name in file.keys()}  # noqa: SIM118
    for name in tensors:
        dtype = file.get_slice(name).get_dtype()
        if dtype not in FLOATS:
            raise ValueError(
                f"{path}: {name} is {dtype}; expected float32, bfloat16 or float16 weights, not "
                "quantised ones"
            )
    return tensors


def _no_weights(folder: Path) -> str:
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        return (
            f"{folder}: {pickles[0]} is a pickle, which can run any program and is never loaded; "
            "save the model as safetensors"
        )
    return f"{folder}: no {SINGLE} and no {INDEX}"


def write_tensors(
    folder: Path, tensors: Mapping[str, tuple[int, Any]], *, shard_bytes: int
) -> None:
    """Writes tensors, into several files where one would be larger than `shard_bytes`.

    Args:
      tensors: for each name its size in bytes and a function `() -> ` array, called once.
    """
    shards: list[list[str]] = [[]]
    filled = 0
    for name, (size, _) in tensors.items():
        if shards[-1] and filled + size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    count = len(shards)
    places = {}
    for number, names in enumerate(shards, start=1):
        file = SINGLE if count == 1 else f"model-{number:05d}-of-{count:05d}.safetensors"
        arrays = {name: np.ascontiguousarray(tensors[name][1]()) for name in names}
        (folder / file).touch()
        mode = (folder / file).stat().st_mode  # safetensors leaves only the owner's rights
        save_file(arrays, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(mode)
        places |= dict.fromkeys(names, file)
    if count > 1:
        total = sum(size for size, _ in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")
