"""Pytrees as a flat list of host arrays and a JSON description, and back, bit for bit."""

import hashlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.sharding import on_host
from rlhf_jax.types import PyTree

KEY = "prng key "  # prefix of the kind of a typed key, which is stored as its raw words

BLOCK_BYTES = 256 << 20  # gathered from other processes at a time

GENERATORS = ("threefry2x32", "rbg", "unsafe_rbg")


class Leaf(NamedTuple):
    """Description of a leaf: its path in the tree, kind, dtype and shape."""

    path: str
    kind: str  # "array", "python" (int, float, bool, complex) or KEY + the generator's name
    dtype: str
    shape: tuple[int, ...]


def is_key(leaf: Any) -> bool:
    """True for a typed PRNG key array, concrete or abstract."""
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def key_kind(leaf: Any) -> str:
    """The generator's name; an abstract key has only its dtype, printed as `key<name>`."""
    return KEY + str(leaf.dtype)


def storable(leaf: Any) -> Any:
    """The array stored for a leaf: the raw words of a typed key, else the leaf itself."""
    if is_key(leaf):
        return jax.random.key_data(leaf)
    return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)


def is_whole_here(array: Any) -> bool:
    """Whether this process holds every element of an array."""
    if not isinstance(array, jax.Array):
        return True
    return array.is_fully_addressable or array.is_fully_replicated


def describe(tree: PyTree) -> list[Leaf]:
    """One Leaf per leaf of a tree, in JAX's flattening order. Leaves may be abstract."""
    return [
        _describe_leaf(jax.tree_util.keystr(path) or "(the whole tree)", leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def _describe_leaf(path: str, leaf: Any) -> Leaf:
    if is_key(leaf):
        return Leaf(path, key_kind(leaf), str(leaf.dtype), tuple(leaf.shape))
    # np.float64 is a subclass of float, but it has a dtype and is stored as an array.
    if isinstance(leaf, bool | int | float | complex) and not isinstance(leaf, np.generic):
        return Leaf(path, "python", type(leaf).__name__, ())
    return Leaf(path, "array", str(np.dtype(leaf.dtype)), tuple(leaf.shape))


def first_not_finite(tree: PyTree, *, allow_infinite: bool = False) -> str | None:
    """`['w'] holds nan`: the first floating array with a NaN or, unless allowed, an infinity.

    Arrays are checked on the host, where the digests of a checkpoint need them anyway; of one that
    other processes hold too, the parts that are here.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        for array in () if is_key(leaf) else _parts_here(leaf):
            if not jnp.issubdtype(array.dtype, np.inexact):
                continue
            bad = np.isnan(array) if allow_infinite else ~np.isfinite(array)
            if bad.any():
                return f"{jax.tree_util.keystr(path)} holds {array[bad][0]}"
    return None


def _parts_here(leaf: Any) -> list[np.ndarray]:
    """An array on the host, or what this process holds of it."""
    if is_whole_here(leaf):
        return [np.asarray(leaf)]
    return [np.asarray(x.data) for x in leaf.addressable_shards if x.replica_id == 0]


def first_difference(saved: list[Leaf], wanted: list[Leaf]) -> str | None:
    """The first difference between two trees in words; None if they are the same."""
    saved_paths, wanted_paths = [x.path for x in saved], [x.path for x in wanted]
    if saved_paths != wanted_paths:
        missing = [path for path in wanted_paths if path not in saved_paths]
        extra = [path for path in saved_paths if path not in wanted_paths]
        if missing:
            return f"it has no {missing[0]}"
        return f"it has {extra[0]}, unknown here" if extra else "its leaves are in another order"
    for a, b in zip(saved, wanted, strict=True):
        if a != b:
            return f"{a.path} is {a.dtype}{list(a.shape)} there and {b.dtype}{list(b.shape)} here"
    return None


def restored_leaf(array: Any, leaf: Leaf, like: Any) -> Any:
    """The original leaf from a stored array, placed like `like` (None: on the host)."""
    if leaf.kind == "python":
        return {"bool": bool, "int": int, "float": float, "complex": complex}[leaf.dtype](array)
    if leaf.kind.startswith(KEY):
        generators = {str(jax.random.key(0, impl=i).dtype): i for i in GENERATORS}
        keys = jax.random.wrap_key_data(jnp.asarray(array), impl=generators[leaf.dtype])
        sharding = getattr(like, "sharding", None)
        return keys if on_default_device(sharding) else jax.device_put(keys, sharding)
    if isinstance(array, jax.Array) or isinstance(like, np.ndarray | np.generic):
        return array
    return jax.device_put(array) if like is not None else array


def on_default_device(sharding: Any) -> bool:
    """Whether this sharding is where JAX puts new arrays anyway."""
    return sharding is None or sharding.device_set == {jax.local_devices()[0]}


def digest(array: Any) -> str:
    """SHA-256 of an array's dtype, shape and bytes, in row-major order.

    All processes must call it for an array that lies on devices of several; it is gathered by
    blocks of rows.
    """
    array = array if hasattr(array, "dtype") else np.asarray(array)
    hasher = hashlib.sha256(f"{array.dtype} {np.shape(array)} ".encode())
    for block in _blocks(array):
        hasher.update(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
    return hasher.hexdigest()


def _blocks(array: Any) -> Iterator[np.ndarray]:
    """An array on the host, in one piece or, gathered from other processes, by rows."""
    if is_whole_here(array):
        yield np.asarray(array)
        return
    rows = max(1, math.ceil(len(array) * BLOCK_BYTES / array.nbytes))
    for start in range(0, len(array), rows):
        size = min(rows, len(array) - start)
        yield on_host(jax.lax.dynamic_slice_in_dim(array, start, size))


def tree_digest(tree: PyTree) -> str:
    """SHA-256 of the arrays of a tree with their paths; equal digests mean equal numbers."""
    hasher = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        hasher.update(f"{jax.tree_util.keystr(path)} {digest(leaf)}\n".encode())
    return hasher.hexdigest()


def skeleton(tree: PyTree) -> Any:
    """The nesting of dicts, lists and tuples of a tree as JSON; other containers give None.

    With its skeleton a tree can be read back without an example.
    """
    if isinstance(tree, dict) and all(isinstance(key, str) for key in tree):
        parts = [(key, skeleton(tree[key])) for key in sorted(tree)]
        return None if any(p is None for _, p in parts) else {"dict": dict(parts)}
    if type(tree) in (list, tuple):
        parts = [skeleton(part) for part in tree]
        return None if None in parts else {type(tree).__name__: parts}
    if tree is None:
        return "none"
    return "leaf" if jax.tree_util.all_leaves([tree]) else None


def from_skeleton(shape: Any, leaves: list[Any]) -> PyTree:
    """The tree of a skeleton, with leaves taken in order from the front of the list."""
    if shape == "leaf":
        return leaves.pop(0)
    if shape == "none":
        return None
    ((container, parts),) = shape.items()
    if container == "dict":
        return {key: from_skeleton(parts[key], leaves) for key in sorted(parts)}
    return (list if container == "list" else tuple)(from_skeleton(p, leaves) for p in parts)
