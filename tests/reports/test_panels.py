"""Panels side by side: one look for each name, one legend, gaps where a logarithm has no value."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_hex

from rlhf_jax.reports.panels import Panel, _look, panels
from rlhf_jax.reports.plots import COLOURS, Series, png_bytes

X = np.arange(1.0, 5.0)


def panel(series, **options):
    return Panel("title", "updates", "gap", series, **options)


def curve(y=None, **band):
    return Series(X, 1 / X if y is None else y, **band)


def test_every_panel_is_drawn_with_its_labels():
    items = [panel({"a": curve()})._replace(title=f"panel {i}") for i in range(3)]
    figure = panels(items)
    assert [axes.get_visible() for axes in figure.axes] == [True, True, True, False]
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == [
        f"panel {i}" for i in range(3)
    ]
    for axes in figure.axes[:3]:
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("updates", "gap")
        np.testing.assert_array_equal(axes.lines[0].get_xdata(), X)
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), 1 / X)
    assert png_bytes(figure).startswith(b"\x89PNG")


def test_the_same_data_give_the_same_bytes():
    assert png_bytes(panels([panel({"a": curve()})])) == png_bytes(panels([panel({"a": curve()})]))


def test_one_panel_takes_one_column():
    figure = panels([panel({"a": curve()})], columns=3)
    assert len(figure.axes) == 1


def test_one_legend_with_every_name_once():
    first = panel(
        {"a": curve(), "b": curve()}, bounds={"theorem": curve()}, levels={"threshold": 0.5}
    )
    second = panel({"b": curve(), "c": curve()}, bounds={"theorem": curve()})
    figure = panels([first, second])
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["a", "b", "theorem", "threshold", "c"]


def test_a_name_looks_the_same_in_every_panel():
    first, second = panel({"a": curve(), "b": curve()}), panel({"b": curve()})
    left, right = panels([first, second]).axes
    assert to_hex(left.lines[0].get_color()) == COLOURS[0].lower()
    assert left.lines[1].get_color() == right.lines[0].get_color() == COLOURS[1]
    assert left.lines[1].get_linestyle() == right.lines[0].get_linestyle()


def test_names_beyond_the_colours_differ_by_line():
    """Forty-nine names, all different, and neighbours by colour as well as by line."""
    looks = [_look(i) for i in range(49)]
    assert len({repr(look) for look in looks}) == 49
    assert looks[0]["color"] == looks[7]["color"]
    assert looks[0]["linestyle"] != looks[7]["linestyle"]
    assert all(a["linestyle"] != b["linestyle"] for a, b in pairwise(looks[:7]))


def test_a_logarithmic_axis_has_gaps_where_there_is_no_logarithm():
    y = np.array([1.0, 0.0, -1.0, np.nan])
    axes = panels([panel({"a": curve(y)}, log_x=True, log_y=True)]).axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [1.0, np.nan, np.nan, np.nan])
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    plain = panels([panel({"a": curve(y)})]).axes[0]
    np.testing.assert_array_equal(plain.lines[0].get_ydata(), y)
    assert (plain.get_xscale(), plain.get_yscale()) == ("linear", "linear")


def test_the_floor_is_the_lowest_that_is_drawn():
    item = panel(
        {"a": curve([1.0, 1e-20, 0.0, np.nan], low=np.zeros(4), high=np.ones(4))},
        bounds={"theorem": curve(X * 1e-12)},
        log_y=True,
        floor=1e-9,
    )
    axes = panels([item]).axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [1.0, 1e-9, 1e-9, np.nan])
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), np.full(4, 1e-9))
    band = np.asarray(axes.collections[0].get_paths()[0].vertices)[:, 1]
    assert (band.min(), band.max()) == (1e-9, 1.0)


def test_bounds_and_levels_lie_over_the_curves():
    item = panel({"a": curve()}, bounds={"theorem": curve(2 / X)}, levels={"threshold": 0.5})
    axes = panels([item]).axes[0]
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), 2 / X)
    np.testing.assert_array_equal(axes.lines[2].get_ydata(), [0.5, 0.5])
    assert axes.lines[1].get_color() not in COLOURS


def test_one_axis_for_all():
    high, low = panel({"a": curve(100 * X)}), panel({"a": curve(X)})
    left, right = panels([high, low], share_y=True).axes
    assert left.get_ylim() == right.get_ylim()
    left, right = panels([high, low]).axes
    assert left.get_ylim() != right.get_ylim()


@pytest.mark.parametrize(("items", "columns"), [([], 2), ([panel({"a": curve()})], 0)])
def test_no_panels_and_no_columns_are_refused(items, columns):
    with pytest.raises(ValueError, match=f"got {len(items)}, {columns}"):
        panels(items, columns=columns)
