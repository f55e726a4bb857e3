"""Several small plots side by side, in the style of `plots`, as wide as a printed page."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from rlhf_jax.reports.looks import Look, looks
from rlhf_jax.reports.plots import INK, PALE, STYLE, WIDTH, Series

MOST_COLUMNS = 3
SIZES = {1: (4.8, 2.9), 2: (WIDTH / 2, 2.4), 3: (WIDTH / 3, 2.0)}  # of a panel, by columns
LETTERS = 16  # an inch
MOST_TICKS, FEW = 5, 8
BENEATH = 1e-3  # of the floor: a curve that goes below it leaves the picture there
THIN = {"bound": INK, "guide": "#999999", "level": "#666666"}  # kind of line -> colour
DASHES = ((0, (6, 1.5)), (0, (2, 1)), (0, (6, 1.5, 1, 1.5)), (0, (1, 1.5)), (0, (10, 2)))


class Panel(NamedTuple):
    """One plot.

    title, x_label, y_label: with units.
    series: name -> Series; a name has one look in all figures, see `looks`.
    bounds: name -> Series of what a theorem promises, drawn thin and dark over the curves.
    guides: name -> Series of a fitted or chosen constant, such as a slope through the last point;
      thin and pale.
    levels: name -> height of a thin horizontal line, for thresholds and baselines.
    log_x, log_y: logarithmic axes; what is not above 0 leaves the picture at the bottom.
    floor: the lowest y of the picture; a curve ends where it goes below.
    """

    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Series]
    bounds: Mapping[str, Series] = {}
    guides: Mapping[str, Series] = {}
    levels: Mapping[str, float | int] = {}
    log_x: bool = False
    log_y: bool = False
    floor: float | None = None


def panels(items: Sequence[Panel], *, columns: int = 2, share_y: bool = False) -> Figure:
    """Panels in rows of `columns`, with one legend under them all.

    Args:
      items: the panels, row by row.
      columns: panels in a row, 1, 2 or 3.
      share_y: one y axis for all.
    Returns:
      A figure that is 7.2 inches wide, with one column 4.8.
    Raises:
      ValueError: no panels, or another number of columns.
    """
    if not items or not 1 <= columns <= MOST_COLUMNS:
        raise ValueError(f"expected panels in 1 to 3 columns, got {len(items)} in {columns}")
    columns = min(columns, len(items))
    rows = -(-len(items) // columns)
    shown = looks(list(dict.fromkeys(name for item in items for name in item.series)))
    dashes = _dashes(items)
    names = list(dict.fromkeys([*shown, *dashes]))
    size, per_row = SIZES[columns], 1
    if names:
        letters = int(LETTERS * size[0] * columns)
        per_row = max(1, min(len(names), letters // (max(map(len, names)) + 8)))
    legend = 0.2 * -(-len(names) // per_row)
    with matplotlib.rc_context(STYLE):
        figure = Figure(
            figsize=(size[0] * columns, size[1] * rows + legend),
            layout="constrained",
            facecolor="white",
        )
        grid = figure.subplots(rows, columns, squeeze=False, sharey=share_y).ravel()
        handles: dict[str, Artist] = {}
        for axes, item in zip(grid, items, strict=False):
            _frame(axes, item, size)
            _curves(axes, item, shown, handles)
            _thin_lines(axes, item, dashes, handles)
            _limits(axes, item)
        for i, axes in enumerate(grid):
            axes.set_visible(i < len(items))
            if 0 < i < len(items) and i % columns and items[i].y_label == items[i - 1].y_label:
                axes.set_ylabel("")  # once in a row
        lines = [handles[name] for name in names]
        figure.legend(lines, names, loc="outside lower center", ncols=per_row, frameon=False)
    return figure


def band_words(items: Sequence[Panel]) -> str:
    """A sentence on what the bands of panels are, from the bands themselves; "" without any."""
    meanings: dict[str, list[str]] = {}
    for item in items:
        for name, one in item.series.items():
            if one.meaning and name not in meanings.setdefault(one.meaning, []):
                meanings[one.meaning].append(name)
    if len(meanings) == 1:
        return f"Lines and bands: {next(iter(meanings))}."
    each = [f"{meaning} ({', '.join(names)})" for meaning, names in meanings.items()]
    return f"Lines and bands: {'; '.join(each)}." if each else ""


def _frame(axes: Axes, item: Panel, size: tuple[float, float]) -> None:
    """The words of a panel, in lines that fit its size in inches, and its grid."""
    width, height = int(0.7 * LETTERS * size[0]), int(0.75 * LETTERS * size[1])
    axes.set_title(_filled(item.title, width), loc="left", fontweight="bold")
    axes.set_xlabel(_filled(item.x_label, width))
    axes.set_ylabel(_filled(item.y_label, height))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)


def _filled(words: str, letters: int) -> str:
    """The words in lines of so many letters; line breaks stay."""
    lines = words.split("\n")
    return "\n".join(textwrap.fill(line, letters, break_on_hyphens=False) for line in lines)


def _limits(axes: Axes, item: Panel) -> None:
    """Logarithmic axes, few x as the ticks, and the floor."""
    if item.log_y:
        axes.set_yscale("log")
    if item.log_x:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        x = np.unique([float(x) for one in item.series.values() for x in one.x])
        if 1 < len(x) <= MOST_TICKS and min(x[1:] / x[:-1]) > 1.5:
            axes.set_xticks(x, labels=[f"{each:g}" for each in x])
            axes.set_xticks([], minor=True)
    if (floor := _floor(item)) is not None and np.any(_heights(item) < floor):
        axes.set_ylim(bottom=floor)


def _curves(axes: Axes, item: Panel, shown: Mapping[str, Look], handles: dict[str, Artist]) -> None:
    """The series with their bands; markers at some of the points."""
    for i, (name, one) in enumerate(item.series.items()):
        x, y, look = np.asarray(one.x, float), _shown(item, one.y), shown[name]
        marked = _marked(item, x, y, i)
        (line,) = axes.plot(x, y, linewidth=1.2, markevery=marked, **look.style())
        handles.setdefault(name, line)
        if one.low is not None and one.high is not None:
            low, high = _shown(item, one.low), _shown(item, one.high)
            axes.fill_between(x, low, high, color=look.colour, alpha=0.15, linewidth=0)


def _marked(item: Panel, x: np.ndarray, y: np.ndarray, place: int) -> list[int]:
    """Five points with markers, evenly over the part of a curve in the picture; of few, all."""
    floor = _floor(item)
    seen = np.isfinite(x) & (y >= (-np.inf if floor is None else floor))
    seen = np.flatnonzero(seen & (x > 0) if item.log_x else seen)
    if seen.size <= FEW:
        return seen.tolist()
    at = np.log(x[seen]) if item.log_x else x[seen]
    if np.any(np.diff(at) < 0):  # a path that turns back, such as gold against KL
        at = np.arange(seen.size)
    spots = (np.arange(5) + 0.2 + 0.2 * (place % 4)) / 5  # those of four curves do not meet
    return seen[np.searchsorted(at, at[0] + spots * (at[-1] - at[0]))].tolist()


def _thin_lines(
    axes: Axes, item: Panel, dashes: Mapping[str, Any], handles: dict[str, Artist]
) -> None:
    """Bounds, guides and levels, each kind in its colour."""
    for name, kind, one in _thin(item):
        look: dict[str, Any] = {"color": THIN[kind], "linestyle": dashes[name], "linewidth": 0.9}
        if isinstance(one, Series):
            line = axes.plot(np.asarray(one.x, float), _shown(item, one.y), **look)[0]
        else:
            line = axes.axhline(one, **look)
        handles.setdefault(name, line)


def _thin(item: Panel) -> Iterator[tuple[str, str, Any]]:
    """(name in the legend, kind, what is drawn) of a panel's bounds, guides and levels."""
    yield from ((f"bound: {name}", "bound", one) for name, one in item.bounds.items())
    yield from ((f"guide: {name}", "guide", one) for name, one in item.guides.items())
    yield from ((name, "level", height) for name, height in item.levels.items())


def _dashes(items: Sequence[Panel]) -> dict[str, Any]:
    """A line style for each bound, guide and level of a figure, different within a kind."""
    names = dict.fromkeys((name, kind) for item in items for name, kind, _ in _thin(item))
    counts = dict.fromkeys(THIN, 0)
    found = {}
    for name, kind in names:
        found[name] = (DASHES if kind != "level" else DASHES[::-1])[counts[kind] % len(DASHES)]
        counts[kind] += 1
    return found


def _heights(item: Panel) -> np.ndarray:
    """Every finite y of a panel's curves and bands, bounds and guides."""
    all_of = [*item.series.values(), *item.bounds.values(), *item.guides.values()]
    parts = [part for one in all_of for part in (one.y, one.low, one.high) if part is not None]
    y = np.concatenate([np.ravel(np.asarray(part, float)) for part in parts] or [np.zeros(0)])
    return y[np.isfinite(y)]


def _floor(item: Panel) -> float | None:
    """The lowest y of the picture; on a logarithmic axis a little below the least above 0."""
    if item.floor is not None or not item.log_y:
        return item.floor
    y = _heights(item)
    return 0.8 * float(y[y > 0].min(initial=1.0))


def _shown(item: Panel, values: object) -> np.ndarray:
    """y values as drawn: what a logarithmic axis has no place for lies beneath the picture."""
    y, floor = np.asarray(values, float), _floor(item)
    if floor is None or not item.log_y:
        return y
    return np.where(np.isnan(y), np.nan, np.maximum(y, BENEATH * floor))
