"""Bands: seeds first, and words that agree with what is drawn."""

import numpy as np
import pytest

from rlhf_jax.reports.bands import band

X = [1, 10]
# Two x, eleven seeds: 0, 1, .., 10 and ten times as much.
RUNS = np.arange(11.0)[:, None] * np.array([1.0, 10.0])
# s^2 of 0..10 is 11, t(0.975, 10) = 2.2281: half = 2.2281 sqrt(11 / 11) = 2.2281.
EDGES = {
    ("median", "range"): (5.0, 0.0, 10.0),
    ("median", "deciles"): (5.0, 1.0, 9.0),
    ("mean", "quartiles"): (5.0, 2.5, 7.5),
    ("mean", "t"): (5.0, 2.7719, 7.2281),
}
WORDS = {
    ("median", "range"): "median and range over 11 games",
    ("median", "deciles"): "median and middle 80% over 11 games",
    ("mean", "quartiles"): "mean and middle half over 11 games",
    ("mean", "t"): "mean and its 95% interval (Student's t) over 11 games",
}


@pytest.mark.parametrize("kind", EDGES)
def test_the_edges_and_their_words(kind):
    centre, spread = kind
    one = band(X, RUNS, centre=centre, spread=spread, units="games")
    for found, edge in zip((one.y, one.low, one.high), EDGES[kind], strict=True):
        np.testing.assert_allclose(found, [edge, 10 * edge], rtol=1e-4)
    assert one.meaning == WORDS[kind]


def test_a_median_is_no_mean():
    runs = [[0.0], [0.0], [9.0]]
    assert band([1], runs).y == [0.0]
    assert band([1], runs, centre="mean").y == [3.0]


def test_one_run_has_no_band():
    one = band(X, RUNS[:1])
    assert (one.low, one.high, one.meaning) == (None, None, "")


@pytest.mark.parametrize("runs", [RUNS.T, RUNS[0], RUNS[:0]])
def test_seeds_come_first(runs):
    with pytest.raises(ValueError, match=r"runs must be \[seeds, 2\]"):
        band(X, runs)


def test_a_median_has_no_t_interval():
    with pytest.raises(ValueError, match="that of a mean, got centre='median'"):
        band(X, RUNS, spread="t")
