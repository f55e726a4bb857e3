"""Runs over seeds as a line and a band, and the words that say which.

Seeds are always the first axis. The words travel with the curve (`Series.meaning`), so that the
caption of a figure, see `pages.show_panels`, says what its bands are.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import scipy
from numpy.typing import ArrayLike

from rlhf_jax.reports.plots import Series

Centre = Literal["median", "mean"]
Spread = Literal["range", "quartiles", "deciles", "t"]
CENTRES = {"median": np.median, "mean": np.mean}
SPREADS: dict[str, str] = {
    "range": "range",
    "quartiles": "middle half",
    "deciles": "middle 80%",
    "t": "its 95% interval (Student's t)",
}
QUANTILES = {"range": (0.0, 1.0), "quartiles": (0.25, 0.75), "deciles": (0.1, 0.9)}


def band(
    x: ArrayLike | Sequence[Any],
    runs: ArrayLike,
    *,
    centre: Centre = "median",
    spread: Spread = "range",
    units: str = "seeds",
) -> Series:
    """The centre of runs and their spread, at every x.

    Args:
      x: [N].
      runs: [S, N], one row for each seed. One row is a line without a band.
      centre: "median" or "mean".
      spread: "range"; "quartiles", the middle half; "deciles", the middle 80%; "t", the 95%
        interval of the mean.
      units: what the rows are, in the plural: seeds, games, worlds.
    Returns:
      Series with `meaning`, e.g. "median and range over 10 seeds".
    Raises:
      ValueError: shapes differ, or a t interval of a median.
    """
    values = np.asarray(runs, float)
    if values.ndim != 2 or values.shape[1] != len(np.asarray(x)) or not len(values):
        raise ValueError(f"runs must be [{units}, {len(np.asarray(x))}], got {values.shape}")
    if spread == "t" and centre != "mean":
        raise ValueError(f"a t interval is that of a mean, got centre={centre!r}")
    middle, count = CENTRES[centre](values, axis=0), len(values)
    if count == 1:
        return Series(x, middle)
    if spread == "t":
        half = scipy.stats.t.ppf(0.975, count - 1) * values.std(0, ddof=1) / np.sqrt(count)
        low, high = middle - half, middle + half
    else:
        low, high = np.quantile(values, QUANTILES[spread], axis=0)
    return Series(x, middle, low, high, f"{centre} and {SPREADS[spread]} over {count} {units}")
