"""The one place that jits training: the mesh, the rules for splitting arrays, `compile_update`.

Arrays have named axes ("embed", "mlp", ...), and a table of rules maps the names to mesh axes. The
mesh axes are Auto: inputs and outputs have the shardings given here, and the compiler chooses those
of everything in between.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rlhf_jax.types import Metrics, PyTree

Rules = Mapping[str, str | None]

RULES: Rules = {
    "batch": "data",
    "vocab": "model",
    "mlp": "model",
    "heads": "model",
    "kv_heads": "model",
    "embed": None,
    "head_dim": None,
    "layers": None,
    "positions": None,
    "experts": None,  # "mlp" splits every expert, so each device does its share of any load
}


def make_mesh(*, model: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with axes "data" and "model", the latter `model` devices wide.

    Args:
      model: number of devices over which each copy of the parameters is split; must divide the
        number of devices.
      devices: None takes all devices.
    """
    chosen = list(jax.devices() if devices is None else devices)
    if model < 1 or len(chosen) % model:
        raise ValueError(f"model = {model} does not divide {len(chosen)} devices")
    grid = np.array(chosen).reshape(len(chosen) // model, model)
    return Mesh(grid, ("data", "model"), axis_types=(AxisType.Auto, AxisType.Auto))


def shard_params(axes_tree: PyTree, mesh: Mesh, rules: Rules = RULES) -> PyTree:
    """The sharding of each parameter.

    Args:
      axes_tree: a tree like the parameters, with a tuple of axis names for each array. An axis is
        not split if its name is None or mapped to None. If two axes of an array map to the same
        mesh axis, only the first is split.
      mesh: from `make_mesh`.
      rules: axis name -> mesh axis or None.
    """

    def sharding(names: tuple[str | None, ...]) -> NamedSharding:
        spec: list[str | None] = []
        for name in names:
            if name is not None and name not in rules:
                raise ValueError(f"no rule for axis {name!r}; the rules know {sorted(rules)}")
            axis = None if name is None else rules[name]
            spec.append(None if axis in spec else axis)
        return NamedSharding(mesh, PartitionSpec(*spec))

    # A NamedTuple of parameters is a container, not a tuple of names: hence `type(part) is tuple`.
    def is_names(part: PyTree) -> bool:
        return type(part) is tuple and all(name is None or isinstance(name, str) for name in part)

    return jax.tree.map(sharding, axes_tree, is_leaf=is_names)


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


def compile_update(
    update: Callable[..., tuple[PyTree, Metrics]],
    *,
    mesh: Mesh | None = None,
    state_shardings: PyTree | None = None,
    batch_axis: str = "data",
    donate: bool = True,
) -> Callable[..., tuple[PyTree, Metrics]]:
    """jit for `update(state, batch, *rest) -> (state, metrics)`, on one device or on a mesh.

    On a mesh the leading axis of every batch array is split over `batch_axis`; `rest` (keys, step
    numbers, swept floats) and the metrics are copied to every device.

    Args:
      update: pure; from an `algos` file.
      mesh: None compiles for the default device and ignores the shardings.
      state_shardings: from `shard_state`; None copies the state to every device.
      batch_axis: a mesh axis.
      donate: whether the new state reuses the memory of the old one, which must then not be read
        again.
    Returns:
      The compiled update, with the same arguments. It raises ValueError for a batch that the mesh
      axis does not divide.
    """
    # Without donation the old and the new state are in memory at once: twice params and moments.
    donated = (0,) if donate else ()
    if mesh is None:
        return jax.jit(update, donate_argnums=donated)
    replicated = NamedSharding(mesh, PartitionSpec())
    state_shardings = replicated if state_shardings is None else state_shardings
    compiled = jax.jit(update, donate_argnums=donated, out_shardings=(state_shardings, replicated))

    def sharded_update(state: PyTree, batch: PyTree, *rest: Any) -> tuple[PyTree, Metrics]:
        # Does nothing from the second step on: the state already has these shardings.
        state = jax.device_put(state, state_shardings)
        batch = split_batch(batch, mesh, batch_axis)
        return compiled(state, batch, *jax.device_put(rest, replicated))

    return sharded_update


def split_batch(batch: PyTree, mesh: Mesh, axis: str = "data") -> PyTree:
    """Puts a batch on the mesh: arrays are split along their first axis, scalars are copied."""
    ways = mesh.shape[axis]

    def place(x: Any) -> jax.Array:
        if np.ndim(x) == 0:
            return jax.device_put(x, NamedSharding(mesh, PartitionSpec()))
        if x.shape[0] % ways:
            raise ValueError(
                f"a batch of {x.shape[0]} does not divide over {ways} devices: "
                f"use a multiple of {ways}"
            )
        return jax.device_put(x, NamedSharding(mesh, PartitionSpec(axis)))

    return jax.tree.map(place, batch)
