"""Parameters of a checkpoint, tensor by tensor into their shardings, and back.

Above the parameters, the host holds one tensor, and on its way to an accelerator the part of one
parameter that lies on one device.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, SingleDeviceSharding

from rlhf_jax.hf.config import CONFIG, family_of, read_entries
from rlhf_jax.hf.families import Family
from rlhf_jax.hf.rows import SAME, Row, Shape
from rlhf_jax.hf.tensors import Tensor, open_tensors
from rlhf_jax.models import ScalarModel, Transformer
from rlhf_jax.sharding import on_host, shard_params
from rlhf_jax.types import Params


class TensorPlace(NamedTuple):
    """A tensor's place in the parameters: row of the table, and numbers on the stacked axes."""

    row: Row
    at: Shape


def read_leaves(folder: Path, model: Transformer | ScalarModel, mesh: Mesh | None) -> Params:
    """The parameters of `model` from the tensors of a folder.

    Raises:
      ValueError: a tensor is missing, one too many, of another shape or not finite.
    """
    family = family_of(read_entries(folder / CONFIG), str(folder / CONFIG))
    leaves = dotted(jax.eval_shape(model.init, jax.random.key(0)))
    shardings = _shardings(model, leaves, mesh)
    tensors = open_tensors(folder)
    base = _base(family, tensors)
    shapes = {name: leaf.shape for name, leaf in leaves.items()}
    _check_names(folder, family, tensors, places(family, shapes, base), shapes)
    rows = {row.ours: row for row in family.rows}
    params = {}
    for name, leaf in leaves.items():
        if name == "head.bias":  # sequence classifiers have none
            params[name] = jax.device_put(np.zeros((), leaf.dtype), shardings[name])
            continue
        pieces = []
        # One device after another: all pieces at once would be a second copy of the parameter.
        for device, index in shardings[name].addressable_devices_indices_map(leaf.shape).items():
            piece = _piece(tensors, rows[name], base, leaf, index)
            pieces.append(jax.block_until_ready(jax.device_put(piece, device)))
            del piece
        params[name] = jax.make_array_from_single_device_arrays(leaf.shape, shardings[name], pieces)
    return nested(params)


def places(family: Family, shapes: Mapping[str, Shape], base: str) -> dict[str, list[TensorPlace]]:
    """Tensor name -> the places that it fills, for parameters of these shapes."""
    found: dict[str, list[TensorPlace]] = {}
    for row in family.rows:
        if row.ours in shapes:
            for at in np.ndindex(shapes[row.ours][: row.stacked]):
                found.setdefault(row.name(base, at), []).append(TensorPlace(row, at))
    return found


def written(family: Family, params: Params) -> dict[str, tuple[int, Any]]:
    """The tensors of the parameters by name: size in bytes, and a function that fetches them."""
    leaves = dotted(params)
    shapes = {name: leaf.shape for name, leaf in leaves.items()}
    tensors = {}
    for name, parts in places(family, shapes, family.base).items():
        size = sum(_tensor_bytes(leaves[p.row.ours], p.row) for p in parts)

        def fetch(parts=parts) -> np.ndarray:
            arrays = [
                p.row.layout.write(np.asarray(on_host(leaves[p.row.ours][p.at]))) for p in parts
            ]
            return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1)

        tensors[name] = (size, fetch)
    return tensors


def _tensor_bytes(leaf: jax.Array, row: Row) -> int:
    return leaf.nbytes // math.prod(leaf.shape[: row.stacked])


def dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dotted names."""
    found: dict[str, Any] = {}
    for name, part in tree.items():
        whole = f"{prefix}{name}"
        found |= dotted(part, f"{whole}.") if isinstance(part, Mapping) else {whole: part}
    return found


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `dotted`."""
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *above, last = name.split(".")
        node = tree
        for part in above:
            node = node.setdefault(part, {})
        node[last] = leaf
    return tree


def _shardings(model: Transformer | ScalarModel, leaves: Mapping[str, Any], mesh: Mesh | None):
    if mesh is None:
        return dict.fromkeys(leaves, SingleDeviceSharding(jax.local_devices()[0]))
    return dotted(shard_params(model.axes(), mesh))


def _base(family: Family, tensors: Mapping[str, Tensor]) -> str:
    """The prefix of the trunk: a bare trunk is saved without one."""
    return family.base if any(name.startswith(family.base) for name in tensors) else ""


def _piece(
    tensors: Mapping[str, Tensor],
    row: Row,
    base: str,
    leaf: jax.ShapeDtypeStruct,
    index: tuple[slice, ...],
) -> np.ndarray:
    """The part of a parameter that `index` cuts out, from the tensors that it stacks."""
    ranges = [range(*part.indices(n)) for part, n in zip(index, leaf.shape, strict=True)]
    out = _aligned(tuple(len(part) for part in ranges), leaf.dtype)
    if row.stacked == 0 and row.layout is SAME and leaf.ndim > 1:
        # By blocks of rows: an embedding may be the largest parameter, and a second copy too much.
        for place, block in tensors[row.name(base, ())].blocks(index[0]):
            out[place] = block[:, *index[1:]]
        return out
    for at in np.ndindex(out.shape[: row.stacked]):
        numbers = tuple(ranges[axis][i] for axis, i in enumerate(at))
        values = row.cut(tensors[row.name(base, numbers)].load())
        out[at] = row.layout.read(values, leaf.shape[row.stacked :])[index[row.stacked :]]
    return out


def _aligned(shape: Shape, dtype: np.dtype) -> np.ndarray:
    """An empty array at a multiple of 64 bytes, which JAX on CPU takes without a copy."""
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + 64, np.uint8)
    first = -room.ctypes.data % 64
    return room[first : first + size].view(dtype).reshape(shape)


def _check_names(
    folder: Path,
    family: Family,
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, list[TensorPlace]],
    shapes: Mapping[str, Shape],
) -> None:
    """ValueError for a missing tensor, one too many or one of another shape."""
    missing = [name for name in expected if name not in tensors]
    if missing:
        raise ValueError(f"{folder}: {_count(missing)} missing; expected for config.json")
    extra = [name for name in tensors if name not in expected]
    extra = [name for name in extra if not any(re.fullmatch(p, name) for p in family.ignored)]
    if "lm_head.weight" in extra and _repeats_embedding(tensors, expected):
        extra.remove("lm_head.weight")
    if extra:
        raise ValueError(f"{folder}: {_count(extra)} not in the model of config.json")
    for name, (first, *_) in expected.items():
        wanted, found = first.row.shape(shapes[first.row.ours]), tensors[name].shape
        if found != wanted:
            raise ValueError(
                f"{tensors[name].path}: {name} has shape {found}, config.json says {wanted}"
            )


def _repeats_embedding(
    tensors: Mapping[str, Tensor], expected: Mapping[str, list[TensorPlace]]
) -> bool:
    """Whether lm_head, stored although it is tied, is the embedding."""
    name = next(name for name, parts in expected.items() if parts[0].row.ours == "trunk.embed")
    head, embed = tensors["lm_head.weight"], tensors[name]
    pairs = zip(head.blocks(slice(None)), embed.blocks(slice(None)), strict=False)
    return head.shape == embed.shape and all(np.array_equal(a, b) for (_, a), (_, b) in pairs)


def _count(names: list[str]) -> str:
    rest = f" and {len(names) - 1} more tensors" if len(names) > 1 else ""
    return f"tensor {names[0]}{rest}"
