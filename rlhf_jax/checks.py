"""Checks of arguments: numbers out of range, masks that are not bool, ids that are not integers.

Every error names the argument. Dtypes are known while tracing and are always checked. Values are
checked if they are known: Python and NumPy numbers, and JAX arrays of this process. Traced numbers
are not checked, so they can be swept, and the checks leave nothing in compiled code.

Ids out of range are not an error, because padding may hold anything: `rows` and `entries` give NaN
there, while plain indexing gives the last row.
"""

from fractions import Fraction
from functools import cache
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

NAN_OUTSIDE: dict[str, Any] = {
    "mode": "fill",
    "fill_value": np.nan,
    "wrap_negative_indices": False,
}

ROUNDING = 1e-6  # a computed probability may leave [0, 1] by this much

Numbers = Any  # an array, a tracer, a number or a sequence of numbers


def check_range(interval: str, **values: Numbers) -> None:
    """Each value is one number in the interval: `check_range("[0, 1/2)", label_smoothing=h)`.

    Args:
      interval: "(0, inf)" is positive and finite, "(0, inf]" includes infinity, "(-inf, inf)" is
        finite.
      values: name -> scalar. A number too large for float32 counts as infinite.
    Raises:
      ValueError: a value is not a scalar, not a number, or not in the interval.
    """
    for name, value in values.items():
        if shape := np.shape(value):
            raise ValueError(f"{name} must be one number in {interval}, got shape {shape}")
        check_entries(interval, **{name: value})


def check_entries(interval: str, **arrays: Numbers) -> None:
    """Every entry of each array or tuple is a number in the interval, as in `check_range`.

    Raises:
      ValueError: names the array and its first entry that is not.
    """
    for name, array in arrays.items():
        if isinstance(array, jax.core.Tracer) or not getattr(array, "is_fully_addressable", True):
            continue
        numbers = _as_floats(name, array, interval)
        outside = ~_inside(interval, numbers)
        if outside.any():
            place = tuple(int(i) for i in np.argwhere(outside)[0])
            entry = f" at {list(place)}" if place else ""
            raise ValueError(f"{name} must be in {interval}, got {np.asarray(array)[place]}{entry}")


def check_fields(config: Any, interval: str, *names: str) -> None:
    """These fields of a config, numbers or non-empty tuples of numbers, are in the interval."""
    for name in names:
        check_entries(interval, **{name: (value := getattr(config, name))})
        if not np.size(value):
            raise ValueError(f"{name} must have a number in {interval}, got {value}")


def check_mask(**masks: Numbers) -> None:
    """Each mask is bool. An int mask could count an entry -100 times, a float one half a time.

    Raises:
      TypeError: names the mask and its dtype, at trace time.
    """
    for name, mask in masks.items():
        if (dtype := _dtype(mask)) != np.dtype(bool):
            raise TypeError(f"{name} must be bool, True where an entry counts; got {dtype}")


def check_ids(**ids: Numbers) -> None:
    """Ids of states, actions or tokens are integers.

    Raises:
      TypeError: names the ids and their dtype, at trace time.
    """
    for name, array in ids.items():
        if not jax.dtypes.issubdtype(dtype := _dtype(array), np.integer):
            raise TypeError(f"{name} must be integers, got {dtype}")


def decided(labels: Numbers) -> Bool[Array, "*B"]:
    """True where a label is the index of a winner, 0 or 1; any other label means that none won."""
    check_ids(labels=labels)
    return (labels == 0) | (labels == 1)


def shares(prefs: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Probabilities without gradient; NaN outside [0, 1], e.g. for a label -1 that means a tie."""
    prefs = jax.lax.stop_gradient(prefs)
    return jnp.where(jnp.abs(prefs - 0.5) <= 0.5 + ROUNDING, prefs, jnp.nan)


def rows(table: Numbers, **ids: Numbers) -> Float[Array, "..."]:
    """table[ids, ...], NaN where an id is out of range: `rows(table, states=s, actions=a)`.

    Args:
      table: [S, *C], or [S, A, *C] for two kinds of ids, and so on.
      ids: name (for the error) -> [*B] int, in the order of the axes of the table.
    Returns:
      [*B, *C].
    """
    check_ids(**ids)
    return jnp.asarray(table).at[tuple(ids.values())].get(**NAN_OUTSIDE)


def entries(table: Numbers, **ids: Numbers) -> Float[Array, "*B"]:
    """One entry of each row, NaN where an id is not in [0, A): `entries(logits, actions=a)`.

    Args:
      table: [*B, A].
      ids: one name (for the error) -> [*B] int.
    """
    check_ids(**ids)
    (places,) = (jnp.asarray(array)[..., None] for array in ids.values())
    return jnp.take_along_axis(table, places, axis=-1, **NAN_OUTSIDE)[..., 0]


def _inside(interval: str, x: np.ndarray) -> np.ndarray:
    """Whether each number is in the interval; False for NaN."""
    low, high = (x.dtype.type(end) for end in _ends(interval))
    above = x >= low if interval[0] == "[" else x > low
    return np.asarray(above & (x <= high if interval[-1] == "]" else x < high))


@cache
def _ends(interval: str) -> tuple[float, ...]:
    """Lower and upper end: 0 and 0.5 for "[0, 1/2)"."""
    ends = interval[1:-1].split(",")
    return tuple(float(Fraction(end)) if "/" in end else float(end) for end in ends)


def _dtype(array: Numbers) -> np.dtype:
    """dtype of an array, a tracer, or anything that NumPy can convert."""
    return array.dtype if hasattr(array, "dtype") else np.asarray(array).dtype


def _as_floats(name: str, array: Numbers, interval: str) -> np.ndarray:
    """The numbers of a known array; those that overflow in JAX's float type are infinite."""
    dtype = _dtype(array)
    if not jax.dtypes.issubdtype(dtype, np.floating):
        if not jax.dtypes.issubdtype(dtype, np.integer):
            raise ValueError(f"{name} must be a number in {interval}, got {array!r}")
        return np.asarray(array, np.float64)
    numbers = np.asarray(array)
    numbers = numbers.astype(np.float32) if numbers.dtype.itemsize < 4 else numbers  # bfloat16
    largest = np.finfo(jax.dtypes.canonicalize_dtype(np.float64)).max
    return np.where(np.abs(numbers) > largest, np.copysign(np.inf, numbers), numbers)
