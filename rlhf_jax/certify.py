"""The layout certificate: a loss must not depend on how its batch is laid out.

Micro-batches, padding, packing and devices are accidents of a run; a mean of means, a read under
the mask or a statistic of "the batch" makes them part of the objective. `certify` runs a loss
under each of them and measures by how much value and gradient move:

- micro-batches, equal and unequal: totals, weights and gradients added, divided once;
- gradient accumulation: the same inside one jitted scan;
- row order; padding of two widths, with junk in it; padding side; packing; rows of weight zero, one
  of them empty (`layouts`);
- meshes: the batch split over the first axis, parameters over the second where they divide.

A batch in one piece is differentiated as total / weight, as a training step does. Each program runs
once, so XLA compiles it without optimisation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import keystr, tree_flatten_with_path

from rlhf_jax.layouts import (
    NotApplicable,
    count_rows,
    equal_parts,
    packed,
    padded,
    padded_left,
    padded_wide,
    reordered,
    unequal_parts,
    with_empty_rows,
)
from rlhf_jax.ops.masking import Mean
from rlhf_jax.sharding import make_mesh, split_batch
from rlhf_jax.types import Params, PyTree

Layout = Callable[[PyTree], Sequence[PyTree]]  # batch -> parts that add up to it

LAYOUTS: Mapping[str, Layout] = {
    "unequal micro-batches": unequal_parts,
    "row order": reordered,
    "padding": padded,
    "wide padding": padded_wide,
    "padding side": padded_left,
    "packing": packed,
    "rows of weight zero": with_empty_rows,
}


class Deviation(NamedTuple):
    """How far a layout moves a loss and its gradient; inf where it makes them NaN.

    value: |v' - v| / max(|v|, max |g|); gradient: max |g' - g| / max |g|. v and g are value and
    gradient of the whole batch, max goes over all entries of all parameters, 0 / 0 is 0. The
    gradient is in the value's scale because a loss may be 0 by cancellation, as that of centred
    advantages is where no ratio has moved.
    """

    value: float
    gradient: float


@dataclass(frozen=True)
class Certificate:
    """What `certify` measured; its string is a table.

    deviations: layout -> Deviation.
    not_applicable: layout -> why it was not run.
    tolerance: the largest deviation that holds.
    """

    deviations: Mapping[str, Deviation]
    not_applicable: Mapping[str, str]
    tolerance: float

    @property
    def worst_layout(self) -> str:
        """The layout with the largest deviation."""
        return max(self.deviations, key=lambda name: max(self.deviations[name]))

    @property
    def worst(self) -> float:
        """The largest deviation of a value or gradient under any layout that was run."""
        return max(self.deviations[self.worst_layout])

    @property
    def holds(self) -> bool:
        """Whether no layout deviates by more than the tolerance."""
        return self.worst <= self.tolerance

    def __str__(self) -> str:
        width = max(map(len, [*self.deviations, *self.not_applicable]))
        lines = [f"{'layout':<{width}}  {'value':>8}  {'gradient':>8}"]
        for name, deviation in self.deviations.items():
            over = "" if max(deviation) <= self.tolerance else "  <- differs"
            numbers = "  ".join(f"{x:8.1e}" for x in deviation)
            lines.append(f"{name:<{width}}  {numbers}{over}")
        for name, reason in self.not_applicable.items():
            lines.append(f"{name:<{width}}  not applicable: {reason}")
        verdict = "holds" if self.holds else "does not hold"
        worst = f"worst {self.worst:.1e} ({self.worst_layout})"
        return "\n".join([*lines, f"{worst}, tolerance {self.tolerance:.0e}: {verdict}"])


class Slope(NamedTuple):
    """A loss and its gradient."""

    value: jax.Array
    grads: PyTree


class Sums(NamedTuple):
    """What parts of a batch add up: total, weight, and the gradient of the total."""

    total: jax.Array
    weight: jax.Array
    grads: PyTree


class Programs(NamedTuple):
    """A loss compiled once for each shape: `(params, batch) -> Slope` of a batch in one piece, and
    `(params, batch) -> Sums` of one of its parts."""

    slope: Callable[[Params, PyTree], Slope]
    sums: Callable[[Params, PyTree], Sums]


# Compilation is most of a certificate's time, and half of it without LLVM's optimisation.
_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def certify(
    loss_fn: Callable[[Params, PyTree], PyTree],
    batch: PyTree,
    *,
    params: Params,
    parts: int = 2,
    meshes: Sequence[tuple[int, int]] | None = None,
    layouts: Mapping[str, Layout] = LAYOUTS,
    skip: Mapping[str, str] | None = None,
    tolerance: float = 1e-5,
    show: bool = True,
) -> Certificate:
    """Layout certificate: value and gradient of a loss under every layout a run would use.

    max over layouts of |loss(laid out) - loss(batch)|, relative, as `Deviation` defines it.

    Args:
      loss_fn: `(params, batch) -> Mean` of two scalars, or `(Mean, diagnostics)` as the objectives
        of `algos` return. A plain scalar is taken as a mean of weight 1: what a training step does
        that averages it over micro-batches.
      batch: arrays with the rows first; `rlhf_jax.layouts` tells how steps are found in it. Rows
        should differ in length: otherwise a mean of means is the mean.
      params: where to evaluate; not where the gradient is 0.
      parts: micro-batches, >= 2.
      meshes: (data, model) axis sizes; None for (n, 1) and (n / 2, 2) of the n devices present.
      layouts: name -> `batch -> parts`; `{**LAYOUTS, name: layout}` adds or replaces one.
      skip: layout -> why it does not apply to this loss, e.g. packing to a mean over rows.
      tolerance: the largest deviation that holds, > 0; float32 rounds at 1e-7 to 5e-6.
      show: print the certificate.
    Returns:
      Certificate. Layouts that were skipped, or that the batch cannot take, are in it with the
      reason.
    Raises:
      ValueError: batch arrays without rows, or whose rows differ; fewer rows than parts; `skip`
        names no layout; a value or gradient of the whole batch is not finite; no layout is left.
      TypeError: loss_fn returns something else.
    """
    batch = jax.device_get(batch)
    _check_parts(parts, count_rows(batch))
    programs = _make_programs(loss_fn)
    runs = _runs(loss_fn, programs, batch, parts=parts, meshes=meshes, layouts=layouts)
    skip = {} if skip is None else skip
    if unknown := sorted(skip.keys() - runs.keys()):
        raise ValueError(f"no such layout: {unknown}; there are {sorted(runs)}")
    whole = _checked(jax.device_get(programs.slope(params, batch)))
    deviations, not_applicable = {}, {}
    for name, run in runs.items():
        try:
            if name in skip:
                raise NotApplicable(skip[name])
            deviations[name] = _deviation(whole, run(params))
        except NotApplicable as reason:
            not_applicable[name] = str(reason)
    if not deviations:
        raise ValueError("every layout is skipped or not applicable: nothing is certified")
    certificate = Certificate(deviations, not_applicable, tolerance)
    if show:
        print(certificate)
    return certificate


def _check_parts(parts: int, rows: int) -> None:
    if parts < 2:
        raise ValueError(f"parts must be at least 2, got {parts}")
    if rows < parts:
        raise ValueError(f"a batch of {rows} rows cannot be split into {parts} parts")


def _as_mean(result: PyTree) -> Mean:
    """What a loss returned, as a Mean of two scalars."""
    loss = result
    if isinstance(result, tuple) and not isinstance(result, Mean) and len(result) == 2:
        loss = result[0]
    if isinstance(loss, Mean) and np.shape(loss.total) == np.shape(loss.weight) == ():
        return loss
    if isinstance(loss, jax.Array | float) and np.ndim(loss) == 0:
        return Mean(jnp.asarray(loss), jnp.ones(()))
    told = jax.tree.map(np.shape, loss) if isinstance(loss, Mean) else type(loss).__name__
    if isinstance(loss, jax.Array):
        told = f"an array of shape {loss.shape}"
    raise TypeError(
        f"loss_fn must return a Mean of two scalars, (Mean, diagnostics) or a scalar; got {told}"
    )


def _checked(whole: Slope) -> Slope:
    """Value and gradient of the whole batch, which must be finite."""
    if not np.isfinite(whole.value):
        raise ValueError(f"the loss is {whole.value} on the whole batch: nothing to compare with")
    for path, x in tree_flatten_with_path(whole.grads)[0]:
        if not np.isfinite(x).all():
            raise ValueError(f"the gradient of params{keystr(path)} is not finite")
    return whole


def _make_programs(loss_fn: Callable) -> Programs:
    def loss(params, batch):
        return _as_mean(loss_fn(params, batch)).value()

    def slope(params, batch):
        return Slope(*jax.value_and_grad(loss)(params, batch))

    return Programs(_jit(slope), _jit(partial(_sums, loss_fn)))


def _sums(loss_fn: Callable, params: Params, batch: PyTree) -> Sums:
    """One part of a batch, before anything is divided."""

    def total_and_weight(params):
        loss = _as_mean(loss_fn(params, batch))
        return loss.total, loss.weight

    (total, weight), grads = jax.value_and_grad(total_and_weight, has_aux=True)(params)
    return Sums(total, weight, grads)


def _runs(
    loss_fn: Callable,
    programs: Programs,
    batch: PyTree,
    *,
    parts: int,
    meshes: Sequence[tuple[int, int]] | None,
    layouts: Mapping[str, Layout],
) -> dict[str, Callable[[Params], Slope]]:
    """Layout -> what evaluates the batch under it."""
    runs: dict[str, Callable[[Params], Slope]] = {}
    split: dict[str, Layout] = {"micro-batches": partial(equal_parts, parts=parts)}
    for name, layout in (split | dict(layouts)).items():
        runs[name] = partial(_in_parts, programs, batch, layout)
    runs["gradient accumulation"] = partial(_accumulated, loss_fn, batch, parts)
    for data, model in _meshes() if meshes is None else meshes:
        runs[f"mesh {data}x{model}"] = partial(_on_mesh, programs, batch, (data, model))
    return runs


def _in_parts(programs: Programs, batch: PyTree, layout: Layout, params: Params) -> Slope:
    """The parts of a layout, each by itself, added up."""
    parts = layout(batch)
    if len(parts) == 1:
        return programs.slope(params, parts[0])
    return _divided([programs.sums(params, part) for part in parts])


def _divided(sums: Sequence[Sums]) -> Slope:
    """Sums added up and divided once, in float64 on the host."""
    total, weight, grads = jax.tree.map(
        lambda *terms: np.sum(np.asarray(terms, np.float64), axis=0), *jax.device_get(sums)
    )
    weight = weight or 1.0  # nothing counts: all is 0
    return Slope(total / weight, jax.tree.map(lambda x: x / weight, grads))


def _accumulated(loss_fn: Callable, batch: PyTree, parts: int, params: Params) -> Slope:
    """Micro-batches added up inside one jitted scan."""
    rows = count_rows(batch)
    if rows % parts:
        raise NotApplicable(f"{rows} rows do not divide into {parts} equal parts")
    stacked = jax.tree.map(lambda x: x.reshape(parts, rows // parts, *x.shape[1:]), batch)

    @_jit
    def run(params, stacked):
        sums = partial(_sums, loss_fn)
        shapes = jax.eval_shape(sums, params, jax.tree.map(lambda x: x[0], stacked))
        empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        def add(so_far, part):
            return jax.tree.map(jnp.add, so_far, sums(params, part)), None

        return jax.lax.scan(add, empty, stacked)[0]

    return _divided([run(params, stacked)])


def _meshes() -> list[tuple[int, int]]:
    """(n, 1) and (n / 2, 2) for the devices present; (1, 1), which does not apply, for one."""
    count = len(jax.devices())
    return [(count, 1), (count // 2, 2)] if count > 2 and count % 2 == 0 else [(count, 1)]


def _on_mesh(programs: Programs, batch: PyTree, shape: tuple[int, int], params: Params) -> Slope:
    """The batch split over a mesh's first axis, parameters over its second where they divide."""
    data, model = shape
    devices, rows = jax.devices(), count_rows(batch)
    if data * model == 1:
        raise NotApplicable("one device is the whole batch")
    if len(devices) < data * model:
        raise NotApplicable(f"{data * model} devices are needed, {len(devices)} present")
    if rows % data:
        raise NotApplicable(f"{rows} rows do not divide over {data} devices")
    mesh = make_mesh(model=model, devices=devices[: data * model])
    shardings = jax.tree.map(partial(_sharding, mesh=mesh), params)
    return programs.slope(jax.device_put(params, shardings), split_batch(batch, mesh))


def _sharding(x: jax.Array, *, mesh: Mesh) -> NamedSharding:
    """The last axis that the mesh axis "model" divides is split over it."""
    ways, spec = mesh.shape["model"], [None] * np.ndim(x)
    fits = [axis for axis, size in enumerate(np.shape(x)) if size % ways == 0]
    if fits:
        spec[fits[-1]] = "model"
    return NamedSharding(mesh, PartitionSpec(*spec))


def _deviation(whole: Slope, other: Slope) -> Deviation:
    """Deviation of another layout's value and gradient from those of the whole batch."""
    want, got = (
        [np.asarray(x, np.float64) for x in jax.tree.leaves(jax.device_get(slope))]
        for slope in (whole, other)
    )
    scale = max(map(_largest, want[1:]))
    value_gap, *gaps = (_largest(a - b) for a, b in zip(got, want, strict=True))
    return Deviation(
        _relative(value_gap, max(_largest(want[0]), scale)), _relative(max(gaps), scale)
    )


def _largest(x: np.ndarray | np.floating) -> float:
    """max |x|, inf if any is NaN."""
    return float(np.max(np.nan_to_num(np.abs(x), nan=np.inf, posinf=np.inf), initial=0.0))


def _relative(gap: float, scale: float) -> float:
    return float(gap / scale) if scale > 0 else (np.inf if gap > 0 else 0.0)
