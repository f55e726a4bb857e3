"""Panels side by side: one look for each name, one legend, gaps where a logarithm has no value."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from rlhf_jax.reports.bands import band
from rlhf_jax.reports.looks import COLOURS
from rlhf_jax.reports.panels import Panel, _dashes, band_words, panels
from rlhf_jax.reports.plots import Series, png_bytes

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
    assert [axes.get_ylabel() for axes in figure.axes[:3]] == ["gap", "", "gap"]  # once in a row
    for axes in figure.axes[:3]:
        assert axes.get_xlabel() == "updates"
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
    assert names == ["a", "b", "c", "bound: theorem", "threshold"]


def test_a_name_looks_the_same_in_every_panel():
    first, second = panel({"a": curve(), "b": curve()}), panel({"b": curve()})
    left, right = panels([first, second]).axes
    assert to_hex(left.lines[0].get_color()) == COLOURS[0].lower()
    assert left.lines[1].get_color() == right.lines[0].get_color() == COLOURS[1]
    assert left.lines[1].get_linestyle() == right.lines[0].get_linestyle()


def test_a_curve_leaves_the_picture_where_a_logarithm_has_no_value():
    y = np.array([1.0, 0.5, 0.0, np.nan])
    axes = panels([panel({"a": curve(y)}, log_x=True, log_y=True)]).axes[0]
    drawn = np.asarray(axes.lines[0].get_ydata())
    np.testing.assert_array_equal(drawn[:2], y[:2])
    assert drawn[2] < axes.get_ylim()[0] == pytest.approx(0.4)  # 0.8 times the least above 0
    assert np.isnan(drawn[3])
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    plain = panels([panel({"a": curve(y)})]).axes[0]
    np.testing.assert_array_equal(plain.lines[0].get_ydata(), y)
    assert (plain.get_xscale(), plain.get_yscale()) == ("linear", "linear")


@pytest.mark.parametrize("log_y", [False, True])
def test_a_curve_ends_where_it_goes_below_the_floor(log_y):
    item = panel(
        {"a": curve([1.0, 1e-20, 0.0, np.nan], low=np.zeros(4), high=np.ones(4))},
        bounds={"theorem": curve(X * 1e-12)},
        log_y=log_y,
        floor=1e-9,
    )
    axes = panels([item]).axes[0]
    assert axes.get_ylim()[0] == 1e-9
    assert (np.asarray(axes.lines[0].get_ydata())[1:3] < 1e-9).all()
    assert (np.asarray(axes.lines[1].get_ydata()) < 1e-9).all()
    edges = np.asarray(axes.collections[0].get_paths()[0].vertices)[:, 1]
    assert edges.min() < 1e-9
    assert edges.max() == 1.0


def test_a_floor_below_all_curves_changes_nothing():
    low, without = (panels([panel({"a": curve()}, floor=f)]).axes[0] for f in (0.0, None))
    assert low.get_ylim() == without.get_ylim()


def test_the_words_of_bands():
    runs = np.ones((3, 4))
    one, other = band(X, runs), band(X, runs, centre="mean", units="games")
    assert band_words([panel({"a": one}), panel({"b": one, "c": curve()})]) == (
        "Lines and bands: median and range over 3 seeds."
    )
    assert band_words([panel({"a": one, "b": other, "d": one})]) == (
        "Lines and bands: median and range over 3 seeds (a, d); mean and range over 3 games (b)."
    )
    assert band_words([panel({"a": curve()})]) == ""


def test_bounds_guides_and_levels_lie_over_the_curves():
    thin = {"bounds": {"T": curve(2 / X)}, "guides": {"fit": curve(X)}, "levels": {"half": 0.5}}
    figure = panels([panel({"a": curve()}, **thin)])
    bound, guide, level = figure.axes[0].lines[1:]
    np.testing.assert_array_equal(bound.get_ydata(), 2 / X)
    np.testing.assert_array_equal(guide.get_ydata(), X)
    np.testing.assert_array_equal(level.get_ydata(), [0.5, 0.5])
    assert len({bound.get_color(), guide.get_color(), level.get_color(), *COLOURS}) == 10
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["a", "bound: T", "guide: fit", "half"]


def test_two_levels_differ():
    levels = {"optimal": 1.0, "uniform": 0.0}
    first, second = _dashes([panel({"a": curve()}, levels=levels)]).values()
    assert first != second


def test_a_figure_is_as_wide_as_a_page():
    items = [panel({"a": curve()})] * 3
    widths = [panels(items, columns=columns).get_figwidth() for columns in (1, 2, 3)]
    np.testing.assert_allclose(widths, [4.8, 7.2, 7.2])


def test_a_path_that_turns_back_is_marked_along_its_points():
    x = np.concatenate([np.linspace(0.0, 1.0, 11), np.linspace(0.9, 0.3, 10)])
    line = panels([panel({"a": Series(x, np.arange(21.0))})]).axes[0].lines[0]
    assert line.get_markevery() == [1, 5, 9, 13, 17]


def test_one_axis_for_all():
    high, low = panel({"a": curve(100 * X)}), panel({"a": curve(X)})
    left, right = panels([high, low], share_y=True).axes
    assert left.get_ylim() == right.get_ylim()
    left, right = panels([high, low]).axes
    assert left.get_ylim() != right.get_ylim()


@pytest.mark.parametrize(
    ("items", "columns"),
    [([], 2), ([panel({"a": curve()})], 0), ([panel({"a": curve()})] * 4, 4)],
)
def test_no_panels_and_too_many_columns_are_refused(items, columns):
    with pytest.raises(ValueError, match=f"got {len(items)} in {columns}"):
        panels(items, columns=columns)
