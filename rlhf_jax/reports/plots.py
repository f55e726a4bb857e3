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

from rlhf_jax.reports.looks import COLOURS, looks

INK, PALE = "#222222", "#d9d9d9"
DOTS = 216  # an inch of a PNG
WIDTH = 7.2  # inches, of a printed page between its margins
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "lines.markersize": 3.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#888888",
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "rlhf_jax",
}


class Series(NamedTuple):
    """One curve: x and y [N], the edges of its band [N] if it has one, and what the band means."""

    x: Any
    y: Any
    low: Any = None
    high: Any = None
    meaning: str = ""


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
    shown = looks(list(series))
    for name, one in series.items():
        x, y, (colour, line, marker) = _floats(one.x), _floats(one.y), shown[name]
        given: dict[str, Any] = {"color": colour, "marker": marker or "."}
        axes.plot(x, y, label=name, linestyle=line, markersize=4, linewidth=1.1, **given)
        axes.plot(x[-1:], y[-1:], markersize=8, fillstyle="none", **given)
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
    figure, axes = _new(title, x_label, y_label, size=(4.0, 3.9))
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
                fontsize=7,
                color="#555555",
            )
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    _legend(axes)
    return figure


def pair_reliability(bins: Any, total: int, *, title: str) -> Figure:
    """`reliability` of pairs: confidence in the favourite against how often it was preferred.

    Args:
      bins: [K, 3] of `ops.statistics.calibration_error`.
      total: pairs.
      title: what is seen.
    """
    bins = _floats(bins)
    confidence, won, share = bins[bins[:, 2] > 0].T
    figure = reliability(
        confidence,
        won,
        np.round(share * total),
        title=title,
        x_label="probability given to the favourite",
        y_label="share of pairs in which it was preferred",
    )
    lowest = min(0.4, float(won.min()) - 0.05)
    figure.axes[0].set(xlim=(0.48, 1.02), ylim=(lowest, 1.02), aspect="auto")
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
    unit: str = "",
) -> Figure:
    """A matrix as colours with its numbers written in, and a colour bar.

    Args:
      values: [R, C].
      rows: R names.
      columns: C names.
      title: what is seen.
      x_label: of the columns.
      y_label: of the rows.
      low: value of the palest colour; the smallest one if None.
      high: value of the darkest colour; the largest one if None.
      unit: of the values, beside the colour bar.
    """
    matrix = _floats(values)
    size = (min(2.6 + 0.6 * matrix.shape[1], WIDTH), 1.2 + 0.32 * matrix.shape[0])
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
    beyond = np.nanmin(matrix) < palest, np.nanmax(matrix) > darkest
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(beyond)
    with matplotlib.rc_context(STYLE):
        figure.colorbar(image, ax=axes, label=unit, pad=0.02, extend=extend or "neither")
    for (row, column), value in np.ndenumerate(matrix):
        dark = np.isfinite(value) and value > middle
        axes.text(
            column,
            row,
            f"{value:.2f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if dark else INK,
        )
    return figure


def png_bytes(figure: Figure) -> bytes:
    """The figure as a PNG of 216 dots an inch, without a date or a program's name in it."""
    return _bytes(figure, format="png", dpi=DOTS, metadata={"Software": None})


def svg_bytes(figure: Figure) -> bytes:
    """The figure as an SVG, with its letters as shapes, without a date in it."""
    return _bytes(figure, format="svg", metadata={"Date": None, "Creator": None})


def save_figure(figure: Figure, path: Path) -> Path:
    """Writes the figure as PNG and, beside it, as SVG; makes the folder if there is none.

    Args:
      path: of the PNG, which is returned.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(figure))
    path.with_suffix(".svg").write_bytes(svg_bytes(figure))
    return path


def _bytes(figure: Figure, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        FigureCanvasAgg(figure)
        figure.savefig(buffer, bbox_inches="tight", **options)
    return buffer.getvalue()


def _new(
    title: str, x_label: str, y_label: str, size: tuple[float | int, float | int] = (5.0, 3.1)
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
    axes.figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False)


def _floats(values: Any) -> np.ndarray:
    """[N] or [R, C] float64; None becomes NaN."""
    return np.asarray(values, dtype=np.float64)
