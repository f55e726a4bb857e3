"""How the tensors of a checkpoint lie in the parameters: tables of rows, read in both directions.

    Row("trunk.layers.attention.query", "{base}layers.{layer}.self_attn.q_proj.weight", linear(1))

A parameter may stack several tensors: each `{name}` of the pattern but `{base}` is a leading axis.
"""

import math
import string
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Shape = tuple[int, ...]


class Layout(NamedTuple):
    """One tensor in the two orders; `shape` is that of the parameter without stacked axes.

    theirs: `shape -> ` the tensor's shape.
    read: `(tensor, shape) -> ` a view with `shape`.
    write: `parameter -> ` a view or copy with the tensor's shape.
    """

    theirs: Callable[[Shape], Shape]
    read: Callable[[np.ndarray, Shape], np.ndarray]
    write: Callable[[np.ndarray], np.ndarray]


class Row(NamedTuple):
    """A parameter, by its path, and the pattern of the tensors that it stacks.

    part: (k, n) if the parameter is part k of n equal parts of the tensor, along the last axis.
    """

    ours: str
    theirs: str
    layout: Layout
    part: tuple[int, int] = (0, 1)

    @property
    def stacked(self) -> int:
        """Number of leading axes of the parameter that count tensors."""
        names = [name for _, name, _, _ in string.Formatter().parse(self.theirs) if name]
        return sum(name != "base" for name in names)

    def name(self, base: str, at: Shape) -> str:
        """The name of the tensor at these places of the stacked axes."""
        names = [name for _, name, _, _ in string.Formatter().parse(self.theirs) if name]
        numbers = dict(zip([name for name in names if name != "base"], at, strict=True))
        return self.theirs.format(base=base, **numbers)

    def shape(self, ours: Shape) -> Shape:
        """The shape of one tensor, for a parameter of shape `ours`, stacked axes included."""
        *lead, last = self.layout.theirs(ours[self.stacked :])
        return (*lead, last * self.part[1])

    def cut(self, tensor: np.ndarray) -> np.ndarray:
        """This row's part of the tensor."""
        k, parts = self.part
        size = tensor.shape[-1] // parts
        return tensor[..., k * size : (k + 1) * size]


SAME = Layout(lambda shape: shape, lambda tensor, shape: tensor, lambda ours: ours)
FLAT = Layout(
    lambda shape: (math.prod(shape),),
    lambda tensor, shape: tensor.reshape(shape),
    lambda ours: ours.reshape(-1),
)


def linear(inputs: int) -> Layout:
    """A torch Linear, [outputs, inputs]; the parameter has its `inputs` input axes first."""

    def read(tensor: np.ndarray, shape: Shape) -> np.ndarray:
        outputs = len(shape) - inputs
        split = tensor.reshape(*shape[inputs:], *shape[:inputs])
        return np.moveaxis(split, range(outputs), range(inputs, len(shape)))

    def write(ours: np.ndarray) -> np.ndarray:
        size = math.prod(ours.shape[:inputs])
        return ours.reshape(size, -1).T

    def theirs(shape: Shape) -> Shape:
        return (math.prod(shape[inputs:]), math.prod(shape[:inputs]))

    return Layout(theirs, read, write)


def transposed_linear(inputs: int) -> Layout:
    """GPT-2's Conv1D, [inputs, outputs]."""
    return Layout(
        lambda shape: (math.prod(shape[:inputs]), math.prod(shape[inputs:])),
        lambda tensor, shape: tensor.reshape(shape),
        lambda ours: ours.reshape(math.prod(ours.shape[:inputs]), -1),
    )
