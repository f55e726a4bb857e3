"""Costs of labels by hand, as inverses of each other, and against simulated learners."""

import math

import numpy as np
import pytest

from rlhf_jax.exact.sample_costs import (
    binary_entropy,
    cell_labels,
    coverage_labels,
    flip_inflation,
    label_sizes,
    labels_to_reach,
    table_error,
    table_labels,
)
from rlhf_jax.exact.upper_bounds import hoeffding_upper_bound
from rlhf_jax.feedback.populations import total_flip_rate

FOUR = {"contexts": 16, "share": 0.25, "flip_rate": 0.1}


def test_golden_numbers():
    assert binary_entropy(0.5) == 1.0
    assert binary_entropy(0.0) == binary_entropy(1.0) == 0.0
    # -0.1 log2 0.1 - 0.9 log2 0.9 = 0.4689956; of 0.05 0.2863970
    np.testing.assert_allclose(binary_entropy(0.1), 0.4689956, rtol=1e-6)
    # (1 - 0.2863970) / (1 - 0.4689956) = 1.343874 a context, 1.34 S / alpha of the paper's frame
    found = table_labels(contexts=16, share=0.25, error=0.05, flip_rate=0.1)
    np.testing.assert_allclose(found, 1.343874 * 64, rtol=1e-5)
    np.testing.assert_allclose(table_labels(contexts=8, share=1, error=0, flip_rate=0), 8.0)
    # ln 2000 / 0.0002
    np.testing.assert_allclose(cell_labels(error=0.01, delta=0.001), 38004.51, rtol=1e-6)
    # 4 (1/2 + 1/3 + 1/4) / 0.5 with one context unmet, 4 (1 + 1/2 + 1/3 + 1/4) with none
    np.testing.assert_allclose(coverage_labels(contexts=4, share=0.5, error=0.125), 26 / 3)
    np.testing.assert_allclose(coverage_labels(contexts=4, share=1.0), 25 / 3)


def test_flips_multiply_the_labels():
    totals = [total_flip_rate(0.1, attack) for attack in (0.0, 0.1, 0.2, 0.3)]
    found = [flip_inflation(0.1, total=total) for total in totals]
    # (0.8 / 0.64)^2, (0.8 / 0.48)^2, (0.8 / 0.32)^2
    np.testing.assert_allclose(found, [1.0, 1.5625, 2.7777778, 6.25], rtol=1e-6)
    assert flip_inflation(0.1, total=0.5) == math.inf


def test_what_every_label_tells_is_the_limit():
    assert table_labels(contexts=8, share=1.0, error=0.1, flip_rate=0.5) == math.inf
    assert table_labels(contexts=8, share=1.0, error=0.5, flip_rate=0.5) == 0.0
    assert table_labels(contexts=8, share=1.0, error=0.1, flip_rate=0.1, entropy=0.4) == 0.0
    assert table_error(labels=1e9, contexts=8, share=1.0, flip_rate=0.1) == 0.0
    assert table_error(labels=0, contexts=8, share=1.0, flip_rate=0.1) == 0.5


@pytest.mark.parametrize("entropy", [1.0, 0.9])
def test_error_and_labels_are_inverses(entropy):
    for error in (0.01, 0.05, 0.2):
        labels = table_labels(error=error, entropy=entropy, **FOUR)
        np.testing.assert_allclose(table_error(labels=labels, entropy=entropy, **FOUR), error)
    halves = [table_labels(error=0.05, **FOUR | {"share": share}) for share in (0.2, 0.1)]
    np.testing.assert_allclose(halves[1], 2 * halves[0])
    doubled = table_labels(error=0.05, **FOUR | {"contexts": 32})
    np.testing.assert_allclose(doubled, 2 * table_labels(error=0.05, **FOUR))


def test_no_vote_is_better_than_the_bound():
    """The best decision from flipped labels is the vote: its error, over tables, at three sizes."""
    rng, contexts, flips = np.random.default_rng(0), 64, 0.1
    for labels in (32, 128, 256):
        errors = []
        for _ in range(200):
            met = rng.integers(contexts, size=labels)
            votes = np.bincount(met, np.where(rng.random(labels) < flips, -1, 1), contexts)
            errors.append(np.mean(np.where(votes == 0, 0.5, votes < 0)))
        least = table_error(labels=labels, contexts=contexts, share=1.0, flip_rate=flips)
        assert least < np.mean(errors) < least + 0.2


def test_coverage_is_that_of_draws():
    rng, contexts = np.random.default_rng(0), 16
    for error, wanted in ((0.0, 16), (0.125, 12)):
        counts = []
        for _ in range(2000):
            met, labels = set(), 0
            while len(met) < wanted:
                labels += 1
                if rng.random() < 0.5:
                    met.add(int(rng.integers(contexts)))
            counts.append(labels)
        expected = coverage_labels(contexts=contexts, share=0.5, error=error)
        assert abs(np.mean(counts) - expected) < 4 * np.std(counts) / np.sqrt(2000)


def test_a_cell_is_a_bound_turned_around():
    """With n labels of 0 or 1 the Hoeffding bound at delta / 2 is eps above the mean."""
    size = math.ceil(cell_labels(error=0.1, delta=0.1))
    costs = np.zeros(size)
    width = float(hoeffding_upper_bound(costs, delta=0.05, bounds=(0.0, 1.0)))
    assert 0.99 * 0.1 < width <= 0.1


def test_sizes_and_the_first_that_reaches():
    sizes = label_sizes(first=2, most=11, growth=1.3)
    np.testing.assert_array_equal(sizes, [2, 3, 4, 5, 6, 7, 9, 11])
    errors = np.full((4, 8), 0.2)
    errors[0, 3] = 0.05  # later ones are above again: the first counts
    errors[1, 7:] = 0.01
    errors[2, 0] = np.nan
    errors[3] = 0.0
    found = labels_to_reach(sizes, errors, target=0.05)
    np.testing.assert_array_equal(found, [5, 11, math.inf, 2])
    with pytest.raises(ValueError, match=r"errors must be \[\*B, 8\]"):
        labels_to_reach(sizes, errors[:, :3], target=0.05)
    with pytest.raises(ValueError, match="most must be at least first = 5, got 4"):
        label_sizes(first=5, most=4, growth=1.3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: binary_entropy(1.5), r"p must be in \[0, 1\]"),
        (lambda: table_labels(error=0.6, **FOUR), r"error must be in \[0, 1/2\]"),
        (lambda: table_labels(error=0.1, **FOUR | {"share": 0.0}), r"share must be in \(0, 1\]"),
        (lambda: table_labels(error=0.1, **FOUR | {"contexts": 0}), r"contexts must be in \[1, "),
        (lambda: table_labels(error=0.1, **FOUR | {"flip_rate": 0.7}), r"flip_rate must be in \["),
        (lambda: table_labels(error=0.1, entropy=0.0, **FOUR), r"entropy must be in \(0, 1\]"),
        (lambda: table_error(labels=-1, **FOUR), r"labels must be in \[0, inf\)"),
        (lambda: coverage_labels(contexts=4, share=2.0), r"share must be in \(0, 1\]"),
        (lambda: flip_inflation(0.1, total=0.6), r"total must be in \[0, 1/2\]"),
        (lambda: cell_labels(error=0.0, delta=0.1), r"error must be in \(0, 1\]"),
        (lambda: cell_labels(error=0.1, delta=1.0), r"delta must be in \(0, 1\)"),
        (lambda: label_sizes(first=0, most=4, growth=1.3), r"first must be in \[1, inf\)"),
        (lambda: label_sizes(first=1, most=4, growth=1.0), r"growth must be in \(1, 10\]"),
        (lambda: labels_to_reach([1], [0.1], target=-1), r"target must be in \[0, 1\]"),
    ],
)
def test_numbers_out_of_range_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
