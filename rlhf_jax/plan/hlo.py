"""A compiled program as text (HLO) -> its instructions by computation.

One line an instruction, `%name = type opcode(%operand, ...), attribute=value, ...`, between the
braces of a computation. Loops, fusions and calls name the computations that they run.
"""

import math
import re
from typing import NamedTuple

WIDTHS = {
    **{"pred": 1, "s4": 0.5, "u4": 0.5, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "s32": 4, "u32": 4},
    **{"s64": 8, "u64": 8, "f8e4m3fn": 1, "f8e5m2": 1, "f16": 2, "bf16": 2, "f32": 4, "f64": 8},
    **{"c64": 8, "c128": 16},
}
ARRAY = re.compile(r"(\w+)\[([\d,]*)\](\{[^}]*\})?")
NAME = re.compile(r"%([\w.\-]+)")
HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
COMMENT = re.compile(r"/\*.*?\*/")
OUTSIDE = re.compile(r"S\([1-9]\d*\)")  # a memory space that is not HBM: VMEM is S(1)


class ArrayType(NamedTuple):
    """An array in a type. nbytes: without padding of tiles. in_hbm: False in on-chip memory."""

    dims: tuple[int, ...]
    nbytes: float | int
    in_hbm: bool


class Instruction(NamedTuple):
    """One line. `types` are the arrays of its result; `attributes` the text behind the operands."""

    name: str
    opcode: str
    types: tuple[ArrayType, ...]
    operands: tuple[str, ...]
    arguments: str
    attributes: str
    is_root: bool


class Computation(NamedTuple):
    """Instructions by name, in order, and the parameters by number."""

    instructions: dict[str, Instruction]
    parameters: dict[int, str]

    @property
    def root(self) -> Instruction:
        """The instruction that is the result."""
        return next(one for one in self.instructions.values() if one.is_root)


class Module(NamedTuple):
    """Computations by name; `entry` is the one that runs."""

    entry: str
    computations: dict[str, Computation]


def parse_module(text: str) -> Module:
    """The computations of a program as `compiled.as_text()` prints it.

    Raises:
      ValueError: no computation is marked ENTRY.
    """
    entry, computations, current = None, {}, None
    for line in COMMENT.sub("", text).splitlines():
        if head := HEAD.match(line):
            current = computations[head[2]] = Computation({}, {})
            entry = head[2] if head[1] else entry
        elif line == "}":
            current = None
        elif current is not None and (one := _instruction(line.strip())) is not None:
            current.instructions[one.name] = one
            if one.opcode == "parameter":
                current.parameters[int(one.arguments)] = one.name
    if entry is None:
        raise ValueError("no ENTRY computation: this is not the text of a compiled program")
    return Module(entry, computations)


def array_types(text: str) -> tuple[ArrayType, ...]:
    """The arrays in a type, `f32[2,3]{1,0}` or a tuple of such."""
    return tuple(
        ArrayType(dims, math.prod(dims) * WIDTHS.get(kind, 0), not OUTSIDE.search(layout or ""))
        for kind, sizes, layout in ARRAY.findall(text)
        for dims in [tuple(int(size) for size in sizes.split(",") if size)]
    )


def called(one: Instruction, attribute: str) -> str | None:
    """The computation that an attribute (`body`, `calls`, ...) names."""
    found = re.search(rf"\b{attribute}=%?([\w.\-]+)", one.attributes)
    return found[1] if found else None


def numbers(one: Instruction, attribute: str) -> tuple[int, ...]:
    """`attribute={1,2}` as numbers; () where it is left out."""
    found = re.search(rf"\b{attribute}=\{{([\d,]*)\}}", one.attributes)
    return tuple(int(part) for part in found[1].split(",") if part) if found else ()


def trip_count(module: Module, here: Computation, loop: Instruction) -> int:
    """How often a `while` runs: noted by the compiler, or (bound - start) / step of its counter.

    A loop that may end early (decoding, once all rows have finished) counts its bound. One without
    a bound counts once.

    Args:
      here: the computation with the loop.
    """
    if found := re.search(r'known_trip_count":\{"n":"(\d+)"', loop.attributes):
        return int(found[1])
    condition = module.computations.get(called(loop, "condition") or "")
    body = module.computations.get(called(loop, "body") or "")
    if condition is None or body is None:
        return 1
    trips = [
        -(-(bound - _start(here, loop, index)) // _step(body, index))
        for index, bound in _bounds(module, condition)
    ]
    return max(trips, default=1)


def _bounds(module: Module, condition: Computation) -> list[tuple[int, int]]:
    """(index in the loop's state, constant) of counters that are compared with a constant."""
    found = []
    for one in condition.instructions.values():
        fused = module.computations.get(called(one, "calls") or "")
        inside = [] if fused is None else list(fused.instructions.values())
        if not any("direction=LT" in each.attributes for each in (one, *inside)):
            continue
        operands = [condition.instructions[name] for name in one.operands]
        indices = [i for each in operands if (i := _element(each)) is not None]
        bounds = [value for each in operands if (value := _constant(each)) is not None]
        # The bound may be in the fused comparison.
        bounds = bounds or [v for each in inside if (v := _constant(each)) is not None]
        found += [(indices[0], bounds[0])] if indices and bounds else []
    return found


def _start(here: Computation, loop: Instruction, index: int) -> int:
    """The first value of a counter, 0 unless it is seen to be another."""
    state = here.instructions[loop.operands[0]]
    if state.opcode != "tuple":
        return 0
    one = here.instructions[state.operands[index]]
    while one.opcode in ("copy", "bitcast"):
        one = here.instructions[one.operands[0]]
    return _constant(one) or 0


def _step(body: Computation, index: int) -> int:
    """What a run adds to a counter, 1 unless it is seen to be another."""
    if body.root.opcode != "tuple":
        return 1
    one = body.instructions[body.root.operands[index]]
    if one.opcode != "add":
        return 1
    added = [_constant(body.instructions[name]) for name in one.operands]
    return next((value for value in added if value), 1)


def _constant(one: Instruction) -> int | None:
    whole = one.opcode == "constant" and re.fullmatch(r"\d+", one.arguments)
    return int(one.arguments) if whole else None


def _element(one: Instruction) -> int | None:
    """Which element of a tuple it is."""
    found = re.search(r"\bindex=(\d+)", one.attributes)
    return int(found[1]) if found and one.opcode == "get-tuple-element" else None


def _instruction(line: str) -> Instruction | None:
    is_root = line.startswith("ROOT ")
    name, equals, rest = line.removeprefix("ROOT ").partition(" = ")
    if not equals:
        return None
    end = _closing(rest) if rest.startswith("(") else rest.index(" ")
    kind, rest = rest[:end], rest[end:].lstrip()
    opcode, _, rest = rest.partition("(")
    end = _closing("(" + rest) - 2
    arguments, attributes = rest[:end], rest[end + 1 :]
    operands = tuple(NAME.findall(arguments))
    return Instruction(
        name.lstrip("%"), opcode, array_types(kind), operands, arguments, attributes, is_root
    )


def _closing(text: str) -> int:
    """The index after the bracket that closes the one at the start."""
    depth = 0
    for i, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return i + 1
    raise ValueError(f"no bracket closes in {text[:80]!r}")
