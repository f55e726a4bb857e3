"""What one run of a compiled program costs a chip: matrix products, HBM traffic, collectives.

Every loop counts as often as it runs. (`compiled.cost_analysis()` counts its body once.)
"""

import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np

from rlhf_jax.plan.hlo import (
    ArrayType,
    Computation,
    Instruction,
    Module,
    called,
    numbers,
    trip_count,
)
from rlhf_jax.plan.kernels import kernel_flops

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
# Names and views of what is in memory already; what they stand for is counted where it is used.
FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota"),
    *("partition-id", "replica-id", "while", "conditional", "call", "async-start", "async-update"),
    *("async-done", "copy-done", "opt-barrier", "optimization-barrier", "domain"),
}
SLICES = {"dynamic-slice", "slice", "gather"}


class Collective(NamedTuple):
    """A kind of COLLECTIVES among the devices of `groups`, as the program writes them."""

    kind: str
    groups: str


@dataclass(frozen=True)
class Cost:
    """flops: of matrix products, 2 for a multiplication with its addition. hbm: bytes read and
    written. collectives: bytes that go into each, per chip."""

    flops: float | int
    hbm: float | int
    collectives: Counter

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.flops + other.flops, self.hbm + other.hbm, self.collectives + other.collectives
        )

    def times(self, count: int) -> "Cost":
        """The cost of so many runs."""
        payload: Counter[Collective] = Counter(
            {name: count * size for name, size in self.collectives.items()}
        )
        return Cost(count * self.flops, count * self.hbm, payload)


NOTHING = Cost(0.0, 0.0, Counter())


def program_cost(module: Module) -> Cost:
    """The cost of the entry computation, everything that it runs included."""

    @cache
    def computation(name: str) -> Cost:
        lines = module.computations[name].instructions.values()
        return sum((instruction(name, one) for one in lines), NOTHING)

    def instruction(place: str, one: Instruction) -> Cost:
        here = module.computations[place]
        if one.opcode == "while":
            body, test = called(one, "body"), called(one, "condition")
            runs = [computation(each) for each in (body, test) if each]
            return sum(runs, NOTHING).times(trip_count(module, here, one))
        if one.opcode == "conditional":
            names = re.findall(r"%([\w.\-]+)", one.attributes.split("branch_computations")[-1])
            branches = [computation(each) for each in names if each in module.computations]
            return max(branches, key=lambda cost: cost.flops, default=NOTHING)
        if one.opcode in ("call", "async-start"):
            inner = called(one, "to_apply") or called(one, "calls")
            return computation(inner) if inner else NOTHING
        cost = _own_cost(here, one)
        if one.opcode == "fusion" and (inner := called(one, "calls")):
            cost += _fused(computation(inner), inner)
        return replace(cost, hbm=_traffic(module, here, one))

    return computation(module.entry)


def _fused(cost: Cost, name: str) -> Cost:
    """Products and collectives within a fusion; a fused all-reduce and slice is a reduce-scatter.

    What lies between them stays on the chip.
    """
    renamed: Counter[Collective] = Counter()
    for one, size in cost.collectives.items():
        scattered = one.kind == "all-reduce" and "all-reduce-scatter" in name
        renamed[one._replace(kind="reduce-scatter") if scattered else one] += size
    return Cost(cost.flops, 0.0, renamed)


def _own_cost(here: Computation, one: Instruction) -> Cost:
    """Products and collectives of one instruction."""
    kind = one.opcode.removesuffix("-start")
    if kind in COLLECTIVES:
        groups = re.search(
            r"(?:replica_groups|source_target_pairs)=(mesh\[.*?\] ?\{.*?\}|\{.*?\}\}|\{\}|[^ ,]+"
            r"(?:,\d+)*\]<=\[[\d,]+\](?:T\([\d,]+\))?)",
            one.attributes,
        )
        payload = sum(each.nbytes for each in _operand_types(here, one))
        found = Collective(kind, groups[1] if groups else "{}")
        return Cost(0.0, 0.0, Counter({found: payload}))
    if one.opcode == "custom-call":
        return replace(NOTHING, flops=kernel_flops(one, _operand_types(here, one)))
    flops = {"dot": _dot_flops, "convolution": _convolution_flops}
    return replace(NOTHING, flops=flops[kind](here, one)) if kind in flops else NOTHING


def _operand_types(here: Computation, one: Instruction) -> list[ArrayType]:
    return [t for name in one.operands for t in here.instructions[name].types]


def _dot_flops(here: Computation, one: Instruction) -> float | int:
    """2 prod(output) prod(contracted)."""
    left = _operand_types(here, one)[0]
    contracted = [left.dims[i] for i in numbers(one, "lhs_contracting_dims")]
    return 2.0 * math.prod(one.types[0].dims) * math.prod(contracted)


def _convolution_flops(here: Computation, one: Instruction) -> float | int:
    """2 batch features_in features_out (pairs of output and window places that meet an input).

    A TPU writes every matrix product as a convolution; batched ones are dilated, and the holes and
    the padding cost nothing here.
    """
    lhs, rhs = _operand_types(here, one)[:2]
    found = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", one.attributes)
    assert found is not None
    left, right, out = found.groups()
    groups = re.search(r"batch_group_count=(\d+)", one.attributes)
    feature_groups = re.search(r"feature_group_count=(\d+)", one.attributes)
    window = re.search(r"window=\{([^}]*)\}", one.attributes)
    fields = dict(part.split("=") for part in window[1].split()) if window else {}
    spatial = [label for label in left if label.isdigit()]
    meetings = [
        _meetings(
            lhs.dims[left.index(label)],
            rhs.dims[right.index(label)],
            one.types[0].dims[out.index(label)],
            {name: value.split("x")[int(label)] for name, value in fields.items()},
        )
        for label in spatial
    ]
    features = lhs.dims[left.index("f")] / (int(feature_groups[1]) if feature_groups else 1)
    batch = lhs.dims[left.index("b")] / (int(groups[1]) if groups else 1)
    return 2.0 * batch * features * rhs.dims[right.index("o")] * math.prod(meetings)


def _meetings(size: int, width: int, outputs: int, window: dict[str, str]) -> int:
    """Pairs of an output and a window place that read an input, not padding or a hole."""
    low = int(window.get("pad", "0_0").split("_")[0])
    stride, dilate = int(window.get("stride", 1)), int(window.get("lhs_dilate", 1))
    starts = np.arange(outputs) * stride - low
    offsets = np.arange(width) * int(window.get("rhs_dilate", 1))
    places = starts[:, None] + offsets
    inside = (places >= 0) & (places <= (size - 1) * dilate)
    return int(np.count_nonzero(inside & (places % dilate == 0)))


def _traffic(module: Module, here: Computation, one: Instruction) -> float | int:
    """Bytes of HBM that an instruction reads and writes."""
    if one.opcode in FREE or one.opcode.endswith("-done"):
        return 0.0
    if one.opcode == "fusion" and (inner := called(one, "calls")):
        fused = module.computations[inner]
        reads = sum(
            _read(module, fused, fused.parameters[i], t)
            for i, name in enumerate(one.operands)
            for t in here.instructions[name].types[:1]
            if i in fused.parameters
        )
        return reads + _written(fused, fused.root, one.types)
    if one.opcode in SLICES:  # from one memory, perhaps to the other
        return _moved(one.types[0], here.instructions[one.operands[0]], one)
    if one.opcode == "dynamic-update-slice":
        update = here.instructions[one.operands[1]]
        return _moved(update.types[0], update, one)
    results = one.types[:1] if one.opcode.endswith("-start") else one.types
    return sum(t.nbytes for t in (*_operand_types(here, one), *results) if t.in_hbm)


def _moved(part: ArrayType, source: Instruction, target: Instruction) -> float | int:
    """Bytes of HBM to read a part where the source is and to write it where the target is."""
    return part.nbytes * (source.types[0].in_hbm + target.types[0].in_hbm)


def _read(module: Module, fused: Computation, name: str, whole: ArrayType) -> float | int:
    """What a fusion reads of an operand: the slices that it takes, if it takes slices only."""
    if not whole.in_hbm:
        return 0.0
    total = 0.0
    for one in fused.instructions.values():
        if name not in one.operands:
            continue
        if one.opcode in SLICES and one.operands[0] == name:
            total += sum(t.nbytes for t in one.types)
        elif one.opcode == "bitcast":
            total += _read(module, fused, one.name, whole)
        elif one.opcode == "fusion" and (inner := called(one, "calls")):
            nested = module.computations[inner]
            given = nested.parameters[one.operands.index(name)]
            if _is_view(nested, given):
                total += _read(module, fused, one.name, whole)
            else:
                total += _read(module, nested, given, whole)
        elif one.opcode != "dynamic-update-slice" or one.operands[0] != name:
            return whole.nbytes
    return min(total, whole.nbytes)


def _is_view(fused: Computation, name: str) -> bool:
    """Whether the result is this array in another shape, which somebody else reads."""
    one = fused.root
    while one.opcode == "bitcast":
        one = fused.instructions[one.operands[0]]
    return one.name == name


def _written(fused: Computation, root: Instruction, types: tuple[ArrayType, ...]) -> float | int:
    """What a fusion writes: of an array that it updates in place, the new slice."""
    if root.opcode == "tuple":
        parts = [fused.instructions[name] for name in root.operands]
        if len(parts) == len(types):
            return sum(
                _written(fused, *each) for each in zip(parts, ((t,) for t in types), strict=True)
            )
    if root.opcode == "bitcast":
        return _written(fused, fused.instructions[root.operands[0]], types)
    if root.opcode == "dynamic-update-slice" and types[0].in_hbm:
        return sum(t.nbytes for t in fused.instructions[root.operands[1]].types)
    return sum(t.nbytes for t in types if t.in_hbm)
