"""What the shared test needs to know of a loss, and how its inputs are drawn."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np

Draw = Callable[[np.random.Generator, tuple[int, ...], type], np.ndarray]


def real(*tail: int, scale: float = 0.5) -> Draw:
    """Normal of scale 1/2, so that clips are met on both sides: [*lead, *tail]."""
    return lambda rng, lead, dtype: (scale * rng.standard_normal((*lead, *tail))).astype(dtype)


def negative(*tail: int) -> Draw:
    """Mean log-probabilities: negative numbers of order 1."""
    return lambda rng, lead, dtype: (-np.exp(0.5 * rng.standard_normal((*lead, *tail)))).astype(
        dtype
    )


def prob(*tail: int) -> Draw:
    """Uniform in (0.05, 0.95)."""
    return lambda rng, lead, dtype: rng.uniform(0.05, 0.95, (*lead, *tail)).astype(dtype)


def label(*tail: int) -> Draw:
    """Fair booleans."""
    return lambda rng, lead, dtype: rng.random((*lead, *tail)) < 0.5


def integer(low: int, high: int, *tail: int) -> Draw:
    """Uniform int32 in [low, high)."""
    return lambda rng, lead, dtype: rng.integers(low, high, (*lead, *tail)).astype(np.int32)


def lengths_mask(size: int) -> Draw:
    """[*lead, size] bool, True for the first n of the last axis, n uniform in 1..size."""
    return lambda rng, lead, dtype: (
        np.arange(size) < rng.integers(1, size + 1, (*lead, 1)).astype(int)
    )


class Case(NamedTuple):
    """One loss as the shared test sees it.

    loss: arrays in, one value per example out (or per step: see `out`).
    inputs: how each array is drawn, after its leading axes.
    trained: which inputs are not data: they, and only they, get a gradient.
    out: axes of the output after the leading ones, e.g. (4,) for a loss per step.
    extremes: False where an input's domain excludes the corners -1e4, 0, 1e4 (say why beside it);
      such a loss tests its own extremes.
    mask: which input marks what counts, for losses of steps or candidates.
    masked: which inputs never matter where it is False, shaped like it; () for losses without one.
    surrogate: True where a stop-gradient inside makes the gradient another one than the value's;
      such a loss tests its own gradient.
    """

    loss: Callable
    inputs: tuple[Draw, ...]
    trained: tuple[int, ...]
    out: tuple[int, ...] = ()
    extremes: bool = True
    mask: int = -1
    masked: tuple[int, ...] = ()
    surrogate: bool = False


class Sweep(NamedTuple):
    """A hyper-parameter that may be traced: its loss, its name, three values. `SWEPT` has all but
    beta, which `beta_sweeps` reads off the cases."""

    loss: Callable
    name: str
    inputs: tuple[Draw, ...]
    values: tuple[float, float, float] = (0.05, 0.3, 2.0)


def draw(inputs: tuple[Draw, ...], lead: tuple[int, ...], dtype=np.float32, seed: int = 0):
    """The arrays of a case with these leading axes."""
    rng = np.random.default_rng(seed)
    return tuple(make(rng, lead, dtype) for make in inputs)


def beta_sweeps(cases: dict[str, Case]) -> dict[str, Sweep]:
    """A sweep of beta for each loss that has one, from its first case."""
    found: dict[Callable, tuple[str, Sweep]] = {}
    for name, case in cases.items():
        loss = case.loss
        if isinstance(loss, partial) and "beta" in loss.keywords:
            others = {word: x for word, x in loss.keywords.items() if word != "beta"}
            sweep = Sweep(partial(loss.func, **others), "beta", case.inputs)
            found.setdefault(loss.func, (f"{name} beta", sweep))
    return dict(found.values())


def first_of_each_family() -> set[str]:
    """A case of every `cases_<family>.py`."""
    paths = sorted(Path(__file__).parent.glob("cases_*.py"))
    return {next(iter(import_module(path.stem).CASES)) for path in paths}


def every_case() -> tuple[dict[str, Case], dict[str, Sweep]]:
    """The rows of all `cases_<family>.py`, by name, and the sweeps of beta."""
    cases: dict[str, Case] = {}
    swept: dict[str, Sweep] = {}
    for path in sorted(Path(__file__).parent.glob("cases_*.py")):
        rows = import_module(path.stem)
        for table, more in ((cases, rows.CASES), (swept, rows.SWEPT)):
            assert not table.keys() & more.keys(), f"{path.stem}: a name is taken"
            table.update(more)
    return cases, beta_sweeps(cases) | swept
