"""The devices of a collective: from the text of a program to the axes of the mesh.

{{0,1},{2,3}}                        lists; a permutation has pairs of source and target
[2,2]<=[2,2]T(1,0)                   0, 1, ... in a box, transposed, cut into rows
mesh['a'=2,'b'=2] {'a'}              along axes of a box; 'a':(1)2 is a part of one
"""

import math
import re
from collections.abc import Sequence

import numpy as np


def parse_groups(text: str, size: int) -> np.ndarray:
    """[groups, members] device numbers; all `size` devices in one group if the text names none.

    Raises:
      ValueError: another way to write them.
    """
    if text.startswith("mesh["):
        return _along_axes(text)
    if found := re.fullmatch(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text):
        shape, box, order = (_ints(part or "") for part in found.groups())
        numbers = np.arange(math.prod(box)).reshape(box)
        return (numbers.transpose(order) if order else numbers).reshape(shape)
    if text.strip("{}") == "":
        return np.arange(size)[None]
    if not re.fullmatch(r"[{}\d, ]+", text):
        raise ValueError(f"unknown way to write groups of devices: {text!r}")
    return np.array([_ints(part) for part in re.findall(r"\{([\d,]+)\}", text)])


def axes_of(groups: np.ndarray, shape: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
    """The mesh axes along which devices of one group differ.

    Args:
      groups: [groups, members] device numbers.
      shape, names: of the mesh; device i is the i-th of it.
    """
    places = np.array(np.unravel_index(groups, tuple(shape)))  # [axes, groups, members]
    differs = (places != places[:, :, :1]).any(axis=(1, 2))
    return tuple(name for name, varies in zip(names, differs, strict=True) if varies)


def _along_axes(text: str) -> np.ndarray:
    box = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", text)}
    chosen = re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", text.split("]", 1)[1])
    shape: list[int] = []
    along: dict[tuple[str, int], int] = {}  # (axis, size of what lies before the part) -> dimension
    for name, size in box.items():
        parts = [(int(pre), int(ways)) for n, pre, ways in chosen if n == name and pre]
        if any(n == name and not pre for n, pre, _ in chosen):
            parts = [(1, size)]
        done = 1
        for pre, ways in sorted(parts):
            shape += [pre // done] if pre > done else []
            along[name, pre] = len(shape)
            shape.append(ways)
            done = pre * ways
        shape += [size // done] if size > done else []
    numbers = np.arange(math.prod(shape)).reshape(shape)
    last = [along[name, int(pre or 1)] for name, pre, _ in chosen]
    rest = [i for i in range(len(shape)) if i not in last]
    members = math.prod(shape[i] for i in last)
    return numbers.transpose(rest + last).reshape(-1, members)


def _ints(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part.strip())
