"""The one place that jits training: the mesh, the rules for splitting arrays, `compile_update`.

Arrays have named axes ("embed", "mlp", ...), and a table of rules maps the names to mesh axes:

    data       copies of the parameters; each reads its own rows
    fsdp       its own rows too, and a part of every parameter, gathered where it is used
    sequence   its own tokens of every row; keys and values are gathered
    model      its own heads, MLP features and words (tensor parallelism)

The mesh axes are Auto: parameters, batches and residual streams have the shardings given here, and
the compiler chooses those of everything in between.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rlhf_jax.types import Metrics, PyTree

MeshAxes = str | tuple[str, ...] | None
Rules = Mapping[str, MeshAxes]

AXES = ("data", "fsdp", "sequence", "model")
BATCH = ("data", "fsdp")
RULES: Rules = {
    "batch": BATCH,
    "length": "sequence",
    "vocab": "model",
    "mlp": "model",
    "heads": "model",
    "kv_heads": "model",
    "embed": "fsdp",
    "head_dim": None,
    "layers": None,
    "positions": None,
    "experts": None,  # "mlp" splits every expert, so each device does its share of any load
}


def make_mesh(
    *,
    data: int | None = None,
    fsdp: int | None = None,
    sequence: int = 1,
    model: int = 1,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """A mesh with the axes "data", "fsdp", "sequence" and "model".

    Neighbours along "model", then "sequence", are close to each other in the network of a TPU.

    Args:
      data, fsdp: ways; of an axis that is left out, as many as devices are left. If both are, the
        parameters are split over them: fsdp takes them all.
      sequence, model: ways.
      devices: None takes all devices.
    Raises:
      ValueError: the product is not the number of devices.
    """
    chosen = list(jax.devices() if devices is None else devices)
    given = {"data": data, "fsdp": fsdp, "sequence": sequence, "model": model}
    known = math.prod(ways for ways in given.values() if ways is not None)
    if known < 1 or len(chosen) % known:
        raise ValueError(f"{_spelled(given)} does not divide {len(chosen)} devices")
    rest = len(chosen) // known
    if fsdp is None:
        given |= {"fsdp": rest, "data": data or 1}
    elif data is None:
        given["data"] = rest
    elif rest > 1:
        raise ValueError(f"{_spelled(given)} uses {known} of {len(chosen)} devices")
    return _mesh(tuple(given[name] or 1 for name in AXES), chosen)


def parse_mesh(text: str) -> dict[str, int]:
    """Ways by axis from "fsdp=8,model=4", the arguments of `make_mesh`.

    Raises:
      ValueError: anything else.
    """
    found: dict[str, int] = {}
    for part in text.split(","):
        name, _, ways = part.strip().partition("=")
        if name not in AXES or name in found or not ways.isdecimal() or int(ways) < 1:
            raise ValueError(
                f"a mesh is written like fsdp=8,model=4, each axis ({', '.join(AXES)}) once with "
                f"its number of devices; got {text!r}"
            )
        found[name] = int(ways)
    return found


def batch_ways(mesh: Mesh | None) -> int:
    """Devices, or groups of them, with rows of their own: batches must be multiples of it."""
    return 1 if mesh is None else _batch_ways(mesh.shape)


def check_mesh(axes_tree: PyTree, params: PyTree, mesh: Mesh, rules: Rules = RULES) -> None:
    """ValueError for a parameter that the mesh does not divide, with the nearest mesh that does.

    Args:
      axes_tree: as in `shard_params`.
      params: arrays or `jax.ShapeDtypeStruct`.
    """
    wrong, divisors = None, dict.fromkeys(AXES, 0)
    named = jax.tree.leaves_with_path(axes_tree, is_leaf=_is_names)
    for (path, names), leaf in zip(named, jax.tree.leaves(params), strict=True):
        for name, spec, size in zip(names, _spec(names, rules), np.shape(leaf), strict=True):
            for axis in _tuple(spec):
                divisors[axis] = math.gcd(divisors[axis], size)
            ways = math.prod(mesh.shape[axis] for axis in _tuple(spec))
            if wrong is None and size % ways:
                place = f"{jax.tree_util.keystr(path)} ({name})"
                wrong = f"{size} at {place} does not divide over {ways} devices of {spec!r}"
    if wrong is None:
        return
    near = _nearest(mesh, lambda shape: all(divisors[a] % shape[a] == 0 for a in AXES))
    raise ValueError(f"the mesh {_spelled(mesh.shape)} does not fit this model: {wrong}; {near}")


def shard_params(axes_tree: PyTree, mesh: Mesh, rules: Rules = RULES) -> PyTree:
    """The sharding of each parameter.

    Args:
      axes_tree: a tree like the parameters, with a tuple of axis names for each array. An axis is
        not split if its name is None or mapped to None. If two axes of an array map to the same
        mesh axis, only the first is split.
      mesh: from `make_mesh`.
      rules: axis name -> mesh axes or None.
    """
    return jax.tree.map(
        lambda names: NamedSharding(mesh, PartitionSpec(*_spec(names, rules))),
        axes_tree,
        is_leaf=_is_names,
    )


def constrain(x: jax.Array, mesh: Mesh | None, *names: str | None) -> jax.Array:
    """x, split over the mesh by the names of its axes; None as a name: not split.

    Without this the compiler may gather a batch rather than the parameters. An axis that its ways
    do not divide is not split. Without a mesh it does nothing.
    """
    if mesh is None:
        return x
    return jax.lax.with_sharding_constraint(
        x, NamedSharding(mesh, partition(mesh, x.shape, *names))
    )


def partition(mesh: Mesh, shape: tuple[int, ...], *names: str | None) -> PartitionSpec:
    """The mesh axes of an array with axes of these names, as `constrain` splits it."""
    spec = [
        each if size % math.prod(mesh.shape[a] for a in _tuple(each)) == 0 else None
        for each, size in zip(_spec(names, RULES), shape, strict=True)
    ]
    return PartitionSpec(*spec)


def shard_state(state: PyTree, params: PyTree, params_shardings: PyTree, mesh: Mesh) -> PyTree:
    """The shardings of a state: parameters, optimiser moments shaped like them, and counters.

    Every part of `state` with the structure and shapes of `params` gets `params_shardings`;
    everything else is copied to every device.

    Args:
      state: arrays or `jax.ShapeDtypeStruct`.
      params: the parameters in the state, likewise.
      params_shardings: from `shard_params`.
      mesh: the mesh of params_shardings.
    """
    replicated = NamedSharding(mesh, PartitionSpec())
    structure, shapes = jax.tree.structure(params), [x.shape for x in jax.tree.leaves(params)]

    def like_params(part: PyTree) -> bool:
        return (
            jax.tree.structure(part) == structure
            and [leaf.shape for leaf in jax.tree.leaves(part)] == shapes
        )

    return jax.tree.map(
        lambda part: params_shardings if like_params(part) else replicated,
        state,
        is_leaf=like_params,
    )


@dataclass(frozen=True)
class MeshUpdate:
    """A compiled update of a mesh: called like the update, or lowered with abstract arrays."""

    compiled: Any
    mesh: Mesh
    state_shardings: PyTree

    def __call__(self, state: PyTree, batch: PyTree, *rest: Any) -> tuple[PyTree, Metrics]:
        """Puts the arguments on the mesh and runs the step."""
        # Does nothing from the second step on: the state already has these shardings.
        state = jax.device_put(state, self.state_shardings)
        batch = split_batch(batch, self.mesh)
        everywhere = NamedSharding(self.mesh, PartitionSpec())
        return self.compiled(state, batch, *jax.tree.map(lambda x: _copied(x, everywhere), rest))

    def lower(self, state: PyTree, batch: PyTree, *rest: Any) -> jax.stages.Lowered:
        """The program for arguments of these shapes, which are not read."""
        check_batch(batch, self.mesh)
        batched = jax.tree.map(lambda x: batch_sharding(x, self.mesh), batch)
        rest_shardings = NamedSharding(self.mesh, PartitionSpec())
        shapes = (
            _abstract(state, self.state_shardings),
            _abstract(batch, batched),
            *_abstract(rest, rest_shardings),
        )
        return self.compiled.lower(*shapes)


def compile_update(
    update: Callable[..., tuple[PyTree, Metrics]],
    *,
    mesh: Mesh | None = None,
    state_shardings: PyTree | None = None,
    donate: bool = True,
) -> Any:
    """jit for `update(state, batch, *rest) -> (state, metrics)`, on one device or on a mesh.

    On a mesh the leading axis of every batch array is split over "data" and "fsdp"; `rest` (keys,
    step numbers, swept floats) and the metrics are copied to every device.

    Args:
      update: pure; from an `algos` file.
      mesh: None compiles for the default device and ignores the shardings.
      state_shardings: from `shard_state`; None copies the state to every device.
      donate: whether the new state reuses the memory of the old one, which must then not be read
        again.
    Returns:
      The compiled update, with the same arguments, and `.lower` of them or of their shapes. It
      raises ValueError for a batch that the mesh does not divide.
    """
    # Without donation the old and the new state are in memory at once: twice params and moments.
    donated = (0,) if donate else ()
    if mesh is None:
        return jax.jit(update, donate_argnums=donated)
    replicated = NamedSharding(mesh, PartitionSpec())
    state_shardings = replicated if state_shardings is None else state_shardings
    compiled = jax.jit(update, donate_argnums=donated, out_shardings=(state_shardings, replicated))
    return MeshUpdate(compiled, mesh, state_shardings)


def split_batch(batch: PyTree, mesh: Mesh) -> PyTree:
    """Puts a batch on the mesh: arrays are split along their first axis, scalars are copied."""
    check_batch(batch, mesh)
    return jax.tree.map(lambda x: jax.device_put(x, batch_sharding(x, mesh)), batch)


def batch_sharding(x: Any, mesh: Mesh) -> NamedSharding:
    """The sharding of an array of a batch."""
    return NamedSharding(mesh, PartitionSpec(BATCH) if np.ndim(x) else PartitionSpec())


def check_batch(batch: PyTree, mesh: Mesh) -> None:
    """ValueError for an array that the mesh does not divide, with the nearest mesh that does."""
    ways = batch_ways(mesh)
    for x in jax.tree.leaves(batch):
        if np.ndim(x) and x.shape[0] % ways:
            near = _nearest(mesh, lambda shape, rows=x.shape[0]: rows % _batch_ways(shape) == 0)
            raise ValueError(
                f"a batch of {x.shape[0]} does not divide over {ways} devices: "
                f"use a multiple of {ways}; {near}"
            )


def _copied(x: Any, sharding: NamedSharding) -> jax.Array:
    """x on the devices of a sharding; `device_put` refuses keys where other processes have some."""
    if not jax.dtypes.issubdtype(getattr(x, "dtype", np.dtype(float)), jax.dtypes.prng_key):
        return jax.device_put(x, sharding)
    words = jax.device_put(jax.random.key_data(x), sharding)
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(x))


def on_host(tree: PyTree) -> PyTree:
    """`jax.device_get`, also of arrays that lie on devices of several processes.

    All processes must call it, and each gets the whole arrays.
    """

    def gathered(x: Any) -> Any:
        if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
            return x
        return multihost_utils.process_allgather(x, tiled=True)

    return jax.device_get(jax.tree.map(gathered, tree))


def _mesh(shape: tuple[int, ...], devices: Sequence[jax.Device]) -> Mesh:
    """Devices of the accelerators of a network in an order that fits it; others as they come."""
    slices = {getattr(device, "slice_index", 0) for device in devices}
    if len(slices) > 1:  # the slow network between slices carries the outermost axis
        over = (len(slices), *[1] * (len(shape) - 1))
        if shape[0] % len(slices):
            raise ValueError(f"data={shape[0]} is not a multiple of the {len(slices)} TPU slices")
        inner = (shape[0] // len(slices), *shape[1:])
        grid = mesh_utils.create_hybrid_device_mesh(
            inner, over, devices, allow_split_physical_axes=True
        )
    elif devices[0].platform == "tpu":
        grid = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    else:
        grid = np.array(devices).reshape(shape)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _nearest(mesh: Mesh, fits: Callable[[Mapping[str, int]], bool]) -> str:
    """The mesh of as many devices that fits and has the most similar ways."""
    wanted = [mesh.shape[name] for name in AXES]

    def distance(shape: tuple[int, ...]) -> float:
        return sum(abs(math.log(a / b)) for a, b in zip(shape, wanted, strict=True))

    shapes = (s for s in _shapes(mesh.size, len(AXES)) if fits(dict(zip(AXES, s, strict=True))))
    best = min(shapes, key=distance, default=None)
    if best is None:
        return f"no mesh of {mesh.size} devices does"
    return f"{_spelled(dict(zip(AXES, best, strict=True)))} does"


def _shapes(size: int, count: int) -> Iterator[tuple[int, ...]]:
    """All tuples of `count` factors of `size`."""
    if count == 1:
        yield (size,)
        return
    for first in range(1, size + 1):
        if size % first == 0:
            for others in _shapes(size // first, count - 1):
                yield (first, *others)


def _spelled(ways: Mapping[str, int | None]) -> str:
    """fsdp=8,model=4: the axes of more than one way."""
    parts = [f"{name}={count}" for name, count in ways.items() if count not in (None, 1)]
    return ",".join(parts) or "data=1"


def _batch_ways(shape: Mapping[str, int]) -> int:
    return math.prod(shape[name] for name in BATCH)


def _spec(names: tuple[str | None, ...], rules: Rules) -> list[MeshAxes]:
    """The mesh axes of each axis, each mesh axis once."""
    spec: list[MeshAxes] = []
    for name in names:
        if name is not None and name not in rules:
            raise ValueError(f"no rule for axis {name!r}; the rules know {sorted(rules)}")
        axes = None if name is None else rules[name]
        spec.append(None if axes in spec else axes)
    return spec


def _tuple(axes: MeshAxes) -> tuple[str, ...]:
    if axes is None:
        return ()
    return axes if isinstance(axes, tuple) else (axes,)


def _is_names(part: PyTree) -> bool:
    """A tuple of names. A NamedTuple of parameters is a container: hence `type(part) is tuple`."""
    return type(part) is tuple and all(name is None or isinstance(name, str) for name in part)


def _abstract(tree: PyTree, shardings: PyTree) -> PyTree:
    """Shapes with shardings, of which one may stand for a whole part of the tree."""

    def shapes(sharding: NamedSharding, part: PyTree) -> PyTree:
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=sharding), part
        )

    return jax.tree.map(shapes, shardings, tree)
