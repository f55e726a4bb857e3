"""Figures in one sober style: colours that colour-blind readers can tell apart, drawn off screen.

Every function returns a matplotlib Figure and touches no global state; the same data give the same
bytes. Series are also told apart by line style or marker, never by colour alone.
"""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's palette, without its yellow, which is too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
INK, PALE = "#222222", "#d9d9d9"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#888888",
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "rlhf_jax",
}


class Series(NamedTuple):
    """One curve: x and y [N], and the edges of its band [N] if it has one."""

    x: Any
    y: Any
    low: Any = None
    high: Any = None


def curves(
    series: Mapping[str, Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_y: bool = False,
    lines: Mapping[str, float | int] | None = None,
) -> Figure:
    """Curves with bands.

    Args:
      series: name -> Series. None and NaN leave gaps.
      title: what is seen.
      x_label: with its unit.
      y_label: with its unit.
      log_y: logarithmic y axis.
      lines: label -> height of a thin horizontal line, for baselines and thresholds.
    """
    figure, axes = _new(title, x_label, y_label)
    for i, (name, one) in enumerate(series.items()):
        x, y = _floats(one.x), _floats(one.y)
        look = {"color": _pick(COLOURS, i), "linestyle": _pick(LINES, i)}
        axes.plot(x, y, label=name, linewidth=1.6, **look)
        if one.low is not None and one.high is not None:
            low, high = _floats(one.low), _floats(one.high)
            axes.fill_between(x, low, high, color=look["color"], alpha=0.16, linewidth=0)
    for label, height in (lines or {}).items():
        axes.axhline(height, color="#777777", linewidth=1, linestyle=(0, (2, 2)), label=label)
    if log_y:
        axes.set_yscale("log")
    _legend(axes)
    return figure


def frontier(
    series: Mapping[str, Series],
    *,
    title: str,
    x_label: str = "KL to the reference (nats per answer)",
    y_label: str = "gold score",
) -> Figure:
    """Gold score against KL: each method's path through training, its last point ringed.

    Args:
      series: method -> Series of KL (x) and gold score (y) in the order of training; low and high
        are the ends of y's interval.
      title: what is seen.
      x_label: with its unit.
      y_label: with its unit.
    """
    figure, axes = _new(title, x_label, y_label)
    for i, (name, one) in enumerate(series.items()):
        x, y = _floats(one.x), _floats(one.y)
        colour, marker = _pick(COLOURS, i), _pick(MARKERS, i)
        axes.plot(x, y, label=name, color=colour, marker=marker, markersize=4.5, linewidth=1.1)
        axes.plot(x[-1:], y[-1:], color=colour, marker=marker, markersize=9, fillstyle="none")
        if one.low is not None and one.high is not None:
            axes.vlines(
                x, _floats(one.low), _floats(one.high), color=colour, alpha=0.5, linewidth=1
            )
    _legend(axes)
    return figure


def reliability(
    predicted: Any,
    observed: Any,
    counts: Any,
    *,
    title: str,
    x_label: str = "predicted probability",
    y_label: str = "observed frequency",
) -> Figure:
    """Calibration: observed frequency against predicted probability, one dot for each bin.

    Args:
      predicted: [N] mean prediction of each bin, in [0, 1].
      observed: [N] frequency in it; NaN where the bin is empty.
      counts: [N] examples in it; the area of its dot.
      title: what is seen.
      x_label: of the predictions.
      y_label: of the frequencies.
    """
    figure, axes = _new(title, x_label, y_label, size=(5.2, 4.8))
    x, y, n = _floats(predicted), _floats(observed), _floats(counts)
    axes.plot((0, 1), (0, 1), color="#777777", linewidth=1, linestyle=(0, (2, 2)), label="perfect")
    axes.plot(x, y, color=COLOURS[0], linewidth=1.1)
    axes.scatter(x, y, s=16 + 220 * n / max(n.max(initial=0), 1), color=COLOURS[0], alpha=0.75)
    for at, height, count in zip(x, y, n, strict=True):
        if np.isfinite(height) and count:
            axes.annotate(
                f"{int(count)}",
                (at, height),
                xytext=(9, -11),
                textcoords="offset points",
                fontsize=8,
                color="#555555",
            )
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    _legend(axes)
    return figure


def heat_map(
    values: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    x_label: str = "",
    y_label: str = "",
    low: float | int | None = None,
    high: float | int | None = None,
) -> Figure:
    """A matrix as colours with its numbers written in.

    Args:
      values: [R, C].
      rows: R names.
      columns: C names.
      title: what is seen.
      x_label: of the columns.
      y_label: of the rows.
      low: value of the palest colour; the smallest one if None.
      high: value of the darkest colour; the largest one if None.
    """
    matrix = _floats(values)
    size = (2.4 + 0.75 * matrix.shape[1], 1.7 + 0.45 * matrix.shape[0])
    figure, axes = _new(title, x_label, y_label, size=size)
    axes.grid(visible=False)
    image = axes.imshow(matrix, cmap="Blues", vmin=low, vmax=high, aspect="auto")
    palest, darkest = image.get_clim()
    middle = palest + 0.55 * (darkest - palest)
    tilted = any(len(name) > 8 for name in columns)
    axes.set_xticks(
        range(len(columns)),
        columns,
        rotation=30 if tilted else 0,
        ha="right" if tilted else "center",
    )
    axes.set_yticks(range(len(rows)), rows)
    for (row, column), value in np.ndenumerate(matrix):
        dark = np.isfinite(value) and value > middle
        axes.text(
            column,
            row,
            f"{value:.2f}",
            ha="center",
            va="center",
            fontsize=8.5,
            color="white" if dark else INK,
        )
    return figure


def png_bytes(figure: Figure) -> bytes:
    """The figure as a PNG without a date or a program's name in it."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        FigureCanvasAgg(figure)
        figure.savefig(
            buffer, format="png", dpi=144, bbox_inches="tight", metadata={"Software": None}
        )
    return buffer.getvalue()


def save_figure(figure: Figure, path: Path) -> Path:
    """Writes the figure as PNG, making the folder if there is none, and returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(figure))
    return path


def _new(
    title: str, x_label: str, y_label: str, size: tuple[float | int, float | int] = (6.6, 3.9)
) -> tuple[Figure, Axes]:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        axes.set_title(title, loc="left", fontweight="bold", pad=10)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, color=PALE, linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, axes


def _legend(axes: Axes) -> None:
    """Under the plot, so that it never hides a curve; at most four names in a row."""
    handles, names = axes.get_legend_handles_labels()
    if not names:
        return
    columns = math.ceil(len(names) / math.ceil(len(names) / 4))
    axes.figure.legend(
        handles, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=9
    )


def _floats(values: Any) -> np.ndarray:
    """[N] or [R, C] float64; None becomes NaN."""
    return np.asarray(values, dtype=np.float64)


def _pick(choices: Sequence[Any], i: int) -> Any:
    return choices[i % len(choices)]
