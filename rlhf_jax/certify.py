"""The layout certificate: a loss must not depend on how its batch is laid out.

Micro-batches, padding, packing and devices are details of a run. A mean of means, a value read at
padding, or a statistic of "the batch" makes them part of the objective. `certify` runs a loss under
each of these layouts and measures how far its value and gradient move:

- micro-batches, equal and unequal: totals, weights and gradients are added, and divided once;
- gradient accumulation: the same inside one jitted scan;
- row order; two widths of padding filled with junk; padding side; packing; rows of weight zero, one
  of them empty (`layouts`);
- meshes: the batch and parameters split over the first axis, parameters over the second too, if
  these divide them.

A batch in one piece is differentiated as total / weight, as in a training step.
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
LossFn = Callable[[Params, PyTree], PyTree]  # -> Mean, (Mean, diagnostics), or a scalar

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
    """How far a layout moves a loss and its gradient; inf if it makes them NaN.

    value: |v' - v| / max(|v|, max |g|); gradient: max |g' - g| / max |g|. v and g are value and
    gradient of the whole batch, max runs over all entries of all parameters, and 0 / 0 is 0. The
    scale of the value includes the gradient because a loss can cancel to 0, e.g. centred advantages
    at ratio 1.
    """

    value: float
    gradient: float


@dataclass(frozen=True)
class Certificate:
    """The result of `certify`; its string is a table.

    deviations: layout -> Deviation.
    not_applicable: layout -> the reason why it was not run.
    tolerance: the largest accepted deviation.
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
    """The sums over a part of a batch: total, weight, and the gradient of the total."""

    total: jax.Array
    weight: jax.Array
    grads: PyTree


class Programs(NamedTuple):
    """A loss, compiled once per shape: `(params, batch) -> Slope` for a batch in one piece, and
    `(params, batch) -> Sums` for one of its parts."""

    slope: Callable[[Params, PyTree], Slope]
    sums: Callable[[Params, PyTree], Sums]


# Each program runs once, and compiling takes most of the time: without LLVM's optimisation, half.
_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def certify(
    loss_fn: LossFn,
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

    max over layouts of |loss(laid out) - loss(batch)|, relative as in `Deviation`.

    Args:
      loss_fn: `(params, batch) -> Mean` of two scalars, or `(Mean, diagnostics)` like the
        objectives of `algos`. A plain scalar counts as a mean of weight 1, as in a training step
        that averages losses over micro-batches.
      batch: arrays with the rows first; for steps and tokens see `rlhf_jax.layouts`. Rows should
        differ in length, because otherwise a mean of means is correct.
      params: a point at which the gradient is not 0.
      parts: number of micro-batches, >= 2.
      meshes: (data, model) axis sizes; None takes (n, 1) and (n / 2, 2) for n devices.
      layouts: name -> `batch -> parts`; `{**LAYOUTS, name: layout}` adds or replaces one.
      skip: layout -> reason why it does not apply to this loss, e.g. packing for a mean over rows.
      tolerance: largest accepted deviation, > 0; float32 rounding gives 1e-7 to 5e-6.
      show: whether to print the certificate.
    Returns:
      Certificate. Layouts that were skipped or do not apply to the batch are listed with the
      reason.
    Raises:
      ValueError: arrays of the batch have no rows or different numbers of rows; fewer rows than
        parts; `skip` has an unknown name; the value or gradient of the whole batch is not finite;
        no layout is left.
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
    """The output of a loss as a Mean of two scalars."""
    loss = result
    if isinstance(result, tuple) and not isinstance(result, Mean) and len(result) == 2:
        loss = result[0]
    if isinstance(loss, Mean) and np.shape(loss.total) == np.shape(loss.weight) == ():
        return loss
    if isinstance(loss, jax.Array | float) and np.ndim(loss) == 0:
        return Mean(jnp.asarray(loss), jnp.ones(()))
    found = jax.tree.map(np.shape, loss) if isinstance(loss, Mean) else type(loss).__name__
    if isinstance(loss, jax.Array):
        found = f"an array of shape {loss.shape}"
    raise TypeError(
        f"loss_fn must return a Mean of two scalars, (Mean, diagnostics) or a scalar; got {found}"
    )


def _checked(whole: Slope) -> Slope:
    """Value and gradient of the whole batch, which must be finite."""
    if not np.isfinite(whole.value):
        raise ValueError(f"the loss is {whole.value} on the whole batch: nothing to compare with")
    for path, x in tree_flatten_with_path(whole.grads)[0]:
        if not np.isfinite(x).all():
            raise ValueError(f"the gradient of params{keystr(path)} is not finite")
    return whole


def _make_programs(loss_fn: LossFn) -> Programs:
    def loss(params, batch):
        return _as_mean(loss_fn(params, batch)).value()

    def slope(params, batch):
        return Slope(*jax.value_and_grad(loss)(params, batch))

    return Programs(_jit(slope), _jit(partial(_sums, loss_fn)))


def _sums(loss_fn: LossFn, params: Params, batch: PyTree) -> Sums:
    """Sums over one part of a batch, before any division."""

    def total_and_weight(params):
        loss = _as_mean(loss_fn(params, batch))
        return loss.total, loss.weight

    (total, weight), grads = jax.value_and_grad(total_and_weight, has_aux=True)(params)
    return Sums(total, weight, grads)


def _runs(
    loss_fn: LossFn,
    programs: Programs,
    batch: PyTree,
    *,
    parts: int,
    meshes: Sequence[tuple[int, int]] | None,
    layouts: Mapping[str, Layout],
) -> dict[str, Callable[[Params], Slope]]:
    """Layout -> function `params -> Slope` that evaluates the batch under it."""
    runs: dict[str, Callable[[Params], Slope]] = {}
    split: dict[str, Layout] = {"micro-batches": partial(equal_parts, parts=parts)}
    for name, layout in (split | dict(layouts)).items():
        runs[name] = partial(_in_parts, programs, batch, layout)
    runs["gradient accumulation"] = partial(_accumulated, loss_fn, batch, parts)
    for data, model in _meshes() if meshes is None else meshes:
        runs[f"mesh {data}x{model}"] = partial(_on_mesh, programs, batch, (data, model))
    return runs


def _in_parts(programs: Programs, batch: PyTree, layout: Layout, params: Params) -> Slope:
    """The loss of a layout: its parts are evaluated one by one and added up."""
    parts = layout(batch)
    if len(parts) == 1:
        return programs.slope(params, parts[0])
    return _divided([programs.sums(params, part) for part in parts])


def _divided(sums: Sequence[Sums]) -> Slope:
    """Adds up sums and divides once, in float64 on the host."""
    total, weight, grads = jax.tree.map(
        lambda *terms: np.sum(np.asarray(terms, np.float64), axis=0), *jax.device_get(sums)
    )
    weight = weight or 1.0  # if nothing counts, all sums are 0
    return Slope(total / weight, jax.tree.map(lambda x: x / weight, grads))


def _accumulated(loss_fn: LossFn, batch: PyTree, parts: int, params: Params) -> Slope:
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
    """(n, 1) and (n / 2, 2) for n devices; (1, 1) for one device, which `_on_mesh` refuses."""
    count = len(jax.devices())
    return [(count, 1), (count // 2, 2)] if count > 2 and count % 2 == 0 else [(count, 1)]


def _on_mesh(programs: Programs, batch: PyTree, shape: tuple[int, int], params: Params) -> Slope:
    """The batch and parameters split over the first axis, parameters over the second too."""
    data, model = shape
    devices, rows = jax.devices(), count_rows(batch)
    if data * model == 1:
        raise NotApplicable("one device is the whole batch")
    if len(devices) < data * model:
        raise NotApplicable(f"{data * model} devices are needed, {len(devices)} present")
    if rows % data:
        raise NotApplicable(f"{rows} rows do not divide over {data} devices")
    mesh = make_mesh(fsdp=data, model=model, devices=devices[: data * model])
    shardings = jax.tree.map(partial(_sharding, mesh=mesh), params)
    return programs.slope(jax.device_put(params, shardings), split_batch(batch, mesh))


def _sharding(x: jax.Array, *, mesh: Mesh) -> NamedSharding:
    """Splits the last axis that "model" divides, and the last other one that "fsdp" divides."""
    spec: list[str | None] = [None] * np.ndim(x)
    for name in ("model", "fsdp"):
        ways = mesh.shape[name]
        fits = [i for i, size in enumerate(np.shape(x)) if size % ways == 0 and spec[i] is None]
        if ways > 1 and fits:
            spec[fits[-1]] = name
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
