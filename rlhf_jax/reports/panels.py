"""Several small plots side by side, in the style of `plots`: how fast things go to zero."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlhf_jax.reports.plots import COLOURS, LINES, PALE, STYLE, Series


class Panel(NamedTuple):
    """One plot.

    title, x_label, y_label: with units.
    series: name -> Series; a name has one colour and line style in the whole figure.
    bounds: name -> Series of what a theorem promises, drawn thin and dark over the curves.
    levels: name -> height of a thin horizontal line, for thresholds.
    log_x, log_y: logarithmic axes; what is not above 0 leaves a gap.
    floor: y values below it are drawn at it: rounding errors tell nothing.
    """

    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Series]
    bounds: Mapping[str, Series] = {}
    levels: Mapping[str, float | int] = {}
    log_x: bool = False
    log_y: bool = False
    floor: float | None = None


def panels(items: Sequence[Panel], *, columns: int = 2, share_y: bool = False) -> Figure:
    """Panels in rows of `columns`, with one legend under them all.

    Args:
      items: the panels, row by row.
      columns: panels in a row, >= 1.
      share_y: one y axis for all.
    Returns:
      A figure about 5 x 3.6 inches per panel.
    Raises:
      ValueError: no panels, or columns < 1.
    """
    if not items or columns < 1:
        raise ValueError(f"panels need an item and a column at least, got {len(items)}, {columns}")
    columns = min(columns, len(items))
    rows = -(-len(items) // columns)
    names = list(dict.fromkeys(name for item in items for name in item.series))
    looks = {name: _look(i) for i, name in enumerate(names)}
    with matplotlib.rc_context(STYLE):
        size = (5.0 * columns, 3.4 * rows + 0.4)
        figure = Figure(figsize=size, layout="constrained", facecolor="white")
        grid = figure.subplots(rows, columns, squeeze=False, sharey=share_y).ravel()
        handles: dict[str, Artist] = {}
        for axes, item in zip(grid, items, strict=False):
            _draw(axes, item, looks, handles)
        for axes in grid[len(items) :]:
            axes.set_visible(False)
        per_row = max(1, min(len(handles), 2 * columns + 1))
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside lower center",
            ncols=per_row,
            frameon=False,
            fontsize=9,
        )
    return figure


def _draw(
    axes: Axes, item: Panel, looks: Mapping[str, dict[str, Any]], handles: dict[str, Artist]
) -> None:
    """One panel; new names go to `handles`."""
    axes.set_title(item.title, loc="left", fontweight="bold", fontsize=10)
    axes.set(xlabel=item.x_label, ylabel=item.y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    for name, one in item.series.items():
        x, y = np.asarray(one.x, float), _shown(item, one.y)
        (line,) = axes.plot(x, y, linewidth=1.5, **looks[name])
        handles.setdefault(name, line)
        if one.low is not None and one.high is not None:
            low, high = _shown(item, one.low), _shown(item, one.high)
            axes.fill_between(x, low, high, color=looks[name]["color"], alpha=0.15, linewidth=0)
    thin: dict[str, Any] = {"color": "#444444", "linewidth": 1.0}
    for i, (name, one) in enumerate(item.bounds.items()):
        style = LINES[(i + 3) % len(LINES)]
        x, y = np.asarray(one.x, float), _shown(item, one.y)
        handles.setdefault(name, axes.plot(x, y, linestyle=style, **thin)[0])
    for name, height in item.levels.items():
        handles.setdefault(name, axes.axhline(height, linestyle=(0, (1, 3)), **thin))
    if item.log_x:
        axes.set_xscale("log")
    if item.log_y:
        axes.set_yscale("log")


def _shown(item: Panel, values: object) -> np.ndarray:
    """y values as drawn: no lower than the floor, and gaps where a logarithm has none."""
    y = np.asarray(values, float)
    if item.floor is not None:
        y = np.where(y < item.floor, item.floor, y)
    return np.where(y > 0, y, np.nan) if item.log_y else y


def _look(i: int) -> dict[str, Any]:
    """Colour and line of the i-th name: after one round of colours, the next line style."""
    return {
        "color": COLOURS[i % len(COLOURS)],
        "linestyle": LINES[(i + i // len(COLOURS)) % len(LINES)],
    }
