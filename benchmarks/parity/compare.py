"""What a row of the table compares: a loss, its gradient and five steps of plain SGD."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

STEPS = 5
TOLERANCE = 1e-5
FIRST_STEP = 0.1  # how far the first step moves the parameter it moves most


NOTHING = np.zeros(0)


class Run(NamedTuple):
    """What one library computed; for an estimator, which has no gradient, only `value`.

    value: [5] the loss before each step, or the array an estimator returns.
    gradient: of the loss, at the first parameters.
    path: [5, ...] parameters after each step.
    rate: step size; the peer's run sets it, the library's run repeats it.
    """

    value: np.ndarray
    gradient: np.ndarray = NOTHING
    path: np.ndarray = NOTHING
    rate: float = 0.0


class Objective(NamedTuple):
    """One row before it is run.

    peer: runs the peer's code. Called once.
    ours: `params -> loss`, or `() -> array` where the peer's run has no gradient.
    params: the parameters that `ours` is differentiated at.
    note: this library's functions, and how the call expresses the peer's convention.
    """

    name: str
    source: str
    peer: Callable[[], Run]
    ours: Callable[..., jax.Array]
    params: np.ndarray = NOTHING
    note: str = ""


class Row(NamedTuple):
    """Deviations of one objective, each relative to the peer's largest entry."""

    name: str
    source: str
    value: float
    gradient: float | None
    path: float | None
    note: str

    @property
    def passed(self) -> bool:
        """Every deviation is within the tolerance (NaN is not)."""
        deviations = [self.value, self.gradient, self.path]
        return all(x <= TOLERANCE for x in deviations if x is not None)


def step_size(gradient: np.ndarray) -> float:
    """Learning rate that moves the most moved parameter by `FIRST_STEP`."""
    return float(np.float32(FIRST_STEP / np.abs(gradient).max()))


def deviation(ours: np.ndarray, peer: np.ndarray, scale: np.ndarray | None = None) -> float:
    """max |ours - peer| / max |scale|, the peer itself if no scale is given."""
    ours, peer = np.asarray(ours, np.float64), np.asarray(peer, np.float64)
    if ours.shape != peer.shape:
        raise ValueError(f"shapes differ: {ours.shape} here, {peer.shape} there")
    size = np.abs(peer if scale is None else scale).max()
    return float(np.abs(ours - peer).max() / size)


def descend(loss: Callable[..., jax.Array], params: np.ndarray, rate: float | None = None) -> Run:
    """Loss, gradient and five steps of SGD of a JAX function, compiled once."""
    value_and_grad = jax.jit(jax.value_and_grad(loss))
    values, gradients, path = [], [], []
    for _ in range(STEPS):
        value, gradient = value_and_grad(params)
        rate = step_size(gradient) if rate is None else rate
        params = np.asarray(params - np.float32(rate) * gradient)
        values.append(value)
        gradients.append(gradient)
        path.append(params)
    return Run(np.stack(values), np.asarray(gradients[0]), np.stack(path), rate)


def compare(objective: Objective) -> Row:
    """Run both sides of one objective."""
    peer = objective.peer()
    if peer.path.size == 0:
        value = deviation(np.asarray(objective.ours()), peer.value)
        return Row(objective.name, objective.source, value, None, None, objective.note)
    ours = descend(objective.ours, objective.params, peer.rate)
    moved = peer.path - objective.params
    return Row(
        objective.name,
        objective.source,
        deviation(ours.value, peer.value),
        deviation(ours.gradient, peer.gradient),
        deviation(ours.path, peer.path, moved),
        objective.note,
    )
